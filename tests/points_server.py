"""A provider on this machine that writes skeletons and points, and knows what it billed.

It speaks OpenAI's chat completions and Anthropic's messages, whole and streamed. A text is a word
a token, and the first `SHARED` words of a prompt that it has read before are cached.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from little_sot import ALONE, LINES, PURPOSE, SKELETON, text_of
from script_server import Handler, Server, serving

import tersely

JSON = dict[str, Any]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
FORM = {"type": "json_object"}
QUESTION = "What are the benefits of sleep?"
PLAIN = "A plain answer. It has two sentences."
JOINED = "\n\n".join(f"{i}. {line}: {text_of(str(i))}" for i, line in enumerate(LINES, 1))
SHARED = 5


@dataclass
class Provider:
    """What the server says to each purpose (see `little_sot.purpose`), and what it billed.

    A status instead of a text refuses. `silent` servers tell no usage.
    """

    server: Server
    texts: dict[str, str | int] = field(default_factory=dict)
    billed: list[JSON] = field(default_factory=list)
    purposes: list[str] = field(default_factory=list)
    silent: bool = False

    def __call__(self, handler: Handler, body: Any) -> None:
        asked = _purpose(body)
        self.purposes.append(asked)
        usual = {"skeleton": SKELETON, "plain": PLAIN}
        text = self.texts.get(asked, usual.get(asked, text_of(asked)))
        if isinstance(text, int):
            error = {"message": f"no {asked}", "type": "invalid_request_error", "code": None}
            handler.answer(text, {"type": "error", "error": error})
            return
        usage = {"prompt": len(_said(body).split()), "cached": SHARED, "made": len(text.split())}
        self.billed.append(usage)
        speak = _messages if "/messages" in handler.path else _chat
        whole, events = speak(body, text, usage)
        if self.silent:
            whole.pop("usage")
            events = [one for one in events if b'"usage"' not in one]
        if body.get("stream"):
            handler.events(events)
        else:
            handler.answer(200, whole)

    @property
    def sums(self) -> tuple[int, int, int]:
        """Tokens read, those of them cached, and tokens made, of all calls."""
        prompt, cached, made = (sum(one[k] for one in self.billed) for k in self.billed[0])
        return prompt, cached, made


def _said(body: Any) -> str:
    return " ".join(
        part if isinstance(part, str) else part["text"]
        for message in body["messages"]
        for part in (
            [message["content"]] if isinstance(message["content"], str) else message["content"]
        )
    )


def _purpose(body: Any) -> str:
    text = _said(body)
    if found := PURPOSE.search(text):
        return found[1]
    if ALONE in text:
        return "alone"
    return "skeleton" if "Now the points." in text else "plain"


def _pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*$|\s*\S+", text)


def _chat(body: JSON, text: str, usage: Mapping[str, int]) -> tuple[JSON, list[bytes]]:
    head = {"id": "chat_1", "created": 1, "model": "gpt-4o-2024"}
    told = {
        "prompt_tokens": usage["prompt"],
        "completion_tokens": usage["made"],
        "total_tokens": usage["prompt"] + usage["made"],
        "prompt_tokens_details": {"cached_tokens": usage["cached"]},
    }
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    whole = {**head, "object": "chat.completion", "choices": [choice], "usage": told}
    head["object"] = "chat.completion.chunk"

    def event(delta: JSON, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event({**head, "choices": [choice]})

    events = [event({"role": "assistant", "content": ""})]
    events += [event({"content": piece}) for piece in _pieces(text)]
    events.append(event({}, "stop"))
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append(_event({**head, "choices": [], "usage": told}))
    return whole, [*events, b"data: [DONE]\n\n"]


def _messages(body: JSON, text: str, usage: Mapping[str, int]) -> tuple[JSON, list[bytes]]:
    read = {
        "input_tokens": usage["prompt"] - usage["cached"],
        "cache_read_input_tokens": usage["cached"],
        "cache_creation_input_tokens": 0,
    }
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1"}
    head |= {"stop_sequence": None}
    block = {"type": "text", "text": text}
    told = read | {"output_tokens": usage["made"]}
    whole = {**head, "content": [block], "stop_reason": "end_turn", "usage": told}
    begun = {**head, "content": [], "stop_reason": None, "usage": read | {"output_tokens": 1}}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    parts: list[JSON] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": piece},
            }
            for piece in _pieces(text)
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": told},
        {"type": "message_stop"},
    ]
    return whole, [_event(part, part["type"]) for part in parts]


def _event(part: JSON, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(part)}\n\n".encode()


@contextmanager
def providing() -> Iterator[Provider]:
    """A provider that answers through a server."""
    with serving() as server:
        provider = Provider(server)
        server.play = provider
        yield provider


def why() -> str:
    """Why the latest answer is plain."""
    account = tersely.sot.last_account()
    assert account is not None
    assert account.route == "plain"
    return account.notes[-1]
