"""Where the characters of a text came from: which runs of it were copied from another text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Copy = tuple[int, int, int]
"""A run that was taken over as it was: where it begins now, where it began, and its length."""

Origins = tuple[Copy, ...]
"""Every run that a text took over from another one, in the order in which they stand now.

What lies outside of them is new: white space between runs, or the mark of a text that is gone.
"""

_Table = NDArray[np.int64]


def origins_of(outputs: Sequence[int], sources: Sequence[int], lengths: Sequence[int]) -> Origins:
    """Runs from their columns, with those that go on from each other made one."""
    return _merged(np.column_stack((outputs, sources, lengths)).astype(np.int64))


def composed(later: Origins, earlier: Origins) -> Origins:
    """Where a text came from that was made from a text that was itself made from another."""
    if not later or not earlier:
        return ()
    new, old = np.array(later, np.int64), np.array(earlier, np.int64)
    ends = new[:, 1] + new[:, 2]
    first = np.searchsorted(old[:, 0] + old[:, 2], new[:, 1], "right")
    counts = np.maximum(np.searchsorted(old[:, 0], ends, "left") - first, 0)
    which = np.repeat(np.arange(len(new)), counts)
    nth = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    under = old[first[which] + nth]
    over = new[which]
    begins = np.maximum(over[:, 1], under[:, 0])
    closes = np.minimum(ends[which], under[:, 0] + under[:, 2])
    columns = (over[:, 0] + begins - over[:, 1], under[:, 1] + begins - under[:, 0])
    return _merged(np.column_stack((*columns, closes - begins)))


def landed(origins: Origins, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int] | None]:
    """Where spans of the old text lie in the new one; None for those that were not kept whole."""
    if not origins or not spans:
        return [None] * len(spans)
    table = np.array(origins, np.int64)
    table = table[np.argsort(table[:, 1], kind="stable")]
    bounds = np.array(spans, np.int64)
    found = np.maximum(np.searchsorted(table[:, 1], bounds[:, 0], "right") - 1, 0)
    outputs, sources, lengths = table[found].T
    whole = (sources <= bounds[:, 0]) & (bounds[:, 1] <= sources + lengths)
    moved = bounds + (outputs - sources)[:, None]
    return [
        (start, end) if kept else None
        for (start, end), kept in zip(moved.tolist(), whole.tolist(), strict=True)
    ]


def without(length: int, cuts: Sequence[tuple[int, int]]) -> Origins:
    """What is left of a text of some length when spans of it, in order, are cut out."""
    starts = [0, *(end for _, end in cuts)]
    lengths = [
        end - start for start, end in zip(starts, [*(c[0] for c in cuts), length], strict=True)
    ]
    outputs = [start - gone for start, gone in zip(starts, _lost(cuts), strict=True)]
    return origins_of(outputs, starts, lengths)


def faithful(origins: Origins, source: str, text: str) -> bool:
    """Whether every run is in bounds, in order, and the same in both texts."""
    at = 0
    for begin, start, length in origins:
        if begin < at or start < 0 or length < 0:
            return False
        at = begin + length
        if text[begin:at] != source[start : start + length] or at > len(text):
            return False
    return True


def _lost(cuts: Sequence[tuple[int, int]]) -> list[int]:
    lost = [0]
    for start, end in cuts:
        lost.append(lost[-1] + end - start)
    return lost


def _merged(table: _Table) -> Origins:
    """Rows as runs, without empty ones, and neighbours on both sides made one."""
    table = table[table[:, 2] > 0]
    if not len(table):
        return ()
    outputs, sources, lengths = table.T
    goes_on = (outputs[:-1] + lengths[:-1] == outputs[1:]) & (
        sources[:-1] + lengths[:-1] == sources[1:]
    )
    opens = np.append(True, ~goes_on)
    closes = np.append(opens[1:], True)
    whole = outputs[closes] + lengths[closes] - outputs[opens]
    columns = (outputs[opens].tolist(), sources[opens].tolist(), whole.tolist())
    return tuple(zip(*columns, strict=True))
