"""Reads requests in Anthropic's Messages format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tersely.middleware.leaves import Found, Place, compact, content, field, items, messages
from tersely.middleware.purpose import prompt_of
from tersely.prompt import Prompt

OPENAI_ROLES = frozenset(("system", "developer", "tool", "function"))

BLOCKS = frozenset(
    ("tool_use", "tool_result", "document", "thinking", "redacted_thinking", "search_result")
)
"""Block types that Anthropic's format has and OpenAI's has not."""


@dataclass(frozen=True, slots=True)
class AnthropicAdapter:
    """A request body with `messages` and perhaps `system`, or the messages alone.

    Told from OpenAI's by a top-level `system`, else by a block of a type that only this format
    has, else by a model whose name begins with `claude` unless a message has a role or calls
    that only OpenAI's has.
    """

    name: str = "anthropic"

    def matches(self, request: Any, /) -> bool:
        if not isinstance(request, Mapping):
            return isinstance(request, list | tuple) and _has_own_blocks(request)
        if "messages" not in request:
            return False
        said = request["messages"]
        if "system" in request or _has_own_blocks(said):
            return True
        model = request.get("model")
        is_claude = isinstance(model, str) and model.startswith("claude")
        return is_claude and not any(_is_openai(message) for _, message in items(said))

    def read(self, request: Any, /) -> Prompt:
        if isinstance(request, list | tuple):
            return prompt_of(messages(request), turns=len(request))
        said = field(request, "messages")
        if not isinstance(said, list | tuple):
            return Prompt((), why=f"`messages` is no list but {type(said).__name__}")
        tools = compact(
            *(field(request, name) for name in ("tools", "output_format", "output_config"))
        )
        return prompt_of(
            _texts(request), tools=tools, turns=len(said) + bool(request.get("system"))
        )


def _texts(request: Any) -> Iterator[Found]:
    yield from content(field(request, "system"), Place(path=("system",), role="system"))
    yield from messages(field(request, "messages"), ("messages",))


def _has_own_blocks(said: Any) -> bool:
    return any(
        field(block, "type") in BLOCKS
        for _, message in items(said)
        for block in _blocks(field(message, "content"))
        if isinstance(field(block, "type"), str)
    )


def _blocks(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()


def _is_openai(message: Any) -> bool:
    role = field(message, "role")
    return (isinstance(role, str) and role in OPENAI_ROLES) or bool(field(message, "tool_calls"))


ANTHROPIC = AnthropicAdapter()
