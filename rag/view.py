"""What searches see: the vectors of one generation, in segments that are shared and not changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from tersely.rag import rows
from tersely.rag.database import State
from tersely.rag.index_building import built, wide
from tersely.rag.rows import Halves
from tersely.rag.vector_index import IndexSettings, Segment, flat, unpacked
from tersely.units import Bools, Floats, Ints

NONE = np.zeros(0, np.int64)

FEW = 2048
"""So many rows are compared faster by reading their vectors than by any index."""

LOOSE = 1 / 3
"""The share of passages that may lie outside of the main segment, or be removed from it."""


@dataclass(frozen=True, slots=True)
class View:
    """The index of one generation.

    A reader keeps the view it has begun with. A later one shares its segments, adds small ones
    for new rows, and lists the rows of theirs that are `dead`. `last` is the highest row seen.
    """

    generation: int
    epoch: int
    last: int = 0
    segments: tuple[Segment, ...] = ()
    dead: Ints = field(default_factory=lambda: NONE)  # rising

    @property
    def alive(self) -> int:
        """How many rows can be found."""
        return sum(map(len, self.segments)) - len(self.dead)


def refreshed(
    view: View, connection: sqlite3.Connection, state: State, settings: IndexSettings
) -> View:
    """The view of the generation that a connection reads. Costs what has changed since."""
    if view.epoch != state.epoch:
        view = View(state.generation, state.epoch)
    if not state.width:
        return replace(view, generation=state.generation)
    new = _streamed(connection, state.width, view.last, _cap(settings))
    segments = [*view.segments, *new]
    last = max([view.last, *(int(one.rows[-1]) for one in segments)])
    dead = _dead(view, connection, state)
    whole, dead = _lightened(_joined(segments, _cap(settings)), dead)
    return View(state.generation, state.epoch, last, tuple(whole), dead)


def _cap(settings: IndexSettings) -> int:
    return max(settings.flat_rows, rows.ROWS_AT_ONCE)


def _streamed(
    connection: sqlite3.Connection, width: int, after: int, cap: int
) -> Iterator[Segment]:
    """Flat segments of about so many rows, made while all behind one are read."""
    stream = rows.all_halves(connection, width, after)
    for first in stream:
        yield flat(chain([first], _until(stream, cap - len(first[0]))))


def _until(stream: Iterator[tuple[Ints, Halves]], count: int) -> Iterator[tuple[Ints, Halves]]:
    while count > 0 and (some := next(stream, None)):
        count -= len(some[0])
        yield some


def _dead(view: View, connection: sqlite3.Connection, state: State) -> Ints:
    """The rows of a view's segments that are gone from the database, rising."""
    if not view.segments:
        return NONE
    held = np.concatenate([segment.rows for segment in view.segments])
    if view.generation < state.trimmed:
        return np.setdiff1d(held, rows.numbered(connection), assume_unique=True)
    query = "SELECT row FROM removed WHERE generation > ?"
    listed = connection.execute(query, (view.generation,))
    gone = np.fromiter((row for (row,) in listed), np.int64)
    return np.union1d(view.dead, np.intersect1d(held, gone)) if len(gone) else view.dead


def _joined(segments: list[Segment], cap: int) -> list[Segment]:
    """Small flat segments become larger ones, so that there are few and each row moves seldom."""
    segments = list(segments)
    while len(segments) > 1:
        left, right = segments[-2:]
        small = left.kind == right.kind == "flat" and len(left) + len(right) <= cap
        if not small or len(left) >= 2 * len(right):
            break
        segments[-2:] = [flat((one.rows, unpacked(one)) for one in (left, right))]
    return segments


def _lightened(segments: list[Segment], dead: Ints) -> tuple[list[Segment], Ints]:
    """Flat segments without their dead rows, once these are many."""
    kept: list[Segment] = []
    for segment in segments:
        gone = np.isin(segment.rows, dead, assume_unique=True) if len(dead) else None
        if gone is None or segment.kind != "flat" or gone.mean() < LOOSE:
            kept.append(segment)
            continue
        dead = np.setdiff1d(dead, segment.rows[gone], assume_unique=True)
        if not gone.all():
            kept.append(flat([(segment.rows[~gone], unpacked(segment)[~gone])]))
    return kept, dead


def settled(
    view: View, connection: sqlite3.Connection, state: State, settings: IndexSettings
) -> View:
    """The same rows in the kind of index that is right for so many of them."""
    count = view.alive
    kind = settings.kind_for(count)
    main = view.segments[0] if view.segments else None
    if not count or main is None:
        return replace(view, segments=(), dead=NONE)
    if main.kind == kind and len(main) + count - 2 * _within(view, main) <= LOOSE * count:
        return view
    if kind == "flat":
        return replace(view, segments=(flat(rows.all_halves(connection, state.width)),), dead=NONE)
    main = built(connection, kind, state.width, count, settings.recall)
    return replace(view, segments=(main,), dead=NONE)


def _within(view: View, main: Segment) -> int:
    """How many rows of the main segment are alive."""
    return len(main) - int(np.isin(main.rows, view.dead).sum())


def nearest(
    view: View, connection: sqlite3.Connection, vector: Floats, k: int, allowed: Ints | None
) -> tuple[Ints, Floats]:
    """The k rows whose vectors have the largest dot product with one, the best first.

    `allowed` are the rows that may be found, rising (None: all).
    """
    width = len(vector)
    if allowed is not None and len(allowed) <= FEW:
        return _best(*_compared(connection, allowed, vector, width), k)
    found = [_in_segment(view, connection, one, vector, k, allowed) for one in view.segments]
    numbers = np.concatenate([NONE, *(some for some, _ in found)])
    scores = np.concatenate([np.zeros(0), *(some for _, some in found)])
    return _best(numbers, scores, k)


def _in_segment(
    view: View,
    connection: sqlite3.Connection,
    segment: Segment,
    vector: Floats,
    k: int,
    allowed: Ints | None,
) -> tuple[Ints, Floats]:
    open_ = _open(segment, view.dead, allowed)
    if open_ is not None and segment.kind == "hnsw" and open_.mean() < 0.1:
        return _compared(connection, segment.rows[open_], vector, len(vector))  # see vector_index
    if segment.kind == "flat":
        return segment.search(vector, k, open_)
    candidates, _ = segment.search(vector, wide(k), open_)
    return _compared(connection, np.sort(candidates), vector, len(vector))


def _open(segment: Segment, dead: Ints, allowed: Ints | None) -> Bools | None:
    """The places of a segment that may be found; None: all."""
    if allowed is None and not len(dead):
        return None
    open_ = np.ones(len(segment), np.bool_)
    if allowed is not None:
        open_ = np.isin(segment.rows, allowed, assume_unique=True)
    if len(dead):
        places = np.searchsorted(segment.rows, dead)
        inside = places < len(segment)
        places, gone = places[inside], dead[inside]
        open_[places[segment.rows[places] == gone]] = False
    return open_


def _compared(
    connection: sqlite3.Connection, numbers: Ints, vector: Floats, width: int
) -> tuple[Ints, Floats]:
    """The dot products of rows that are there, by their vectors as kept."""
    found: list[tuple[Ints, Floats]] = [(NONE, np.zeros(0))]
    for start in range(0, len(numbers), rows.ROWS_AT_ONCE):
        some = numbers[start : start + rows.ROWS_AT_ONCE]
        there, halves = rows.halves(connection, some, width)
        found.append(
            (there, (halves.astype(np.float32) @ vector.astype(np.float32)).astype(np.float64))
        )
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def _best(numbers: Ints, scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The best k; of equals the older ones."""
    order = np.lexsort((numbers, -scores))[: max(k, 0)]
    return numbers[order], scores[order]
