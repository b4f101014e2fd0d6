"""Reads requests in OpenAI's Chat Completions format, and bare lists of such messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tersely.middleware.leaves import compact, field, messages
from tersely.middleware.purpose import prompt_of
from tersely.prompt import Prompt


@dataclass(frozen=True, slots=True)
class ChatAdapter:
    """A request body with `messages`, or the messages alone."""

    name: str = "openai-chat"

    def matches(self, request: Any, /) -> bool:
        if isinstance(request, Mapping):
            return "messages" in request
        return isinstance(request, list | tuple) and any(
            isinstance(field(message, "role"), str) for message in request
        )

    def read(self, request: Any, /) -> Prompt:
        if isinstance(request, list | tuple):
            return prompt_of(messages(request), turns=len(request))
        said = field(request, "messages")
        if not isinstance(said, list | tuple):
            return Prompt((), why=f"`messages` is no list but {type(said).__name__}")
        tools = compact(
            field(request, "tools"), field(request, "functions"), field(request, "response_format")
        )
        return prompt_of(messages(said, ("messages",)), tools=tools, turns=len(said))


CHAT = ChatAdapter()
