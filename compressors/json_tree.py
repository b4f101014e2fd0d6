"""Read JSON into plain values that keep how numbers are spelled, and write it again.

Reading and writing run in C at the speed of the standard library, since all that it would lose is
carried by strings: a number is its text between two private characters, and the second of two equal
keys has a third one behind it. `1.10`, `1e400`, `-0`, `NaN`, the order of keys and equal keys
come back as they were. Strings may be respelled: `\\u00e9` comes back as `é`.
"""

from __future__ import annotations

import json
import re
from typing import Any

BEGIN, END, AGAIN = "\ue000", "\ue001", "\ue002"
"""Characters for private use, of which a text that is read may hold none."""

_AGAIN = re.compile(f"{AGAIN}\\d+")
_ALONE = re.compile("[\ud800-\udfff]")
_STRING_OR_SPACE = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\Z)|[ \t\n\r]++', re.DOTALL)
_MARKS = "[]{},:"

Value = Any
"""A dict, a list, a string (see `number`), True, False or None."""


def read(text: str) -> Value:
    """The value of a JSON text. Raises ValueError where it is none, RecursionError if too deep."""
    if any(sign in text for sign in (BEGIN, END, AGAIN, "\\ue00", "\\uE00")):
        raise ValueError("it holds characters for private use")
    return _READER.decode(text)


def write(value: Value) -> str:
    """The shortest JSON text of a value. Raises RecursionError where it is nested too deep."""
    text = _WRITER.encode(value).replace(f'"{BEGIN}', "").replace(f'{END}"', "")
    if AGAIN in text:
        text = _AGAIN.sub("", text)
    if not text.isascii() and _ALONE.search(text):
        text = _ALONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text


def number(value: Value) -> str | None:
    """How a number is spelled; None for what is no number."""
    if isinstance(value, str) and value.startswith(BEGIN):
        return value[1:-1]
    return None


def as_number(text: str) -> Value:
    """The value of a number that is spelled so."""
    return f"{BEGIN}{text}{END}"


def squeezed(text: str) -> str:
    """A JSON text without the white space between its parts, whatever its depth."""
    return _STRING_OR_SPACE.sub(_tight, text.strip(" \t\n\r"))


def _tight(found: re.Match[str]) -> str:
    if found[0][0] == '"':
        return found[0]
    before, after = found.string[found.start() - 1], found.string[found.end()]
    return "" if before in _MARKS or after in _MARKS else " "


def _object(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    """An object, whose second key of one name is told apart from the first."""
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    times: dict[str, int] = {}
    told: dict[str, Value] = {}
    for key, value in pairs:
        times[key] = times.get(key, 0) + 1
        told[key if times[key] == 1 else f"{key}{AGAIN}{times[key]}"] = value
    return told


_NUMBER = f"{BEGIN}%s{END}".__mod__
"""As `as_number`, in C."""

_READER = json.JSONDecoder(
    parse_int=_NUMBER, parse_float=_NUMBER, parse_constant=_NUMBER, object_pairs_hook=_object
)
_WRITER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
