"""List the texts of a request's messages, and tell what each is for.

Adapters walk through the part of a request that is theirs and find texts here. What is not known
by its type is not listed, and so never changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from pydantic import BaseModel

from tersely.prompt import Kind, Path, Role

BREAKPOINT = "it carries a cache breakpoint"

BREAKPOINTS = ("cache_control", "prompt_cache_breakpoint")
"""Fields by which a caller marks the end of what a provider shall cache."""

EXAMPLES = ("example_user", "example_assistant")
"""Names by which OpenAI's cookbook marks the turns of a demonstration."""

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a text is found. `kind` None: to be told from the text and its neighbours.

    `lock` is the reason why a text there may not change.
    """

    path: Path = ()
    role: Role = "user"
    turn: int = 0
    kind: Kind | None = None
    lock: str = ""

    def at(self, *steps: str | int) -> Place:
        """A place further down the request."""
        return Place(
            path=self.path + steps, role=self.role, turn=self.turn, kind=self.kind, lock=self.lock
        )

    def locked(self, reason: str) -> Place:
        """The same place, closed. The first reason holds."""
        return self if self.lock else replace(self, lock=reason)


@dataclass(frozen=True, slots=True)
class Found:
    """A text and its place."""

    text: str
    place: Place


def field(node: Any, name: str) -> Any:
    """A field of a mapping, a pydantic model or a dataclass; None when there is none."""
    if isinstance(node, Mapping):
        return node.get(name)
    if isinstance(node, BaseModel) or is_dataclass(node):
        return getattr(node, name, None)
    return None


def items(value: Any) -> Iterable[tuple[int, Any]]:
    """The items of a list with their positions; nothing when it is no list."""
    return enumerate(value) if isinstance(value, list | tuple) else ()


def compact(*parts: Any) -> str:
    """Definitions as the shortest JSON, for counting. What is not JSON is left out."""
    texts = []
    for part in parts:
        if part:
            try:
                texts.append(
                    json.dumps(part, separators=(",", ":"), ensure_ascii=False, default=_plain)
                )
            except (TypeError, ValueError, RecursionError):
                continue
    return "\n".join(texts)


def messages(value: Any, path: Path = ()) -> Iterator[Found]:
    """The texts of a list of messages, in order."""
    for turn, node in items(value):
        yield from message(node, Place(path=(*path, turn), turn=turn))


def message(node: Any, place: Place) -> Iterator[Found]:
    """The texts of one message: what is said, and the calls that are made."""
    role = role_of(node)
    place = closed(node, replace(place, role=role or "user"))
    if field(node, "name") in EXAMPLES:
        place = replace(place, kind="example")
    if role is None:
        reason = f"its role {field(node, 'role')!r} is not known"
        place = replace(place.locked(reason), kind="history")
    yield from content(field(node, "content"), place.at("content"))
    if refusal := field(node, "refusal"):
        yield from _text(refusal, place.at("refusal").locked("a refusal"))
    if call := field(node, "function_call"):
        given = place.at("function_call", "arguments").locked("the arguments of a call")
        yield from _text(field(call, "arguments"), given)
    for i, called in items(field(node, "tool_calls")):
        yield from _call(called, place.at("tool_calls", i).locked("the arguments of a call"))


def role_of(node: Any) -> Role | None:
    """Who speaks in a message, by its `role`, or by its `type` as LangChain has it."""
    named = field(node, "role")
    if not isinstance(named, str):
        named = field(node, "type")
    if not isinstance(named, str):
        return None
    return ROLES.get(named.removesuffix("MessageChunk").lower())


def content(value: Any, place: Place) -> Iterator[Found]:
    """The texts of a content: a string, or a list of blocks."""
    yield from _text(value, place)
    for i, block in items(value):
        if isinstance(block, str):
            yield from _text(block, place.at(i))
        else:
            yield from _block(block, closed(block, place.at(i)))


def _block(node: Any, place: Place) -> Iterator[Found]:
    """The texts of one block. Of a type that is not named here, nothing is read."""
    match field(node, "type"):
        case "text" | "input_text" | "output_text":
            yield from _text(field(node, "text"), place.at("text"))
        case "refusal":
            yield from _text(field(node, "refusal"), place.at("refusal").locked("a refusal"))
        case "thinking" | "reasoning" as name:
            yield from _text(field(node, name), place.at(name).locked("what the model thought"))
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            yield from _data(field(node, "input"), place.at("input"))
        case "tool_result":
            place = replace(place, role="tool")
            yield from content(field(node, "content"), place.at("content"))
        case "document":
            yield from _document(field(node, "source"), place.at("source"))
        case "search_result":
            place = replace(place, kind=place.kind or "context")
            yield from content(field(node, "content"), place.at("content"))


def _document(source: Any, place: Place) -> Iterator[Found]:
    """The texts of a document that is given as text; others are not read."""
    place = replace(place, kind="context")
    match field(source, "type"):
        case "text":
            yield from _text(field(source, "data"), place.at("data"))
        case "content":
            yield from content(field(source, "content"), place.at("content"))


def _call(node: Any, place: Place) -> Iterator[Found]:
    """What is handed to a tool, in the shapes of the OpenAI SDK and LangChain."""
    function, custom = field(node, "function"), field(node, "custom")
    yield from _text(field(function, "arguments"), place.at("function", "arguments"))
    yield from _text(field(custom, "input"), place.at("custom", "input"))
    yield from _data(field(node, "args"), place.at("args"))


def _text(value: Any, place: Place) -> Iterator[Found]:
    if isinstance(value, str) and value:
        yield Found(value, place)


def _data(value: Any, place: Place) -> Iterator[Found]:
    """Arguments that are a tree, as text: for counting."""
    if text := compact(value):
        yield Found(text, place.locked("the arguments of a call"))


def closed(node: Any, place: Place) -> Place:
    """The place, closed if something outside the text relies on its bytes."""
    if any(field(node, name) is not None for name in BREAKPOINTS):
        return place.locked(BREAKPOINT)
    cited = field(node, "citations")
    if isinstance(cited, Mapping):
        cited = cited.get("enabled")
    if cited or field(node, "annotations"):
        return place.locked("citations point into it")
    return place


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
