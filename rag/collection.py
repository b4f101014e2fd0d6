"""Text files in a store: brought up to date, searched, and told of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tersely.collection import Added, Watch
from tersely.errors import ConfigError, RequestError, StoreError
from tersely.models import CATALOGUE
from tersely.rag import rows, shelf_writing
from tersely.rag.database import FILE
from tersely.rag.documents import pieces
from tersely.rag.embedding import AUTO, as_embedder, best
from tersely.rag.files import READ_FROM, ROWS, Reading, listed
from tersely.rag.filters import checked
from tersely.rag.remembered import remembered
from tersely.rag.retriever import Retriever
from tersely.rag.store import FaissStore, folder_of
from tersely.registry import EMBEDDERS, spelled
from tersely.tokens import counter

BATCH = 256
"""Passages that are kept together: what is lost at most when the work is broken off."""

AT_ONCE = 100
"""Files that are looked up together in a store."""


class FileCollection:
    """The passages of text files in the folder of a `FaissStore`, for one `tenant`.

    `embedder` is the name of one, or a model's ("" is none), by which a new store is made.
    "auto" is the best at hand then. A store remembers its embedder: it is opened with that, and
    another name is an error. Nothing is opened or made before it is needed.
    """

    def __init__(self, folder: str | Path, *, embedder: str = AUTO, tenant: str = "") -> None:
        self.folder = Path(folder).expanduser()
        self.tenant = tenant
        self._named = embedder
        self._store: FaissStore | None = None

    def ready(self) -> str:
        """Open it, or make it where there is none; tells what embeds.

        Raises ConfigError when it was made with another embedder, UnknownName and StoreError.
        """
        store, why = self._opened()
        return f"{_told(store)}{f' ({why})' if why else ''}"

    def files(self, paths: Sequence[Path], globs: Sequence[str] = ()) -> list[Path]:
        """The files that paths lead to; of folders all below them whose names fit a glob.

        Hidden ones and this collection's own are left out. Raises RequestError when there is none.
        """
        return listed(paths, globs, self.folder)

    def add(
        self,
        files: Sequence[Path],
        *,
        encoding: str = "utf-8",
        size: int = 128,
        watch: Watch | None = None,
    ) -> Added:
        """Bring the passages of these files up to date; they have `size` tokens at most.

        What is there already is not embedded again, and what is gone from a file is deleted when
        all files are read. What was added before a break stays: adding the same again goes on.
        Not all of a long file is held in memory, only the ids of all passages are.

        Raises RequestError when no file holds text, or a row is wrong, and what `ready` raises.
        """
        store, _ = self._opened()
        reading = Reading(encoding)
        before = _count(store)

        def told(kept: int) -> None:
            if watch is not None:
                watch(reading.bytes, kept)

        cut = pieces(reading.documents(files), size=size, count=counter())
        ids = store.add_documents(cut, batch_size=BATCH, progress=told)
        if not reading.done:
            name, why = next(iter(reading.skipped.items()))
            raise RequestError(f"nothing to read: {name} can't be taken, {why}")
        deleted = _delete(store, _gone(store, reading.done, set(ids)))
        new = _count(store) - before + deleted
        if new or deleted:
            store.save()
        return Added(
            files=len(reading.done),
            passages=len(ids),
            new=max(new, 0),
            deleted=deleted,
            skipped=reading.skipped,
        )

    def prune(self, folders: Sequence[Path]) -> int:
        """Delete what came from files below these folders that are there no more."""
        here: dict[str, bool] = {}

        def gone(metadata: Mapping[str, Any]) -> bool:
            name = metadata.get(READ_FROM)
            if not isinstance(name, str) or not any(map(Path(name).is_relative_to, folders)):
                return False
            return not here.setdefault(name, Path(name).exists())

        return shelf_writing.remove(self._existing().shelf, None, gone)

    def delete(self, sources: Sequence[str] = (), ids: Sequence[str] = ()) -> int:
        """Delete all passages of these sources, and those with these ids; tells how many."""
        store = self._existing()
        named = {"source": {"$in": list(sources)}}
        return shelf_writing.remove(store.shelf, None, named) + _delete(store, ids)

    def searcher(self, filter: Any = None, threshold: float | None = None) -> Retriever:
        """What finds passages by words and meaning; see `Retriever` and `Finding`.

        Raises StoreError where there is nothing to search, and what `ready` raises.
        """
        return Retriever(store=self._existing(), filter=filter, threshold=threshold)

    def stats(self) -> Mapping[str, Any]:
        """What it holds, by name. Raises StoreError where there is nothing."""
        store = self._existing()
        return {**asdict(store.stats()), "embedder": _told(store)}

    def _existing(self) -> FaissStore:
        """The store, where there is one."""
        if not (folder_of(self.folder, self.tenant) / FILE).is_file():
            whose = f" of tenant {self.tenant!r}" if self.tenant else ""
            raise StoreError(f"there is no index{whose} at {str(self.folder)!r}")
        return self._opened()[0]

    def _opened(self) -> tuple[FaissStore, str]:
        """The store with its embedder, and why it is that one."""
        if self._store is not None:
            return self._store, ""
        bare = FaissStore(self.folder, tenant=self.tenant)
        try:
            named, why = self._embedder(remembered(bare.shelf))
        finally:
            bare.close()
        self._store = FaissStore(self.folder, embedder=named, tenant=self.tenant)
        return self._store, why

    def _embedder(self, known: Any) -> tuple[Any, str]:
        """What the store is opened with, and why."""
        if self._named == AUTO:
            return best() if known is None else (known, "")
        made = as_embedder(_lasting(self._named))
        name = spelled(made) if made is not None else ""
        if known not in (None, name):
            raise ConfigError(
                f"the index at {str(self.folder)!r} was made with the embedder {known!r}, not"
                f" {name!r}: leave that out, or make another index"
            )
        return made, ""


def _lasting(name: str) -> str:
    """The name of an embedder as it can be remembered: of a folder, its whole path."""
    known = name in (*EMBEDDERS, *CATALOGUE) or not name
    folder = Path(name).expanduser()
    return str(folder.resolve()) if not known and folder.is_dir() else name


def _told(store: FaissStore) -> str:
    embedder = store.shelf.embedder
    if embedder is None:
        return "none: found by words alone"
    return str(spelled(embedder))


def _count(store: FaissStore) -> int:
    with store.shelf.reading(index=False) as now:
        return int(now.connection.execute("SELECT COUNT(*) FROM chunks").fetchone()[0])


def _gone(store: FaissStore, files: Sequence[str], kept: set[str]) -> Iterator[str]:
    """The ids of passages that were read from these files and are there no more."""
    texts = [name for name in files if not name.endswith(ROWS)]
    for some in (texts[i : i + AT_ONCE] for i in range(0, len(texts), AT_ONCE)):
        wanted = {"source": {"$in": some}, READ_FROM: {"$in": some}}  # a source is found fast
        yield from (name for name in _ids(store, wanted) if name not in kept)
    for name in files:
        if name.endswith(ROWS):
            yield from (one for one in _ids(store, {READ_FROM: name}) if one not in kept)


def _ids(store: FaissStore, wanted: Any) -> list[str]:
    with store.shelf.reading(index=False) as now:
        allowed = store.shelf.allowed(now.connection, checked(wanted))
        numbers = rows.numbered(now.connection)
        here = numbers if allowed is None else np.intersect1d(numbers, allowed)
        return rows.named(now.connection, here)


def _delete(store: FaissStore, ids: Iterable[str]) -> int:
    names = list(ids)
    return shelf_writing.remove(store.shelf, names, None) if names else 0
