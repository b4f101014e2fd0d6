"""Calls of the openai SDK that several tests make, and what they answer."""

from __future__ import annotations

from typing import Any

from first_words import CHAT_MESSAGES, RESPONSES_INPUT

import tersely

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": CHAT_MESSAGES, "temperature": 0.5}
RESPONSE: dict[str, Any] = {"model": "gpt-4o", "input": RESPONSES_INPUT, "temperature": 0.5}


def ask(client: Any, **asked: Any) -> None:
    """One chat call, with such wishes for it."""
    extra = {"extra_body": {"tersely": asked}} if asked else {}
    client.chat.completions.create(**CHAT, **extra)


def mode() -> str:
    """The mode that the latest report tells."""
    report = tersely.last_report()
    assert report is not None
    return report.mode


def parsing(client: Any, name: str) -> Any:
    """`parse` and `stream` of chat lay under `beta` at first."""
    return getattr(client.chat.completions, name, None) or getattr(
        client.beta.chat.completions, name
    )


def text_of(completion: Any) -> Any:
    return completion.choices[0].message.content


def text_of_chunks(chunks: Any) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
