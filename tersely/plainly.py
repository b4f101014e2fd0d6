"""Say what JSON holds in few words: every value, and no name twice where one will do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

BLANK = "-"
"""What stands for a value that is not there."""


def told_json(text: str) -> str | None:
    """JSON of an object or a list as one line that holds each of its values; else None.

    Numbers keep their spelling. Rows of the same shape become a table: what all of them share
    comes first, then the names of the columns, then row by row. Line breaks become spaces.
    """
    stripped = text.strip()
    if stripped[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(stripped, parse_int=str, parse_float=str)
        return " ".join(_told(value).split())
    except (ValueError, RecursionError):
        return None


def _told(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(_named(str(name), one) for name, one in value.items()) or "{}"
        case list():
            return _listed(value) if value else "[]"
        case True | False | None:
            return json.dumps(value)
        case _:
            return str(value) or '""'


def _named(name: str, value: Any) -> str:
    if isinstance(value, dict):
        # ids are often both the name of a thing and a value within it
        value = {k: one for k, one in value.items() if one != name} or value
    if isinstance(value, dict | list) and value:
        return f"{name} ({_told(value)})"
    return f"{name} {_told(value)}"


def _listed(values: Sequence[Any]) -> str:
    if len(values) > 1 and all(map(_is_row, values)):
        return _table([_flat(one) for one in values])
    if len(values) > 1 and all(isinstance(x, list) and all(map(_is_row, x)) for x in values):
        groups = enumerate(values, 1)  # rows of rows: which one each belongs to
        return _table([{"#": str(i)} | _flat(row) for i, rows in groups for row in rows])
    return "; ".join(f"({_told(one)})" if isinstance(one, list) else _told(one) for one in values)


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def _flat(row: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """A row with the names of what lies deeper joined by dots."""
    flat: dict[str, str] = {}
    for name, value in row.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{above}{name}.")
        else:
            text = _told(value)
            flat[above + str(name)] = f"({text})" if isinstance(value, list) else text
    return flat


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    shared = {
        name: rows[0][name]
        for name in names
        if name in rows[0] and all(row.get(name) == rows[0][name] for row in rows)
    }
    own = [name for name in names if name not in shared]
    parts = [f"{len(rows)} with " + ", ".join(f"{k} {v}" for k, v in shared.items())] * bool(shared)
    if own:
        parts.append(_columns([name.split(".") for name in own]))
        # no spaces: to most tokenizers a space before a number is a token more
        parts += ["|".join(row.get(name, BLANK) for name in own) for row in rows]
    return "; ".join(parts)


def _columns(names: Sequence[Sequence[str]]) -> str:
    """Names of columns, those that begin alike together: `id|price (low|high)`."""
    told: list[str] = []
    for first, group in groupby(names, key=lambda name: name[0]):
        deeper = [name[1:] for name in group]
        alone = len(deeper) == 1 or not all(deeper)
        told += (
            [".".join([first, *rest]) for rest in deeper]
            if alone
            else [f"{first} ({_columns(deeper)})"]
        )
    return "|".join(told)
