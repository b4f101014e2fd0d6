"""What a question looks like, as numbers: its words, their pieces, and how it opens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import numpy as np

from tersely.units import Floats, Ints

WIDTH = 2**14
"""Places that n-grams are hashed to."""

READ = 1_000
"""Characters of a question that are read: what is asked stands at its beginning, as a rule."""

OPENING = 4
"""Words that open a question, each a feature of its own by its place."""

CHARACTERS = (3, 4, 5)
"""Lengths of the runs of characters, none of which leaves its word."""

_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Sparse:
    """Rows of numbers, nearly all of them 0: which row, which column, what stands there."""

    rows: Ints
    columns: Ints
    values: Floats
    shape: tuple[int, int]

    def times(self, weights: Floats) -> Floats:
        """Each row's sum of its values, weighted. Shape: (columns,) to (rows,)."""
        worth = self.values * weights[self.columns]
        return np.asarray(np.bincount(self.rows, worth, minlength=self.shape[0]), np.float64)

    def back(self, weights: Floats) -> Floats:
        """Each column's sum of its values, weighted by rows. Shape: (rows,) to (columns,)."""
        worth = self.values * weights[self.rows]
        return np.asarray(np.bincount(self.columns, worth, minlength=self.shape[1]), np.float64)

    def scaled(self, worth: Floats) -> Sparse:
        """Columns times their worth, and each row then of length 1."""
        values = self.values * worth[self.columns]
        lengths = np.sqrt(np.bincount(self.rows, values**2, minlength=self.shape[0]))
        return Sparse(self.rows, self.columns, values / lengths.clip(1e-12)[self.rows], self.shape)

    def rarity(self) -> Floats:
        """What columns are worth by how few rows have something there. Shape: (columns,)."""
        having = np.bincount(self.columns, minlength=self.shape[1])
        return np.log((1 + self.shape[0]) / (1 + having)) + 1


def counted(questions: Sequence[str]) -> Sparse:
    """The n-grams of questions, counted and dampened. Shape: (questions, WIDTH)."""
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for row, question in enumerate(questions):
        places = Counter(crc32(name.encode(errors="replace")) % WIDTH for name in _names(question))
        rows += [row] * len(places)
        columns += places.keys()
        values += places.values()
    dampened = 1 + np.log(np.array(values, np.float64).reshape(-1))
    shape = (len(questions), WIDTH)
    return Sparse(np.array(rows, np.int64), np.array(columns, np.int64), dampened, shape)


def _names(question: str) -> Iterator[str]:
    """The features of a question, by their names."""
    words = _TOKEN.findall(question[:READ].lower())
    yield from (f"{place}^{word}" for place, word in enumerate(words[:OPENING]))
    yield f"^{' '.join(words[:2])}"
    yield f"^{' '.join(words[:3])}"
    yield f"${words[-1] if words else ''}"
    yield f"#{min(len(words).bit_length(), 9)}"
    yield from words
    yield from (f"{first} {second}" for first, second in pairwise(words))
    for word in words:
        spelled = f"<{word}>"
        for size in CHARACTERS:
            yield from (f"~{spelled[i : i + size]}" for i in range(len(spelled) - size + 1))
