"""Write objects of like keys as tables, and read them back.

    [{"id":1,"on":true},{"id":2,"on":false}]   [{"#columns":["id","on"]},[1,true],[2,false]]
    {"a":{"x":1,"y":2},"b":{"x":3,"y":4}}      {"#columns":["x","y"],"a":[1,2],"b":[3,4]}

An array stays an array and an object an object. The first element of an array, or the first value
of an object, tells the columns; each array behind it is a row. A column may have columns of its
own: `{"address":["city","zip"]}` for an object in each row, `{"items":[["name","price"]]}` for an
array of objects, `{"variants":{"*":["size","colour"]}}` for an object of objects. What does not fit
stays as it is; a key that a row lacks is "#absent" in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tersely.compressors.json_tree import AGAIN, Value

COLUMNS = "#columns"
ABSENT = "#absent"
MARK = "#left out"
EACH = "*"

SHAPES = 8
"""Sets of keys up to which objects are seen as alike."""

DEEPEST = 4
"""Columns within columns."""

FEWEST_KEYED = 3
"""Objects in an object below which their keys are names rather than ids."""

HEADER = len(f'{{"{COLUMNS}":}},')

LACKING = 12
"""What it costs to say that a row lacks a key, in characters of usual text."""

Spec = Any
"""The columns of a table, see above: a list of names and specs, `[spec]`, or `{"*": spec}`."""

Shaped = tuple[Spec, list[Value]]
"""The columns that some values have in common, and the values by them."""


def tabled(value: Value) -> Value:
    """The value with tables wherever they are shorter. It must not have the key `#columns`."""
    if type(value) is list:
        shaped = _shaped(value)
        if shaped is None:
            return [tabled(one) for one in value]
        return [{COLUMNS: shaped[0]}, *shaped[1]]
    if type(value) is dict:
        shaped = _shaped(list(value.values())) if _is_keyed(value) else None
        if shaped is None:
            return {key: tabled(one) for key, one in value.items()}
        return {COLUMNS: shaped[0], **dict(zip(value, shaped[1], strict=True))}
    return value


def untabled(value: Value) -> Value:
    """The value that `tabled` was given."""
    if type(value) is list:
        if value and type(value[0]) is dict and list(value[0]) == [COLUMNS]:
            spec = value[0][COLUMNS]
            return [_restored(one, spec) for one in value[1:]]
        return [untabled(one) for one in value]
    if type(value) is dict:
        if next(iter(value), "") == COLUMNS:
            spec = value[COLUMNS]
            rows = [(key, one) for key, one in value.items() if key != COLUMNS]
            return {key: _restored(one, spec) for key, one in rows}
        return {key: untabled(one) for key, one in value.items()}
    return value


def _is_keyed(value: dict[str, Value]) -> bool:
    """Whether all values are objects or all are arrays, and many enough."""
    kinds = {type(one) for name, one in value.items() if name != MARK}
    return len(value) >= FEWEST_KEYED and kinds in ({dict}, {list})


def _shaped(values: list[Value], depth: int = DEEPEST) -> Shaped | None:
    """Columns for values of which all that are no scalars are objects, or arrays. Else None."""
    kinds = set(map(type, values))
    if not depth or {dict, list} <= kinds:
        return None
    if dict in kinds:
        return _rows(values, depth) or _keyed(values, depth)
    return _nested(values, depth) if list in kinds else None


def _rows(values: list[Value], depth: int) -> Shaped | None:
    """Objects with about the same keys as rows."""
    fit = _fit([value for value in values if type(value) is dict])
    if fit is None:
        return None
    inside = [type(value) is dict and fit.takes(value) for value in values]
    rows = [fit.row(value) for value, taken in zip(values, inside, strict=True) if taken]
    if len(rows) < 2 or fit.gain(rows) <= 0:
        return None
    specs: list[Spec] = []
    columns: list[Sequence[Value]] = []
    for name, cells in zip(fit.columns, zip(*rows, strict=True), strict=True):
        shaped = (
            None
            if set(map(type, cells)).isdisjoint((dict, list))
            else _shaped(list(cells), depth - 1)
        )
        specs.append(name if shaped is None else {name: shaped[0]})
        columns.append(_walked(cells) if shaped is None else shaped[1])
    made = iter(zip(*columns, strict=True))
    return specs, [
        list(next(made)) if taken else tabled(value)
        for value, taken in zip(values, inside, strict=True)
    ]


def _walked(cells: Sequence[Value]) -> Sequence[Value]:
    """Cells without columns of their own."""
    if set(map(type, cells)).isdisjoint((dict, list)):
        return cells
    return [tabled(cell) for cell in cells]


def _keyed(values: list[Value], depth: int) -> Shaped | None:
    """Objects whose values, under different keys, are alike."""
    objects = [value for value in values if type(value) is dict]
    pool = [one for value in objects for one in value.values()]
    if len(pool) < FEWEST_KEYED or not set(map(type, pool)) <= {dict, list}:
        return None
    shaped = _shaped(pool, depth - 1)
    if shaped is None:
        return None
    made = iter(shaped[1])
    return {EACH: shaped[0]}, [
        {key: next(made) for key in value} if type(value) is dict else value for value in values
    ]


def _nested(values: list[Value], depth: int) -> Shaped | None:
    """Arrays whose elements are alike."""
    pool = [one for value in values if type(value) is list for one in value]
    shaped = _shaped(pool, depth - 1)
    if shaped is None:
        return None
    made = iter(shaped[1])
    return [shaped[0]], [
        [next(made) for _ in value] if type(value) is list else value for value in values
    ]


@dataclass(frozen=True, slots=True)
class _Fit:
    """Columns, and the sets of keys that are told by them."""

    columns: tuple[str, ...]
    shapes: frozenset[tuple[str, ...]]

    def takes(self, value: dict[str, Value]) -> bool:
        """Whether an object can be a row."""
        return tuple(value) in self.shapes and ABSENT not in value.values()

    def row(self, value: dict[str, Value]) -> list[Value]:
        if len(value) == len(self.columns):
            return list(value.values())
        return [value.get(name, ABSENT) for name in self.columns]

    def gain(self, rows: list[list[Value]]) -> int:
        """About how many characters the table saves."""
        sizes = [len(name) + 3 for name in self.columns]
        saved = (len(rows) - 1) * sum(sizes) - HEADER
        if len(self.shapes) > 1:
            for size, cells in zip(sizes, zip(*rows, strict=True), strict=True):
                saved -= cells.count(ABSENT) * (size + LACKING)
        return saved


def _fit(objects: list[dict[str, Value]]) -> _Fit | None:
    """The columns that most objects share, if their keys are few enough sets in one order."""
    shapes = Counter(map(tuple, objects))
    if not shapes or len(shapes) > max(1, min(SHAPES, len(objects) // 2)):
        return None
    usual = shapes.most_common(1)[0][0]
    columns = usual
    for shape in shapes:
        if 2 * len(set(shape) & set(usual)) > len(usual):
            columns = _merged(columns, shape)
    taken = [
        shape
        for shape in shapes
        if shape
        and 2 * len(shape) > len(columns)
        and not any(name == EACH or AGAIN in name for name in shape)
        and _within(columns, shape)
    ]
    return _Fit(columns, frozenset(taken)) if taken else None


def _merged(columns: tuple[str, ...], shape: tuple[str, ...]) -> tuple[str, ...]:
    """Columns with those of a shape that they lack, each behind the one it follows."""
    known = set(columns)
    behind: dict[str, list[str]] = {}
    last = ""
    for name in shape:
        if name in known:
            last = name
        else:
            behind.setdefault(last, []).append(name)
    merged = behind.pop("", [])
    for name in columns:
        merged += name, *behind.get(name, ())
    return tuple(merged) if len(set(merged)) == len(merged) else columns


def _within(columns: Iterable[str], shape: Iterable[str]) -> bool:
    rest = iter(columns)
    return all(name in rest for name in shape)


def _restored(value: Value, spec: Spec) -> Value:
    """A value from what it was written as by these columns."""
    if type(spec) is dict:
        if type(value) is dict:
            return {key: _restored(one, spec[EACH]) for key, one in value.items()}
    elif type(value) is list:
        if type(spec[0]) is list or (type(spec[0]) is dict and EACH in spec[0] and len(spec) == 1):
            return [_restored(one, spec[0]) for one in value]
        return _object(value, spec)
    return untabled(value)


def _object(row: list[Value], specs: list[Spec]) -> dict[str, Value]:
    made: dict[str, Value] = {}
    for cell, spec in zip(row, specs, strict=True):
        if cell == ABSENT and type(cell) is str:
            continue
        if type(spec) is dict:
            ((name, inner),) = spec.items()
            made[name] = _restored(cell, inner)
        else:
            made[spec] = untabled(cell)
    return made
