"""Which passages a search may find, by their metadata."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tersely.errors import RequestError
from tersely.units import Ints

Filter = Mapping[str, Any] | Callable[[Mapping[str, Any]], bool]
"""`{"source": "a.md", "year": {"$gte": 2020}}`, or a function of the metadata.

All keys of a mapping must hold. A value stands for equality; None for "missing or null". Else it
is a mapping of operators: $eq, $ne, $in, $nin, $gt, $gte, $lt, $lte, $exists. `$and` and `$or`
take lists of filters, `$not` takes one. Only numbers are less or more than numbers, and only
texts than texts; true and false are no numbers.
"""

ROOM = 4_000_000
"""So many row numbers are remembered for the filters that were used last: 32 MB."""

PLAIN_KEY = re.compile(r"[\w \-.$]+", re.ASCII)
"""Keys that SQLite's JSON paths take as they are, in quotes."""

EXACT = 2**53
"""Whole numbers below are told apart by whatever way they are compared."""


def checked(given: Any) -> Filter | None:
    """A filter, or None for none. Raises RequestError that names what is wrong in it."""
    if given is None or callable(given):
        return given  # type: ignore[no-any-return]
    if not isinstance(given, Mapping):
        raise RequestError(f"a filter is a mapping or a function of the metadata, was {given!r}")
    for key, wanted in given.items():
        if key in ("$and", "$or"):
            if not isinstance(wanted, Sequence) or isinstance(wanted, str) or not wanted:
                raise RequestError(f"{key} takes a list of filters, was {wanted!r}")
            for one in wanted:
                checked(one)
        elif key == "$not":
            checked(wanted)
        elif not isinstance(key, str) or key.startswith("$"):
            raise RequestError(f"no operator {key!r}; between filters there are $and, $or and $not")
        else:
            _check_wanted(key, wanted)
    return given or None


def _check_wanted(key: str, wanted: Any) -> None:
    for operator, value in _operators(wanted):
        if operator not in OPERATORS:
            raise RequestError(f"{key}: no operator {operator!r}; there are {', '.join(OPERATORS)}")
        if operator in ("$in", "$nin") and (
            isinstance(value, str) or not isinstance(value, Sequence | set | frozenset)
        ):
            raise RequestError(f"{key}: {operator} takes a list of values, was {value!r}")


def matches(wanted: Filter, metadata: Mapping[str, Any]) -> bool:
    """Whether metadata is what a filter wants."""
    if not isinstance(wanted, Mapping):
        return bool(wanted(metadata))
    return all(_holds(key, value, metadata) for key, value in wanted.items())


def _holds(key: str, wanted: Any, metadata: Mapping[str, Any]) -> bool:
    if key == "$and":
        return all(matches(one, metadata) for one in wanted)
    if key == "$or":
        return any(matches(one, metadata) for one in wanted)
    if key == "$not":
        return not matches(wanted, metadata)
    there = metadata.get(key)
    return all(
        (key in metadata) is bool(value) if name == "$exists" else OPERATORS[name](there, value)
        for name, value in _operators(wanted)
    )


def _operators(wanted: Any) -> Iterator[tuple[str, Any]]:
    """What is asked of one key. A mapping without operators is a value like another."""
    if isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted):
        yield from wanted.items()
    else:
        yield "$eq", wanted


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _comparable(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return False
    return any(isinstance(a, kind) and isinstance(b, kind) for kind in (int | float, str))


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _same,
    "$ne": lambda a, b: not _same(a, b),
    "$in": lambda a, b: any(_same(a, one) for one in b),
    "$nin": lambda a, b: not any(_same(a, one) for one in b),
    "$gt": lambda a, b: _comparable(a, b) and a > b,
    "$gte": lambda a, b: _comparable(a, b) and a >= b,
    "$lt": lambda a, b: _comparable(a, b) and a < b,
    "$lte": lambda a, b: _comparable(a, b) and a <= b,
    "$exists": lambda a, b: True,  # asked of the key, not of its value
}


class Filters:
    """Finds the rows that filters allow, and remembers them: what stands in a row never changes.

    A filter that was asked before is asked of new rows only. Functions are asked every time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[int, Ints]] = OrderedDict()

    def rows(self, connection: sqlite3.Connection, wanted: Filter) -> Ints:
        """The rows that a filter allows, rising. Some may have been removed since."""
        key = _key(wanted)
        if key is None:
            return _found(connection, wanted, 0)
        with self._lock:
            seen, rows = self._known.get(key, (0, np.zeros(0, np.int64)))
        last = connection.execute("SELECT MAX(row) FROM chunks").fetchone()[0] or 0
        if last > seen:
            rows = np.concatenate([rows, _found(connection, wanted, seen)])
            self._remember(key, last, rows)
        return rows

    def _remember(self, key: str, seen: int, rows: Ints) -> None:
        with self._lock:
            self._known[key] = seen, rows
            self._known.move_to_end(key)
            while sum(len(one) for _, one in self._known.values()) > ROOM:
                self._known.popitem(last=False)


def _key(wanted: Filter) -> str | None:
    if not isinstance(wanted, Mapping):
        return None
    try:
        return json.dumps(wanted, sort_keys=True)
    except (TypeError, ValueError):
        return None


def _found(connection: sqlite3.Connection, wanted: Filter, after: int) -> Ints:
    """The rows behind one that a filter allows: SQLite narrows them down, we decide."""
    where, values = narrowed(wanted) if isinstance(wanted, Mapping) else ("1", [])
    query = f"SELECT row, metadata FROM chunks WHERE row > ? AND {where} ORDER BY row"
    try:
        return _decided(connection, query, [after, *values], wanted)
    except sqlite3.OperationalError:  # JSON that only Python takes, such as NaN
        query = "SELECT row, metadata FROM chunks WHERE row > ? ORDER BY row"
        return _decided(connection, query, [after], wanted)


def _decided(
    connection: sqlite3.Connection, query: str, values: Sequence[Any], wanted: Filter
) -> Ints:
    found = connection.execute(query, values)
    allowed = (row for row, metadata in found if matches(wanted, json.loads(metadata)))
    return np.fromiter(allowed, np.int64)


def narrowed(wanted: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """A condition for SQLite that leaves out no row that a filter allows, and its values."""
    conditions, values = ["1"], []
    for key, value in wanted.items():
        some = _values(value)
        if some is None or not all(map(_simple, some)):
            continue
        marks = ", ".join("?" * len(some))
        if key == "source" and all(isinstance(one, str) and one for one in some):
            conditions.append(f"source IN ({marks})")
        elif PLAIN_KEY.fullmatch(key) and not key.startswith("$"):
            conditions.append(f"json_extract(metadata, ?) IN ({marks})")
            values.append(f'$."{key}"')
        else:
            continue
        values += some
    return " AND ".join(conditions), values


def _values(wanted: Any) -> list[Any] | None:
    """The values of which one must be there; None when that is not what is asked."""
    for operator, value in _operators(wanted):
        if operator == "$eq":
            return [value]
        if operator == "$in":
            return list(value) if len(value) <= 100 else None
    return None


def _simple(value: Any) -> bool:
    """Whether SQLite is sure to find it equal to what is equal to it in Python."""
    if isinstance(value, str):
        return value.isprintable()
    return isinstance(value, int) and abs(value) < EXACT
