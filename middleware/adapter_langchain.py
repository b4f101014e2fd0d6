"""Reads LangChain's messages, prompt values and documents, without importing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tersely.middleware.leaves import Found, Place, content, field, items, message, messages
from tersely.middleware.purpose import prompt_of
from tersely.prompt import Path, Prompt


@dataclass(frozen=True, slots=True)
class LangChainAdapter:
    """Messages, a prompt value, documents, one of either, or a state with `messages`."""

    name: str = "langchain"

    def matches(self, request: Any, /) -> bool:
        if isinstance(request, Mapping):
            return _are(field(request, "messages"), "BaseMessage")
        if isinstance(request, list | tuple):
            return _are(request, "BaseMessage") or _are(request, "Document")
        return any(_is(request, name) for name in ("BaseMessage", "PromptValue", "Document"))

    def read(self, request: Any, /) -> Prompt:
        if _is(request, "BaseMessage"):
            return prompt_of(message(request, Place()), turns=1)
        if _is(request, "Document"):
            return prompt_of(_document(request, ()))
        if _are(request, "Document"):
            return prompt_of(one for i, item in items(request) for one in _document(item, (i,)))
        if _is(request, "PromptValue") and field(request, "messages") is None:
            return prompt_of(content(field(request, "text"), Place(path=("text",))), turns=1)
        if isinstance(request, list | tuple):
            return prompt_of(messages(request), turns=len(request))
        said = field(request, "messages")
        return prompt_of(messages(said, ("messages",)), turns=len(said))


def _document(document: Any, path: Path) -> Iterator[Found]:
    place = Place(path=(*path, "page_content"), kind="context")
    return content(field(document, "page_content"), place)


def _are(values: Any, name: str) -> bool:
    return isinstance(values, list | tuple) and any(_is(value, name) for value in values)


def _is(value: Any, name: str) -> bool:
    """Whether a value is of LangChain's class of that name or of one below it."""
    return any(
        base.__name__ == name and base.__module__.startswith("langchain_core.")
        for base in type(value).__mro__
    )


LANGCHAIN = LangChainAdapter()
