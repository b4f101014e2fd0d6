"""The passages of one tenant: kept in a database, found by words and by vectors."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tersely.errors import ConfigError, RequestError, require
from tersely.rag import rows, snapshot
from tersely.rag.database import Database, State, state_of
from tersely.rag.filters import Filters, checked
from tersely.rag.vector_index import IndexSettings
from tersely.rag.view import View, nearest, refreshed
from tersely.retrieval import Embedder, Passage, Vectors
from tersely.units import Floats, Ints

Scored = list[tuple[str, float]]
"""Ids and their scores, the best first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One generation, as a thread reads it. `view` is None where no vectors are looked at."""

    connection: sqlite3.Connection
    state: State
    view: View | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a store holds.

    `bytes` are those of its database, and `index_bytes` those of its saved search index. `kinds`
    are the kinds of index that are searched, and `removed` counts passages that are gone and
    still take room in them. `damaged` names snapshots that were put aside.
    """

    tenant: str
    passages: int
    sources: int
    generation: int
    embedder: str
    width: int
    kinds: tuple[str, ...]
    removed: int
    bytes: int
    index_bytes: int
    damaged: tuple[str, ...] = ()


class Shelf:
    """What a store reads, apart from LangChain's shapes. Safe across threads and processes.

    Each read sees one generation wholly; within `reading()` all reads of a thread see the same.
    """

    def __init__(
        self, folder: Path, tenant: str, embedder: Embedder | None, settings: IndexSettings
    ) -> None:
        if embedder is not None:
            require("faiss", extra="rag")
        self.database = Database(folder, tenant)
        self.embedder = embedder
        self.settings = settings
        self._filters = Filters()
        self._view: View | None = None
        self._fresh = threading.RLock()  # held while the view is made newer
        self._pinned = threading.local()

    @cached_property
    def key(self) -> str:
        """What the embedder's vectors are known by; "" without one. It may load a model."""
        return self.embedder.key if self.embedder else ""

    @contextmanager
    def reading(self, *, index: bool = True) -> Iterator[Reading]:
        """Read one generation until the block is left; with the index or without."""
        pinned: Reading | None = getattr(self._pinned, "reading", None)
        if pinned is not None:
            yield pinned
            return
        with self.database.reading() as connection:
            # views only grow newer: the first look at the database decides which one is ours
            with self._fresh if index else nullcontext():
                state = state_of(connection)
                view = self._refreshed(connection, state) if index else None
            self._pinned.reading = Reading(connection, state, view)
            try:
                yield self._pinned.reading
            finally:
                self._pinned.reading = None

    def dense(self, vector: Any, k: int, wanted: Any = None) -> Scored:
        """The ids of the k passages nearest to a vector of length 1, and their cosines."""
        wanted = checked(wanted)
        with self.reading() as now:
            asked = _query(vector, now.state)
            if k < 1 or not now.state.width or now.view is None:
                return []
            allowed = self.allowed(now.connection, wanted)
            numbers, scores = nearest(now.view, now.connection, asked, k, allowed)
            ids = rows.named(now.connection, numbers)
        return list(zip(ids, np.clip(scores, -1, 1).tolist(), strict=True))

    def lexical(self, question: str, k: int, wanted: Any = None) -> Scored:
        """The ids of the k passages that share the words of a question best, and their BM25."""
        wanted = checked(wanted)
        with self.reading(index=False) as now:
            allowed = self.allowed(now.connection, wanted)
            found = rows.lexical(now.connection, question, k, allowed)
            ids = rows.named(now.connection, np.array([row for row, _ in found], np.int64))
        return list(zip(ids, [score for _, score in found], strict=True))

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """The vectors of passages, in their order. Raises RequestError for unknown ids."""
        with self.reading(index=False) as now:
            if not now.state.width:
                raise ConfigError("this store holds no vectors: it has no embedder")
            known = rows.standing(now.connection, ids)
            unknown = [name for name in ids if name not in known]
            if unknown:
                raise RequestError(f"no passage with the id {unknown[0]!r} is in this store")
            numbers = np.array([known[name][0] for name in ids], np.int64)
            there, halves = rows.halves(now.connection, numbers, now.state.width)
        return halves[np.searchsorted(there, numbers)].astype(np.float32)

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages of these ids, in their order. Unknown ones are left out."""
        with self.reading(index=False) as now:
            return rows.passages(now.connection, ids)

    def stats(self) -> Stats:
        """What the store holds."""
        with self.reading() as now:
            count = "SELECT COUNT(*), COUNT(DISTINCT NULLIF(source, '')) FROM chunks"
            passages, sources = now.connection.execute(count).fetchone()
            view = now.view or View(0, 0)
        folder = self.database.folder
        return Stats(
            tenant=self.database.tenant,
            passages=passages,
            sources=sources,
            generation=now.state.generation,
            embedder=now.state.embedder,
            width=now.state.width,
            kinds=tuple(dict.fromkeys(segment.kind for segment in view.segments)),
            removed=len(view.dead),
            bytes=sum(map(snapshot.file_size, folder.glob(f"{self.database.path.name}*"))),
            index_bytes=snapshot.size(folder),
            damaged=snapshot.quarantined(folder),
        )

    def adopt(self, view: View) -> None:
        """Search in another index of the same rows from now on, unless there is a newer one."""
        with self._fresh:
            known = self._view
            if known and (known.epoch, known.generation) == (view.epoch, view.generation):
                self._view = view

    def allowed(self, connection: sqlite3.Connection, wanted: Any) -> Ints | None:
        """The rows that a filter allows; None for all."""
        return self._filters.rows(connection, wanted) if wanted is not None else None

    def _refreshed(self, connection: sqlite3.Connection, state: State) -> View:
        view = self._view
        if view is None or view.epoch != state.epoch:
            view = snapshot.load(self.database.folder, state, self.database.vouches)
        start = view or View(state.generation, state.epoch)
        if view is None or view.generation != state.generation:
            start = refreshed(start, connection, state, self.settings)
        self._view = start
        return start


def _query(vector: Any, state: State) -> Floats:
    """A vector to search with. Raises ConfigError when it is of another width."""
    asked = np.asarray(vector, np.float64).reshape(-1)
    if state.width and len(asked) != state.width:
        raise ConfigError(
            f"a vector of {len(asked)} numbers was given, and this store holds vectors of"
            f" {state.width} by {state.embedder!r}: search with what embedded its texts"
        )
    length = float(np.linalg.norm(asked))
    if not np.isfinite(length):
        raise RequestError("the vector to search with holds numbers that are not finite")
    return asked / length if length else asked
