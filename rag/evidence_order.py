"""In which order passages are shown: the best where models read best, or as caches know them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

import numpy as np

from tersely.order import seats
from tersely.retrieval import Passage

EvidenceOrder = Literal["relevance", "edges", "document", "cached"]
"""How passages follow each other.

`relevance`: the best first. `edges`: the best first, the second last, the third second, and so on
inward: what stands in the middle is read worst (Liu et al. 2023,
https://arxiv.org/abs/2307.03172). `document`: by source, the source of the best passage first, and
as they stand in it. `cached`: first what was sent in the same order a short time ago, so that a
backend that keeps the work on prefixes reads it from its cache, then the best first (CacheWeaver,
https://arxiv.org/abs/2606.19667); only for backends that do.
"""

SEQUENCES = 512
"""Rows that are remembered of each tenant and model."""

LONGEST = 64
"""Passages of a row that are remembered."""

SHELVES = 256
"""Tenants and models that are remembered."""

Key = str
"""By what a passage is known again: the same key stands for the same bytes."""


@dataclass(slots=True)
class _Node:
    """What followed a row of keys, and in how many rows it did."""

    rows: int = 0
    after: dict[Key, _Node] = field(default_factory=dict)


@dataclass(slots=True)
class _Shelf:
    """The rows of one tenant and model, those used last at the end."""

    root: _Node = field(default_factory=_Node)
    rows: OrderedDict[tuple[Key, ...], None] = field(default_factory=OrderedDict)

    def add(self, row: tuple[Key, ...], most: int) -> None:
        if row in self.rows:
            self.rows.move_to_end(row)
            return
        self.rows[row] = None
        node = self.root
        for key in row:
            node = node.after.setdefault(key, _Node())
            node.rows += 1
        while len(self.rows) > most:
            self._forget(self.rows.popitem(last=False)[0])

    def _forget(self, row: tuple[Key, ...]) -> None:
        node = self.root
        for key in row:
            node.after[key].rows -= 1
            if not node.after[key].rows:
                del node.after[key]
                return
            node = node.after[key]

    def path(self, sizes: dict[Key, int]) -> list[Key]:
        """The longest row of these keys that begins as rows before it did."""
        best: tuple[int, list[Key]] = (0, [])
        waiting: list[tuple[_Node, int, list[Key]]] = [(self.root, 0, [])]
        while waiting:
            node, size, path = waiting.pop()
            if size > best[0]:
                best = size, path
            waiting += [
                (node.after[key], size + sizes[key], [*path, key])
                for key in node.after.keys() & sizes.keys()
            ]
        return best[1]


class Recent:
    """The orders in which passages were sent of late, of each tenant and model apart.

    A bounded prefix tree; safe to use from several threads.
    """

    def __init__(self, *, sequences: int = SEQUENCES, shelves: int = SHELVES) -> None:
        self._sequences, self._most = sequences, shelves
        self._shelves: OrderedDict[tuple[str, str], _Shelf] = OrderedDict()
        self._lock = Lock()

    def arranged(
        self, keys: Sequence[Key], sizes: Sequence[int], *, tenant: str = "", model: str = ""
    ) -> list[int]:
        """The positions in the order in which they are best sent; given with the best first.

        Of all beginnings of rows that were sent before, the one of the greatest size that holds
        none but these keys goes first.
        """
        places = {key: i for i, key in reversed([*enumerate(keys)])}
        with self._lock:
            shelf = self._shelves.get((tenant, model))
            path = shelf.path({key: sizes[i] for key, i in places.items()}) if shelf else []
        first = [places[key] for key in path]
        return [*first, *(i for i in range(len(keys)) if i not in set(first))]

    def sent(self, keys: Sequence[Key], *, tenant: str = "", model: str = "") -> None:
        """Remember in which order these were sent."""
        if not keys:
            return
        with self._lock:
            shelf = self._shelves.setdefault((tenant, model), _Shelf())
            self._shelves.move_to_end((tenant, model))
            shelf.add(tuple(keys[:LONGEST]), self._sequences)
            while len(self._shelves) > self._most:
                self._shelves.popitem(last=False)

    def __len__(self) -> int:
        with self._lock:
            return sum(len(shelf.rows) for shelf in self._shelves.values())


RECENT = Recent()
"""What this process sent."""


def at_the_edges(passages: int) -> list[int]:
    """Positions of passages, given with the best first, from the edges inward."""
    worth = -np.arange(passages, dtype=np.float64)
    return list(map(int, seats(worth, np.zeros(passages, np.bool_), "edges")))


def by_document(passages: Sequence[Passage]) -> list[int]:
    """Positions of passages by their source, the one of the best first, and their place in it."""
    first = {one.source: i for i, one in reversed([*enumerate(passages)])}
    return sorted(
        range(len(passages)), key=lambda i: (first[passages[i].source], passages[i].start)
    )
