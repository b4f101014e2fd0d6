"""Make an index of what a database holds: read in streams, tuned by asking it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tersely.rag import rows
from tersely.rag.vector_index import Kind, Segment, empty, sample_size
from tersely.units import Ints

TRIALS = 64
"""Passages that are searched for to find out how much effort a recall takes."""

BEST = 10
"""The recall is that of so many best."""

SEED = 0
"""What is learnt from is drawn at random, but the same each time."""


def wide(k: int) -> int:
    """How many candidates are taken to find the best k among them by the vectors as kept."""
    return 2 * k + 16


def built(
    connection: sqlite3.Connection, kind: Kind, width: int, count: int, recall: float
) -> Segment:
    """One segment of that kind over all `count` rows that have a vector.

    The rows are gone through twice, some at a time: at most what is learnt from is held.
    """
    learnt = _sample(connection, width, sample_size(kind, count) / count)
    index = empty(kind, count, learnt)
    queries = learnt[np.random.default_rng(SEED).permutation(len(learnt))[:TRIALS]]
    del learnt
    numbers: list[Ints] = []
    nearest = _Nearest(queries)
    for some, halves in rows.all_halves(connection, width):
        vectors = halves.astype(np.float32)
        index.add(vectors)
        if kind in ("ivf", "hnsw"):
            nearest.see(vectors)
        numbers.append(some)
    segment = Segment(kind, np.concatenate(numbers), index)
    return replace(segment, effort=_effort(segment, nearest, recall))


def _sample(connection: sqlite3.Connection, width: int, share: float) -> NDArray[np.float32]:
    random = np.random.default_rng(SEED)
    drawn: list[rows.Halves] = []
    for some, halves in rows.all_halves(connection, width):
        chosen = random.random(len(some)) < share
        drawn.append(halves[chosen | (not drawn and np.arange(len(some)) < TRIALS)])
    return np.concatenate(drawn).astype(np.float32)


class _Nearest:
    """The true nearest of some queries, kept while all vectors come by."""

    def __init__(self, queries: NDArray[np.float32]) -> None:
        self.queries = queries
        self.places = np.full((len(queries), BEST + 1), -1, np.int64)
        self.scores = np.full((len(queries), BEST + 1), -np.inf, np.float32)
        self._seen = 0

    def see(self, vectors: NDArray[np.float32]) -> None:
        """Look at the next vectors."""
        places = np.arange(self._seen, self._seen + len(vectors))
        self._seen += len(vectors)
        scores = np.concatenate([self.scores, self.queries @ vectors.T], axis=1)
        known = [self.places, np.broadcast_to(places, (len(self.queries), len(places)))]
        best = np.argpartition(-scores, BEST, axis=1)[:, : BEST + 1]
        self.scores = np.take_along_axis(scores, best, axis=1)
        self.places = np.take_along_axis(np.concatenate(known, axis=1), best, axis=1)

    def others(self) -> Ints:
        """Without each query itself, which is the nearest to itself. Shape: (queries, 10)."""
        order = np.argsort(-self.scores, axis=1, kind="stable")[:, 1:]
        return np.take_along_axis(self.places, order, axis=1)


def _effort(segment: Segment, nearest: _Nearest, recall: float) -> int:
    """The least effort, in steps of about a fifth, that reaches a recall."""
    if segment.kind not in ("ivf", "hnsw"):
        return 0
    true = nearest.others()
    most = segment.index.nlist if segment.kind == "ivf" else len(segment)
    effort = 1 if segment.kind == "ivf" else wide(BEST)
    while effort < most and _recall(segment, nearest.queries, true, effort) < recall:
        effort = min(most, effort + max(1, effort // 5))
    return int(effort)


def _recall(segment: Segment, queries: NDArray[np.float32], true: Ints, effort: int) -> float:
    found, _ = segment.places(queries, wide(BEST) + 1, effort=effort)
    hits = [np.isin(a, b[b >= 0]).sum() for b, a in zip(found, true, strict=True)]
    return float(sum(hits) / max(1, int((true >= 0).sum())))
