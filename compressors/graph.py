"""How much each sentence says of what all of them say: by a graph of sentences, or their centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tersely.compressors.sentences import Vectors, vectors
from tersely.contracts import Context
from tersely.lexical import tf_idf
from tersely.units import Floats, Ints

EDGE = 0.1
"""The likeness (a cosine) from which two sentences are neighbours, as published."""

NEIGHBOURS = 64
"""A sentence has no more neighbours than this, the nearest ones, so that memory grows linearly."""

DAMPING = 0.85
"""How often a walk goes on to a neighbour rather than begins anew."""

STEPS, SETTLED = 100, 1e-6
"""A walk ends after so many steps, or when the chances change by less than that in all."""

CHECKED = 256
"""Rows between two looks at the time budget."""


class Likeness(Protocol):
    """Texts that can be compared with each other."""

    def __len__(self) -> int: ...
    def to(self, row: int, /) -> Floats:
        """The cosine of all texts with one of them. Shape: (texts,)."""
        ...

    def central(self) -> Floats:
        """The cosine of all texts with what they have in common. Shape: (texts,)."""
        ...


@dataclass(frozen=True, slots=True)
class ByMeaning:
    """Texts as vectors of an encoder, each of length 1. Shape: (texts, width)."""

    rows: Vectors

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, row: int, /) -> Floats:
        cosines: Floats = (self.rows @ self.rows[row]).astype(np.float64)
        return cosines

    def central(self) -> Floats:
        centre = self.rows.sum(axis=0)
        cosines = self.rows @ (centre / max(float(np.linalg.norm(centre)), 1e-12))
        found: Floats = cosines.astype(np.float64)
        return found


@dataclass(frozen=True, slots=True)
class ByWords:
    """Texts as their words by tf-idf: text `rows[i]` has word `columns[i]` with `weights[i]`.

    The weights of one text have the length 1. Shape of the three: (words of all texts,).
    """

    texts: int
    width: int
    rows: Ints
    columns: Ints
    weights: Floats

    def __len__(self) -> int:
        return self.texts

    def to(self, row: int, /) -> Floats:
        first, after = np.searchsorted(self.rows, [row, row + 1])
        own = np.zeros(self.width)
        own[self.columns[first:after]] = self.weights[first:after]
        return self._against(own)

    def central(self) -> Floats:
        centre = np.bincount(self.columns, self.weights, self.width)
        return self._against(centre / max(float(np.linalg.norm(centre)), 1e-12))

    def _against(self, words: Floats) -> Floats:
        found = np.bincount(self.rows, self.weights * words[self.columns], self.texts)
        return found.astype(np.float64)


def likeness(texts: Sequence[str], encoder: str, context: Context) -> Likeness:
    """The texts by their meaning, or by their words where no encoder is named."""
    if encoder:
        return ByMeaning(vectors(texts, encoder, context))
    return ByWords(len(texts), *tf_idf(texts))


def walked(texts: Likeness, start: Floats, context: Context) -> Floats:
    """How often a walk from text to like text comes by each of them. Shape: (texts,).

    It begins anew at texts by their share of `start`, which is not below 0: everywhere alike for
    what all is about (LexRank, Erkan and Radev 2004, https://arxiv.org/abs/1109.2128), at what
    answers for what a question is about (Otterbacher et al. 2005,
    https://aclanthology.org/H05-1115). Raises OutOfTime.
    """
    total = float(start.sum())
    begun = start / total if total > 0 else np.full(len(texts), 1 / max(len(texts), 1))
    ones, others, chances = _edges(texts, context)
    lost = np.bincount(ones, chances, len(texts)) <= 0
    found = begun
    for _ in range(STEPS):
        moved = np.bincount(others, found[ones] * chances, len(texts))
        after = (1 - DAMPING) * begun + DAMPING * (moved + float(found[lost].sum()) * begun)
        settled = float(np.abs(after - found).sum()) < SETTLED
        found = after
        if settled:
            break
    return found


def _edges(texts: Likeness, context: Context) -> tuple[Ints, Ints, Floats]:
    """From which text to which a walk may go, and how likely it is there. Shape: (edges,) each."""
    ones, others, chances = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for row in range(len(texts)):
        if row % CHECKED == 0:
            context.check()
        near = texts.to(row)
        near[row] = 0.0
        best = np.flatnonzero(near >= EDGE)
        if len(best) > NEIGHBOURS:
            best = np.sort(best[np.argsort(-near[best], kind="stable")[:NEIGHBOURS]])
        if len(best):
            ones.append(np.full(len(best), row))
            others.append(best)
            chances.append(near[best] / near[best].sum())
    return np.concatenate(ones), np.concatenate(others), np.concatenate(chances)
