"""What a tool gave, compressed when it comes and left as it is ever after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tersely.middleware.adapter_langchain import LANGCHAIN
from tersely.prompt import Prompt

KEY = "tersely"
"""Where a message's `response_metadata` tells what became of it; no model is shown these."""

SETTLED = "it was compressed when it came"


@dataclass(frozen=True, slots=True)
class SettledAdapter:
    """Reads LangChain messages; those that were compressed when they came are closed."""

    name: str = "langchain"

    def matches(self, request: Any, /) -> bool:
        return LANGCHAIN.matches(request)

    def read(self, request: Any, /) -> Prompt:
        read = LANGCHAIN.read(request)
        return read.with_segments(
            {
                i: replace(one, locked=True, reason=SETTLED)
                for i, one in enumerate(read.segments)
                if not one.locked and account_of(request[one.turn])
            }
        )


SETTLED_READER = SettledAdapter()


def account_of(message: Any) -> Mapping[str, Any]:
    """What was told of a message when it was compressed; empty when it was not."""
    told = message.response_metadata.get(KEY)
    return told if isinstance(told, Mapping) else {}


def settled(message: Any, **told: Any) -> Any:
    """A copy of a message that is not to be compressed again, with an account of what was done."""
    return message.model_copy(
        update={"response_metadata": {**message.response_metadata, KEY: told}}
    )


def scopes_of(messages: Any) -> list[str]:
    """Under which names something is kept of the results among some messages."""
    named = (account_of(one).get("scope") for one in messages if hasattr(one, "response_metadata"))
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def question_of(messages: Any) -> str:
    """What the last message of a person asks; empty when there is none."""
    said = [one for one in messages if getattr(one, "type", "") == "human"]
    return LANGCHAIN.read(said[-1:]).question if said else ""
