"""Choose what JSON can do without: rows like others, and the middle of long strings.

What stays in any case: elements that the question or the tool's call names, that tell of an error,
or that differ from the others; the first ones and the last one. Counts and all other values
stay as they are; where elements are left out, a text in their place says how many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from tersely.compressors.json_table import MARK
from tersely.compressors.json_tree import Value, number, write
from tersely.compressors.thinned import errors_among, shortened, spread
from tersely.named import Lines, Named

FEWEST = 12
"""Elements below which an array, or an object of like values, loses none: in a short list each
one counts."""

MEASURED = 10
"""Numbers that there must be to tell that one is far from the others."""

FIRST, LAST = 2, 1

DEEPEST = 6
"""How deep elements are looked into for arrays of their own."""

LONG = 300
"""Characters beyond which a string can be shortened."""

ODD = 0.05
"""The share of elements that may differ from the rest by one thing; more are no exception."""

LIKE = 0.8
"""The share of elements that must have one value for others to be exceptions."""

FENCE = 3.0
"""Times the middle half's range beyond it where a number is far out (Tukey 1977)."""

LEFT = "left out from here on"


class Part(NamedTuple):
    """Something that can go: an element of a container, or the middle of a string in it."""

    container: int
    step: str | int
    size: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a value can go, what goes first in front."""

    value: Value
    order: Sequence[Part]
    asked: Named

    def without(self, share: float) -> Value:
        """The value without this share of what can go, with marks in its place."""
        if not self.order or share <= 0:
            return self.value
        sizes = list(accumulate(part.size for part in self.order))
        most = share * sizes[-1]
        gone: dict[int, dict[str | int, bool]] = {}
        for part, size in zip(self.order, sizes, strict=True):
            if size > most + 1e-6:
                break
            steps = gone.setdefault(part.container, {})
            steps[part.step] = part.whole or steps.get(part.step, False)
        return _rest(self.value, gone, self.asked) if gone else self.value


def parts_of(value: Value, asked: Named) -> Parts:
    """What of a value can go: strings are shortened first, then elements go, evenly spread."""
    found = list(_parts(value, asked, DEEPEST))
    return Parts(value, [part for _, part in sorted(found, key=lambda pair: pair[0])], asked)


def holds_marks(text: str) -> bool:
    """Whether something was left out of a JSON text before."""
    return LEFT in text or f'"{MARK}"' in text


Ranked = tuple[tuple[float, ...], Part]


def _parts(value: Value, asked: Named, depth: int) -> Iterator[Ranked]:
    """What can go within a value, with what is to be compared to know what goes first."""
    if not depth:
        return
    whole = set[str | int]()
    if _is_row(value):
        ranked, whole = _elements(value, asked)
        yield from ranked
    for step, inner in _pairs(value):
        if step in whole:
            continue
        if isinstance(inner, str):
            if len(inner) > LONG and number(inner) is None:
                saved = len(inner) - len(shortened(inner, asked))
                yield (0,), Part(id(value), step, saved, whole=False)
        elif inner:
            yield from _parts(inner, asked, depth - 1)


def _pairs(value: Value) -> Iterable[tuple[str | int, Value]]:
    """What a container holds, by key or position; nothing where the value is none."""
    if type(value) is list:
        return enumerate(value)
    return value.items() if type(value) is dict else ()


def _is_row(value: Value) -> bool:
    """Whether elements can go: an array, or an object whose values are alike, and long enough."""
    if type(value) is list:
        return len(value) >= FEWEST
    if type(value) is not dict or len(value) < FEWEST or set(map(type, value.values())) != {dict}:
        return False
    shapes = Counter(map(tuple, value.values()))
    return 2 * shapes.most_common(1)[0][1] > len(value)


def _elements(value: Value, asked: Named) -> tuple[list[Ranked], set[str | int]]:
    """The elements of a container that can go, and those that are asked for."""
    pairs = list(_pairs(value))
    keyed = type(value) is dict
    texts = [f"{step} {write(one)}" if keyed else write(one) for step, one in pairs]
    lines = Lines("\n".join(text.replace("\n", " ") for text in texts))
    named, held = asked.among(lines)
    stays = named | errors_among(lines) | exceptions([one for _, one in pairs])
    stays |= {*range(FIRST), *range(len(pairs) - LAST, len(pairs))}
    free = [i for i in range(len(pairs)) if i not in stays]
    ranked: list[Ranked] = [
        ((1, held[i], when), Part(id(value), pairs[i][0], len(texts[i]), whole=True))
        for i, when in zip(free, spread(len(free)), strict=True)
    ]
    return ranked, {pairs[i][0] for i in named}


def exceptions(elements: Sequence[Value]) -> set[int]:
    """Elements that differ from nearly all the others: in their keys, or by a value."""
    most = max(1, int(ODD * len(elements)))
    found: set[int] = set()
    for column in _columns(elements):
        odd = _far_out(column) | _unlike(column)
        if len(odd) <= most:
            found |= odd
    return found


def _columns(elements: Sequence[Value]) -> Iterator[list[Value]]:
    """What the elements are compared by: their keys and each of their values, or themselves."""
    if set(map(type, elements)) != {dict}:
        yield list(elements)
        return
    keys = [tuple(one) for one in elements]
    yield keys
    usual, times = Counter(keys).most_common(1)[0]
    if 2 * times > len(elements):
        for name in usual:
            yield [one.get(name) for one in elements]


def _far_out(column: Sequence[Value]) -> set[int]:
    """Numbers far beyond the others."""
    spelled = [number(value) for value in column]
    told = [i for i, text in enumerate(spelled) if text is not None]
    if len(told) < MEASURED:
        return set()
    values = np.array([float(spelled[i] or 0) for i in told])
    low, high = np.nanpercentile(values, (25, 75)) if np.isfinite(values).all() else (0.0, np.inf)
    reach = FENCE * (high - low)
    far = (values < low - reach) | (values > high + reach) | ~np.isfinite(values)
    return {told[i] for i in np.flatnonzero(far).tolist()}


def _unlike(column: Sequence[Value]) -> set[int]:
    """Values other than the one that nearly all have."""
    if not all(type(value) in (str, bool, tuple, type(None)) for value in column):
        return set()
    usual, times = Counter(column).most_common(1)[0]
    if times < LIKE * len(column):
        return set()
    return {i for i, value in enumerate(column) if value != usual}


def _rest(value: Value, gone: dict[int, dict[str | int, bool]], asked: Named) -> Value:
    """A value without what goes."""
    pairs = _pairs(value)
    if not pairs:
        return value
    here = gone.get(id(value), {})
    dropped = sum(here.values())
    kept: list[tuple[str | int, Value]] = []
    for step, inner in pairs:
        match here.get(step):
            case True:
                if dropped:
                    kept.append((MARK, f"{dropped} of {len(value)} {LEFT}"))
                dropped = 0
            case False:
                kept.append((step, shortened(inner, asked)))
            case None:
                kept.append((step, _rest(inner, gone, asked)))
    return dict(kept) if type(value) is dict else [one for _, one in kept]
