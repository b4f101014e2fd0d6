"""Reads requests in OpenAI's Responses format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tersely.middleware.leaves import (
    Found,
    Place,
    closed,
    compact,
    content,
    field,
    items,
    message,
)
from tersely.middleware.purpose import prompt_of
from tersely.prompt import Prompt

EARLIER = ("previous_response_id", "conversation")
"""Fields that refer to a conversation which the provider holds."""

CALLS = {"function_call": "arguments", "mcp_call": "arguments", "custom_tool_call": "input"}
RESULTS = frozenset(("function_call_output", "custom_tool_call_output"))


@dataclass(frozen=True, slots=True)
class ResponsesAdapter:
    """A request body with `input`, a text or a list of items, and perhaps `instructions`."""

    name: str = "openai-responses"

    def matches(self, request: Any, /) -> bool:
        if not isinstance(request, Mapping) or "messages" in request or "context" in request:
            return False
        return isinstance(request.get("input"), str | list | tuple) or EARLIER[0] in request

    def read(self, request: Any, /) -> Prompt:
        for name in EARLIER:
            if field(request, name) is not None:
                return Prompt((), why=f"`{name}` is set: the provider holds the earlier turns")
        given = field(request, "input")
        tools = compact(field(request, "tools"), field(field(request, "text"), "format"))
        turns = len(given) if isinstance(given, list | tuple) else 1
        has_orders = bool(field(request, "instructions"))
        return prompt_of(_texts(request), tools=tools, turns=turns + has_orders)


def _texts(request: Any) -> Iterator[Found]:
    orders = Place(path=("instructions",), role="system")
    yield from content(field(request, "instructions"), orders)
    given = field(request, "input")
    if isinstance(given, str):
        yield from content(given, Place(path=("input",)))
    for turn, item in items(given):
        yield from _item(item, Place(path=("input", turn), turn=turn))


def _item(item: Any, place: Place) -> Iterator[Found]:
    """The texts of one item. Of a type that is not named here, nothing is read."""
    kind = field(item, "type")
    if kind == "message" or (kind is None and field(item, "role") is not None):
        yield from message(item, place)
    elif isinstance(kind, str) and kind in CALLS:
        name = CALLS[kind]
        place = replace(place, role="assistant", lock="the arguments of a call")
        yield from content(field(item, name), place.at(name))
    elif isinstance(kind, str) and kind in RESULTS:
        place = closed(item, replace(place, role="tool"))
        yield from content(field(item, "output"), place.at("output"))


RESPONSES = ResponsesAdapter()
