"""Reads what DSPy asks a model: messages whose fields stand below their names, and its requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from tersely.middleware.leaves import Found, Place, content, field, items, message, role_of
from tersely.middleware.purpose import prompt_of
from tersely.middleware.question import LONG
from tersely.prompt import Kind, Prompt

FIELDS = re.compile(
    r"""^\[\[\ \#\#\ \w+\ \#\#\ \]\]\n(?P<value>.*?)
        (?=\n\n\[\[\ \#\#\ \w+\ \#\#\ \]\]\n|\n\nRespond\ with\ |\Z)
    |   ^<(?P<tag>\w+)>\n(?P<marked>.*?)\n</(?P=tag)>$
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
"""A field with its value, as DSPy's chat, JSON and XML adapters write it."""

Part = str | list[str]
"""A stretch of a message, or the texts of a field that is a list of texts."""


@dataclass(frozen=True, slots=True)
class DspyAdapter:
    """Messages as `opened` gives them, or a request of DSPy's own.

    The fields of the last message that are long, alone or all texts of one together, are context;
    what the others say is the question. Demonstrations are history.
    """

    name: str = "dspy"

    def matches(self, request: Any, /) -> bool:
        return False  # it is asked by name: a list of messages is also OpenAI's

    def read(self, request: Any, /) -> Prompt:
        if not isinstance(request, list):
            return prompt_of(_of_request(request), turns=len(request.messages))
        found: list[Found] = []
        asked: list[str] = []
        earlier: Kind | None = "history" if any(map(is_opened, request)) else None
        for turn, node in enumerate(request):
            kind = earlier if role_of(node) == "user" else None
            place = Place(path=(turn,), turn=turn, kind=kind)
            if is_opened(node):
                for one in _parts(node["content"], place.at("content")):
                    found.append(one)
                    if one.place.kind == "question" and one.place.path[2] in _values(node):
                        asked.append(one.text)
            else:
                found += message(node, place)
        read = prompt_of(found, turns=len(request))
        return replace(read, question="\n".join(asked)) if asked else read


READER = DspyAdapter()


def opened(messages: list[Any]) -> list[Any]:
    """The messages with the last one, if it is the user's and has fields, as a list of parts.

    Frames and values take turns in it, a frame first and last.
    """
    if not messages or role_of(messages[-1]) != "user":
        return messages
    text = field(messages[-1], "content")
    parts = _split(text) if isinstance(text, str) else []
    return [*messages[:-1], {**messages[-1], "content": parts}] if len(parts) > 1 else messages


def closed(messages: list[Any]) -> list[Any]:
    """Opened messages as they were, with whatever became of their texts."""
    return [
        {**node, "content": "".join(map(_spelled, node["content"]))} if is_opened(node) else node
        for node in messages
    ]


def is_opened(node: Any) -> bool:
    """Whether a message is one that `opened` took apart."""
    said = node.get("content") if isinstance(node, Mapping) else None
    return isinstance(said, list) and bool(said) and isinstance(said[0], str)


def _split(text: str) -> list[Part]:
    """Frames and values in turn."""
    spans = [
        found.span("value" if found["tag"] is None else "marked") for found in FIELDS.finditer(text)
    ]
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    parts: list[Part] = [text[start:end] for start, end in pairwise(edges)]
    for i in range(1, len(parts), 2):
        parts[i] = _listed(text[edges[i] : edges[i + 1]])
    return parts


def _listed(value: str) -> Part:
    """A value as its texts, if it is a JSON list of texts that is written the same again."""
    if not value.startswith('["'):
        return value
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        return value
    texts = isinstance(read, list) and all(isinstance(one, str) for one in read)
    return read if texts and _spelled(read) == value else value


def _spelled(part: Part) -> str:
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)


def _parts(parts: list[Part], place: Place) -> Iterator[Found]:
    """The texts of an opened message."""
    for i, part in enumerate(parts):
        long = i % 2 == 1 and len(_spelled(part)) >= LONG
        here = Place(path=(*place.path, i), turn=place.turn, kind="context" if long else "question")
        if isinstance(part, str):
            if part:
                yield Found(part, here)
            continue
        frame = json.dumps(["" for _ in part])
        yield Found(frame, here.at("frame").locked("the list around the texts"))
        yield from (Found(text, here.at(j)) for j, text in enumerate(part) if text)


def _values(node: Any) -> range:
    """Which parts of an opened message are values."""
    return range(1, len(node["content"]), 2)


def _of_request(request: Any) -> Iterator[Found]:
    """The texts of a request of DSPy's own types."""
    system = Place(path=("system",), role="system")
    yield from content(request.system, system)
    for turn, node in items(request.messages):
        role = role_of(node) or "user"
        place = Place(path=("messages", turn), role=role, turn=turn)
        yield from content(field(node, "parts"), place.at("parts"))
