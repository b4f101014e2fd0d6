"""Change values in a JSON text and leave every other byte as it is.

Reading and writing a row anew would respell it: `1.10` becomes `1.1`, `1e400` infinite, `é` or its
escape the other one, and of two equal keys one is gone. Here the new values are set into the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tersely.errors import RequestError
from tersely.prompt import Path

LONGEST_INTEGER = 4000
"""In digits; Python refuses to read much longer ones (a guard of its own)."""

_SPACE = re.compile(r"[ \t\n\r]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)


_JSON = json.JSONDecoder(parse_int=_integer)


def parse(text: str) -> Any:
    """The value of a JSON text. Raises RequestError with the place."""
    try:
        return _JSON.decode(text)
    except RecursionError as error:
        raise RequestError("nested too deep to be read") from error
    except ValueError as error:
        raise RequestError(f"not JSON: {error}") from error


def patched(text: str, edits: Mapping[Path, Any]) -> str:
    """A JSON text with other values at some paths.

    A path may lead to a new key of the topmost object: it is added at the end. Of equal keys the
    last one is meant, as everywhere.
    """
    pieces: list[str] = []
    at = 0
    cuts = _cuts(text, 0, edits) if edits else ()
    for start, end, value in sorted(cuts, key=lambda cut: cut[0]):
        pieces += text[at:start], value
        at = end
    return "".join(pieces) + text[at:]


@dataclass(frozen=True, slots=True)
class Rows:
    """A list in which other rows stand: positions of old ones, which keep their bytes, or values.

    A new row is wrapped in a tuple of one.
    """

    rows: tuple[int | tuple[Any], ...]

    @classmethod
    def of(cls, before: Sequence[Any], after: Sequence[Any]) -> Rows:
        """A list told by the rows that it shares with another."""
        places = {id(row): i for i, row in enumerate(before)}
        return cls(tuple(places.get(id(row), (row,)) for row in after))

    def among(self, before: Sequence[Any]) -> list[Any]:
        """The list itself, given the one whose rows it shares."""
        return [before[row] if isinstance(row, int) else row[0] for row in self.rows]


def differences(before: Any, after: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What differs between two trees, each with its place: texts, lists of other lengths."""
    if before is after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping) and before.keys() == after.keys():
        for key, value in before.items():
            yield from differences(value, after[key], (*path, key))
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        if len(before) != len(after):
            yield path, Rows.of(before, after)
            return
        for i, value in enumerate(before):
            yield from differences(value, after[i], (*path, i))
    elif before != after:
        yield path, after


def _cuts(text: str, at: int, edits: Mapping[Path, Any]) -> Iterator[tuple[int, int, str]]:
    """Where the edits of the value at a place lie in the text, and what goes there."""
    at = _past_space(text, at)
    if () in edits:
        end = _JSON.raw_decode(text, at)[1]
        value = edits[()]
        made = _joined(text, at, value) if isinstance(value, Rows) else None
        yield at, end, made or _spelled(value, text[at:end])
        return
    below: dict[str | int, dict[Path, Any]] = {}
    for (step, *rest), value in edits.items():
        below.setdefault(step, {})[tuple(rest)] = value
    places = dict(_members(text, at))
    for step, inner in below.items():
        if step in places:
            yield from _cuts(text, places[step], inner)
        else:
            yield _added(text, str(step), inner[()], alone=not places)


def _joined(text: str, at: int, made: Rows) -> str:
    """A list with other rows; those that stay keep their bytes."""
    starts = [start for _, start in _members(text, at)]
    old = [text[start : _JSON.raw_decode(text, start)[1]] for start in starts]
    rows = (old[row] if isinstance(row, int) else _spelled(row[0], text) for row in made.rows)
    return f"[{', '.join(rows)}]"


def _members(text: str, at: int) -> Iterator[tuple[str | int, int]]:
    """The keys or positions of the object or array at a place, and where each value begins."""
    keyed = text[at] == "{"
    at = _past_space(text, at + 1)
    position = 0
    while text[at] not in "}]":
        step: str | int = position
        if keyed:
            step, at = _JSON.raw_decode(text, at)
            at = _past_space(text, at) + 1  # the colon
        at = _past_space(text, at)
        yield step, at
        at = _past_space(text, _JSON.raw_decode(text, at)[1])
        if text[at] == ",":
            at = _past_space(text, at + 1)
        position += 1


def _added(text: str, key: str, value: Any, *, alone: bool) -> tuple[int, int, str]:
    end = len(text.rstrip()) - 1
    comma = "" if alone else ", "
    return end, end, f"{comma}{json.dumps(key)}: {_spelled(value, '')}"


def _spelled(value: Any, like: str) -> str:
    """A value as JSON, with escapes for other than ASCII where the old one had them."""
    spelled = json.dumps(value, ensure_ascii=like.isascii())
    return json.dumps(value) if _LONE_SURROGATE.search(spelled) else spelled


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
