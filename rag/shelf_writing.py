"""Put passages on a shelf, take them off, and keep its search index."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from tersely.errors import ConfigError, ModelError, StoreError
from tersely.rag import rows, snapshot
from tersely.rag.database import TOKENISER, State, facts_of, state_of, tell
from tersely.rag.filters import checked
from tersely.rag.remembered import spelling
from tersely.rag.rows import Chunk
from tersely.rag.shelf import Shelf
from tersely.rag.view import settled
from tersely.retrieval import Vectors
from tersely.units import Ints

Progress = Callable[[int], None]
"""Told how many passages are done."""

BATCH = 512
"""Passages that are embedded and written together, unless a caller says otherwise."""

SHARE = 4
"""The index is saved again when one in so many passages is new, so that it is seldom done."""

TOKENS_KEPT = 8
"""The last snapshots are vouched for: one may be loaded while the next is written."""


def add(
    shelf: Shelf, chunks: Iterable[Chunk], batch: int = BATCH, progress: Progress | None = None
) -> list[str]:
    """Put passages in, some at a time; tells their ids. Each batch is kept or not, as a whole.

    A passage with a known id takes the place of the old one; where nothing differs nothing is
    written, and a text that is there already is not embedded again.
    """
    if batch < 1:
        raise ConfigError(f"a batch holds at least one passage, was {batch}")
    ids: list[str] = []
    stream = iter(chunks)
    while some := list(islice(stream, batch)):
        _add(shelf, list({chunk.id: chunk for chunk in some}.values()))
        ids += [chunk.id for chunk in some]
        if progress:
            progress(len(ids))
    _save_if_due(shelf)
    return ids


def _add(shelf: Shelf, chunks: Sequence[Chunk]) -> None:
    with shelf.reading(index=False) as now:
        check(shelf, now.state, now.connection)
        new = _new(now.connection, chunks)
        known = rows.embedded(now.connection, [chunk.digest for chunk in new])
    if not new:
        return
    data = _embedded(shelf, new, known)
    with shelf.database.writing() as connection:
        state = state_of(connection)
        check(shelf, state, connection)
        _check_tokeniser(shelf, connection)
        width = len(next(iter(data.values()))) // 2 if data else 0
        if state.width and width != state.width:
            raise _mismatch(shelf, state, width)
        if not state.embedder:
            tell(connection, embedder=shelf.key, width=width, spelled=spelling(shelf.embedder))
        standing = rows.standing(connection, [chunk.id for chunk in new])
        tell(connection, generation=state.generation + 1)
        rows.remove(connection, [one[0] for one in standing.values()], state.generation + 1)
        rows.insert(connection, new, [data[one.digest] for one in new] if data else [])


def _new(connection: sqlite3.Connection, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The passages that are not there already, just as they are."""
    standing = rows.standing(connection, [chunk.id for chunk in chunks])
    return [one for one in chunks if standing.get(one.id, ())[1:] != (one.digest, one.metadata)]


def _embedded(
    shelf: Shelf, chunks: Sequence[Chunk], known: dict[bytes, bytes]
) -> dict[bytes, bytes]:
    """The vectors of texts by their digests. Only unknown texts are embedded, each once."""
    if shelf.embedder is None:
        return {}
    unknown = {one.digest: one.text for one in chunks if one.digest not in known}
    vectors = embed(shelf, list(unknown.values()))
    return known | dict(zip(unknown, rows.packed(vectors), strict=True))


def embed(shelf: Shelf, texts: Sequence[str]) -> Vectors:
    """The vectors of texts, made sure to be of length 1. Raises ModelError where they can't."""
    if shelf.embedder is None or not texts:
        return np.zeros((0, 0), np.float32)
    vectors = np.asarray(shelf.embedder.documents(texts), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
        raise ModelError(
            f"{shelf.key!r} gave vectors of shape {vectors.shape} for {len(texts)} texts"
        )
    if not np.isfinite(vectors).all():
        bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise ModelError(f"{shelf.key!r} gave no finite vector for {texts[bad][:40]!r}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def check(shelf: Shelf, state: State, connection: sqlite3.Connection) -> None:
    """Raise ConfigError unless the store's texts were embedded by the embedder it has now."""
    if shelf.key == state.embedder:
        return
    if state.embedder or connection.execute("SELECT 1 FROM chunks LIMIT 1").fetchone():
        raise _mismatch(shelf, state, None)


def _mismatch(shelf: Shelf, state: State, width: int | None) -> ConfigError:
    mine = shelf.key
    wide = shelf.embedder.width if shelf.embedder and width is None else width
    held = f"vectors of {state.embedder!r} ({state.width} wide)" if state.embedder else "no vectors"
    given = f"with {mine!r} ({wide} wide)" if mine else "without an embedder"
    again = f"with {state.embedder!r}" if state.embedder else "without one"
    return ConfigError(
        f"the store at {str(shelf.database.folder)!r} holds {held} and was opened {given}: open it"
        f" {again}, or call reindex() to embed its texts again"
    )


def _check_tokeniser(shelf: Shelf, connection: sqlite3.Connection) -> None:
    if facts_of(connection)["tokeniser"] != TOKENISER:
        raise StoreError(
            f"the store at {str(shelf.database.folder)!r} was opened by another release meanwhile,"
            " which cuts texts into other words: open it again"
        )


def remove(shelf: Shelf, ids: Sequence[str] | None, wanted: Any) -> int:
    """Take out the passages with these ids that a filter allows; tells how many there were."""
    wanted = checked(wanted)
    with shelf.database.writing() as connection:
        _check_tokeniser(shelf, connection)
        numbers = rows.numbered(connection) if ids is None else _numbers(connection, ids)
        allowed = shelf.allowed(connection, wanted)
        if allowed is not None:
            numbers = np.intersect1d(numbers, allowed)
        if len(numbers):
            generation = state_of(connection).generation + 1
            tell(connection, generation=generation)
            rows.remove(connection, numbers.tolist(), generation)
    return len(numbers)


def _numbers(connection: sqlite3.Connection, ids: Sequence[str]) -> Ints:
    found = rows.standing(connection, ids)
    return np.array([row for row, *_ in found.values()], np.int64)


def save(shelf: Shelf) -> None:
    """Make the search index that is right for so many passages, and write it down.

    A store opens without it as well; it then reads all vectors. What is written appears whole.
    """
    with shelf.database.lock:
        with shelf.reading() as now:
            if now.view is None or not now.state.width:
                return
            view = settled(now.view, now.connection, now.state, shelf.settings)
            scratch, token = snapshot.write(shelf.database.folder, view, now.state)
        with shelf.database.writing() as connection:
            connection.execute("INSERT INTO snapshots VALUES (?, ?)", (token, view.generation))
            latest = "SELECT token FROM snapshots ORDER BY rowid DESC LIMIT ?"
            connection.execute(
                f"DELETE FROM snapshots WHERE token NOT IN ({latest})", (TOKENS_KEPT,)
            )
            connection.execute("DELETE FROM removed WHERE generation <= ?", (view.generation,))
            tell(connection, trimmed=view.generation, saved=view.last)
        snapshot.publish(shelf.database.folder, scratch, view.generation, token)
        shelf.adopt(view)


def _save_if_due(shelf: Shelf) -> None:
    """Save when enough has changed since the last time."""
    if not shelf.settings.save_every or shelf.embedder is None:
        return
    with shelf.reading(index=False) as now:
        query = (
            "SELECT (SELECT TOTAL(seq) FROM sqlite_sequence WHERE name = 'chunks')"
            " + (SELECT COUNT(*) FROM removed)"
        )
        saved = int(facts_of(now.connection)["saved"])
        changed = now.connection.execute(query).fetchone()[0] - saved
        if changed < shelf.settings.save_every:
            return
        count = now.connection.execute("SELECT COUNT(*) FROM chunks").fetchone()[0]
    if changed * SHARE >= count:
        save(shelf)


def reindex(shelf: Shelf, batch: int = BATCH, progress: Progress | None = None) -> None:
    """Embed all texts again, with the embedder the store has now; kept or not as a whole.

    Readers go on meanwhile with what there is; writers wait.
    """
    with shelf.database.writing() as connection:
        state = state_of(connection)
        connection.execute("DELETE FROM vectors")
        cursor = connection.execute("SELECT row, text FROM chunks ORDER BY row")
        width, done = 0, 0
        while shelf.embedder and (some := cursor.fetchmany(batch)):
            vectors = embed(shelf, [text for _, text in some])
            data = zip([row for row, _ in some], rows.packed(vectors), strict=True)
            connection.executemany("INSERT INTO vectors VALUES (?, ?)", list(data))
            width, done = vectors.shape[1], done + len(some)
            if progress:
                progress(done)
        key = shelf.key if done else ""
        named = spelling(shelf.embedder) if done else ""
        tell(connection, embedder=key, width=width, spelled=named, saved=0)
        tell(connection, generation=state.generation + 1, epoch=state.epoch + 1)
    _save_if_due(shelf)
