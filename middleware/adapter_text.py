"""Reads a text, a list of texts, and texts with a question beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tersely.middleware.drop import understood
from tersely.middleware.leaves import Found, Place, content, field, items
from tersely.middleware.purpose import prompt_of
from tersely.prompt import Kind, Prompt

MATERIAL: dict[str, Kind] = {
    "context": "context",
    "demonstrations": "example",
    "examples": "example",
}
"""What a mapping may hold: a text, a list of texts or a list of LangChain documents."""

BESIDE: dict[str, Kind] = {
    "instruction": "instruction",
    "question": "question",
    "query": "question",
    "input": "question",
}
"""What may stand beside it; it changes only where a stage takes these kinds."""


@dataclass(frozen=True, slots=True)
class TextAdapter:
    """Texts without roles: a string, a list of them, or `{"context": ..., "question": ...}`.

    What is not named as something else is context. A mapping may also hold `examples` and an
    `instruction`.
    """

    name: str = "text"

    def matches(self, request: Any, /) -> bool:
        if isinstance(request, Mapping):
            return any(_is_context(request.get(name)) for name in MATERIAL)
        return isinstance(request, str) or (_is_context(request) and _are_texts(request))

    def read(self, request: Any, /) -> Prompt:
        if not isinstance(request, Mapping):
            return prompt_of(_context(request, Place(kind="context")))
        named = (request[name] for name in request if BESIDE.get(name) == "question")
        question = next((text for text in named if isinstance(text, str)), "")
        return replace(prompt_of(_texts(request)), question=understood(question))


def _texts(request: Mapping[str, Any]) -> Iterator[Found]:
    for name, value in request.items():
        if name in MATERIAL:
            yield from _context(value, Place(path=(name,), kind=MATERIAL[name]))
        elif isinstance(value, str) and name in BESIDE:
            yield from content(value, Place(path=(name,), kind=BESIDE[name]))


def _context(value: Any, place: Place) -> Iterator[Found]:
    yield from content(value, place)
    for i, document in items(value):
        yield from content(field(document, "page_content"), place.at(i, "page_content"))


def _are_texts(values: Any) -> bool:
    return all(isinstance(one, str) for one in values)


def _is_context(value: Any) -> bool:
    return isinstance(value, str) or any(
        isinstance(one, str) or isinstance(field(one, "page_content"), str)
        for _, one in items(value)
    )


TEXT = TextAdapter()
