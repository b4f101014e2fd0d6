"""Pair the equal units of two sequences, in order, as few and as long runs as can be.

Units that occur once on both sides pin the two together (patience diff, as in version control);
between the pins the same is done again. What is still between pins after that is small, or very
repetitive: the small is paired exactly, the repetitive from the front. Where the new sequence is
the old one with units left out, every new unit finds its pair.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELLS = 100_000
"""Old units x new units up to which a gap is paired exactly."""

DEPTH = 12
"""How often a gap is searched for pins of its own."""

TRIES = 16
"""Places of a unit that are looked at in a gap too large to be exact."""

REACH = 256
"""How far such a place may lie ahead where nothing else bounds it."""

NEVER = -(2**30)


@dataclass(frozen=True, slots=True)
class Gap:
    """Two stretches of units that are yet to be matched: `old[a:b]` and `new[c:d]`."""

    a: int
    b: int
    c: int
    d: int

    @property
    def cells(self) -> int:
        return (self.b - self.a) * (self.d - self.c)


Pair = tuple[int, int]
"""An old and a new unit that are the same."""

Units = Sequence[str]


def paired(old: Units, new: Units) -> list[Pair]:
    """Pairs of equal units: pins first, then every gap between them."""
    pairs = pinned(old, new)
    gaps = _gaps(Gap(0, len(old), 0, len(new)), pairs)
    return sorted([*pairs, *(pair for gap in gaps for pair in _in_gap(old, new, gap))])


def _in_gap(old: Units, new: Units, gap: Gap) -> list[Pair]:
    return sorted((_exactly if gap.cells <= CELLS else _roughly)(old, new, gap))


def pinned(old: Units, new: Units) -> list[Pair]:
    """Pairs that follow from units which occur once on both sides, gap within gap."""
    pairs: list[Pair] = []
    todo = [(Gap(0, len(old), 0, len(new)), 0)]
    while todo:
        gap, depth = todo.pop()
        pins = _grown(_pins(old, new, gap), old, new, gap)
        pairs += pins
        if pins and depth < DEPTH:
            todo += [(inner, depth + 1) for inner in _gaps(gap, pins)]
    return sorted(pairs)


def _gaps(whole: Gap, pairs: Sequence[Pair]) -> Iterator[Gap]:
    """What lies between pairs, where there is something on both sides."""
    i, j = whole.a, whole.c
    for a, c in (*pairs, (whole.b, whole.d)):
        if a > i and c > j:
            yield Gap(i, a, j, c)
        i, j = a + 1, c + 1


def _pins(old: Units, new: Units, gap: Gap) -> list[Pair]:
    """Units that occur once on both sides of a gap, as many as keep the order."""
    lone = _lone(new, gap.c, gap.d)
    found = [(i, lone[unit]) for unit, i in _lone(old, gap.a, gap.b).items() if unit in lone]
    return _rising(sorted(found))


def _lone(units: Units, start: int, end: int) -> dict[str, int]:
    """The units that occur once in a range, and where."""
    times = Counter(units[start:end])
    return {units[i]: i for i in range(start, end) if times[units[i]] == 1}


def _rising(pairs: Sequence[Pair]) -> list[Pair]:
    """The longest selection of pairs, sorted by the old side, that rises on the new one."""
    tails: list[int] = []
    ends: list[int] = []
    back: list[int] = []
    for at, (_, j) in enumerate(pairs):
        place = bisect_left(tails, j)
        back.append(ends[place - 1] if place else -1)
        tails[place : place + 1] = [j]
        ends[place : place + 1] = [at]
    chosen: list[Pair] = []
    at = ends[-1] if ends else -1
    while at >= 0:
        chosen.append(pairs[at])
        at = back[at]
    return chosen[::-1]


def _grown(pins: Sequence[Pair], old: Units, new: Units, gap: Gap) -> list[Pair]:
    """The pins with all equal neighbours: a longer run is always the better reading."""
    grown: list[Pair] = []
    i, j = gap.a, gap.c
    for a, c in (*pins, (gap.b, gap.d)):
        while grown and i < a and j < c and old[i] == new[j]:
            grown.append((i, j))
            i, j = i + 1, j + 1
        if a == gap.b:
            break
        back = 0
        while a - back > i and c - back > j and old[a - back - 1] == new[c - back - 1]:
            back += 1
        grown += [(a - k, c - k) for k in range(back, -1, -1)]
        i, j = a + 1, c + 1
    return grown


def _exactly(old: Units, new: Units, gap: Gap) -> list[Pair]:
    """The best pairs of a small gap: most words first, then fewest runs.

    `best[j, i]` is what the first `i` old and the first `j` new units are worth together;
    `ended[i]` is the same for alignments whose last pair is the `i`-th old unit and the row's new
    one. Continuing a run earns a bonus. It is never so large that a word would be given up for it
    where the new text is the old one with words left out.
    """
    old, new = old[gap.a : gap.b], new[gap.c : gap.d]
    subset = within(old, new)
    bonus = 1 if subset else 3
    ids = {unit: n for n, unit in enumerate({*old, *new})}
    codes = np.array([ids[unit] for unit in old])
    best = np.zeros((len(new) + 1, len(old) + 1), dtype=np.int32)
    continues = np.zeros((len(new), len(old)), dtype=bool)
    ended = np.full(len(old) + 1, NEVER, dtype=np.int32)
    for j, unit in enumerate(new):
        worth = len(new) + 1 if subset else 2 * (not unit.isspace())
        continues[j] = ended[:-1] + bonus > best[j, :-1]
        value = np.maximum(ended[:-1] + bonus, best[j, :-1]) + worth
        ended[1:] = np.where(codes == ids[unit], value, NEVER)
        best[j + 1] = np.maximum(best[j], np.maximum.accumulate(ended))
    return [(gap.a + i, gap.c + j) for i, j in _traced(best, continues)]


def _traced(best: NDArray[np.int32], continues: NDArray[np.bool_]) -> Iterator[Pair]:
    """The pairs that lead to the best worth, from the last to the first."""
    j, i = (size - 1 for size in best.shape)
    while i and j:
        if best[j, i] == best[j, i - 1]:
            i -= 1
        elif best[j, i] == best[j - 1, i]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            yield i, j
            while continues[j, i]:
                i, j = i - 1, j - 1
                yield i, j


def _roughly(old: Units, new: Units, gap: Gap) -> list[Pair]:
    """Pairs of a large gap, from the front: of the next few places the one with the longest run.

    Where all new units can find a place, none is chosen that leaves a later one without.
    """
    places: dict[str, list[int]] = {}
    for at in range(gap.a, gap.b):
        places.setdefault(old[at], []).append(at)
    last = _last_places(old, new, gap)
    pairs: list[Pair] = []
    i, j = gap.a, gap.c
    while i < gap.b and j < gap.d:
        spots = places.get(new[j], [])
        first = bisect_left(spots, i)
        reach = last[j - gap.c] if last else i + REACH
        near = (spot for spot in spots[first : first + TRIES] if spot <= reach)
        spot, length = _longest(old, new, near, Gap(i, gap.b, j, gap.d))
        pairs += [(spot + k, j + k) for k in range(length)]
        i, j = (spot + length, j + length) if length else (i, j + 1)
    return pairs


def _longest(old: Units, new: Units, spots: Iterable[int], gap: Gap) -> tuple[int, int]:
    """The place from which most units are the same, and how many they are."""
    best, length = gap.a, 0
    for spot in spots:
        if gap.c + length == gap.d or spot + length >= gap.b:
            break
        if old[spot + length] == new[gap.c + length]:  # else it can't be longer
            longer = _run(old, new, Gap(spot, gap.b, gap.c, gap.d))
            best, length = (spot, longer) if longer > length else (best, length)
    return best, length


def _last_places(old: Units, new: Units, gap: Gap) -> list[int]:
    """The last place that each new unit can have; empty when they can't all have one."""
    found: list[int] = []
    i = gap.b
    for j in range(gap.d - 1, gap.c - 1, -1):
        i -= 1
        while i >= gap.a and old[i] != new[j]:
            i -= 1
        if i < gap.a:
            return []
        found.append(i)
    return found[::-1]


def _run(old: Units, new: Units, gap: Gap) -> int:
    """How many units are the same from the gap's start on."""
    longest = min(gap.b - gap.a, gap.d - gap.c)
    return next((k for k in range(longest) if old[gap.a + k] != new[gap.c + k]), longest)


def within(old: Units, new: Units) -> bool:
    """Whether the new units are the old ones with some left out."""
    rest = iter(old)
    return all(unit in rest for unit in new)
