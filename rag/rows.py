"""What stands in a store, row by row: written, found and removed within a transaction."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersely.errors import RequestError
from tersely.lexical import TERM, terms_of
from tersely.rag.words import term_of
from tersely.retrieval import Passage, Vectors
from tersely.units import Ints

Halves = NDArray[np.float16]
"""Vectors as they are kept. Shape: (rows, width)."""

ROWS_AT_ONCE = 8192
"""So many vectors are held when all are gone through: 6 MB of them at 384 numbers each."""

FEW = 256
"""So many values fit into one statement well."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A text on its way into the store, with its metadata as JSON and its words as terms."""

    id: str
    text: str
    metadata: str
    source: str
    digest: bytes
    terms: str


def chunk_of(text: str, metadata: Mapping[str, Any], name: str | None) -> Chunk:
    """A text made ready. Without an id, equal texts with equal metadata get the same one.

    Raises RequestError for what can't be kept as it is.
    """
    packed = _packed(text, metadata)
    if name is not None and not is_whole(name):
        raise RequestError(f"the id {name!r} holds half a character: it can't be kept")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the text {text[:40]!r}... holds half a character at {error.start}: it can't be"
            " kept; clean it with text.encode(errors='replace').decode()"
        ) from error
    source = metadata.get("source", "")
    return Chunk(
        id=name or hashlib.sha256(_parted(data, packed.encode())).hexdigest()[:32],
        text=text,
        metadata=packed,
        source=source if isinstance(source, str) and is_whole(source) else "",
        digest=hashlib.sha256(data).digest()[:16],
        terms=worded(text),
    )


def worded(text: str) -> str:
    """A text's terms, as `tersely.lexical.terms_of` gives them, with spaces between."""
    return " ".join(term for word in TERM.findall(text.lower()) if (term := term_of(word)))


def _parted(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8) + part for part in parts)


def is_whole(text: str) -> bool:
    """Whether a text holds no half of a character (a lone surrogate), so that it can be kept."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _packed(text: str, metadata: Mapping[str, Any]) -> str:
    """Metadata as JSON, sure to come back as it is."""
    try:
        made = json.dumps(dict(metadata))
        if json.loads(made) == metadata:
            return made
    except (TypeError, ValueError):
        pass
    for key, value in metadata.items():
        try:
            kept = json.loads(json.dumps({key: value}))
        except (TypeError, ValueError) as error:
            raise RequestError(_unkept(text, key, value)) from error
        if kept != {key: value} and value == value:  # NaN differs from itself
            raise RequestError(_unkept(text, key, value))
    return json.dumps(dict(metadata))


def _unkept(text: str, key: object, value: object) -> str:
    return (
        f"metadata {key!r} of {text[:40]!r} is {value!r} ({type(value).__name__}), which would"
        " not come back as it is: give text, numbers, lists or mappings with names as keys"
    )


def standing(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """The rows of these ids, by id: (row, digest, metadata). Unknown ids are left out."""
    query = "SELECT id, row, digest, metadata FROM chunks WHERE id IN (%s)"
    return {row[0]: row[1:] for row in _with(connection, query, filter(is_whole, ids))}


def embedded(connection: sqlite3.Connection, digests: Iterable[bytes]) -> dict[bytes, bytes]:
    """The vectors of texts that are there already, by the digests of the texts."""
    query = "SELECT digest, data FROM chunks JOIN vectors USING (row) WHERE digest IN (%s)"
    return dict(_with(connection, query, digests))


def insert(connection: sqlite3.Connection, chunks: Sequence[Chunk], data: Sequence[bytes]) -> None:
    """Write new rows; `data` are their vectors, or nothing."""
    last = connection.execute("SELECT TOTAL(seq) FROM sqlite_sequence WHERE name = 'chunks'")
    first = int(last.fetchone()[0]) + 1
    connection.executemany(
        "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
        [
            (first + i, chunk.id, chunk.source, chunk.digest, chunk.text, chunk.metadata)
            for i, chunk in enumerate(chunks)
        ],
    )
    connection.executemany(
        "INSERT INTO words (rowid, terms) VALUES (?, ?)",
        [(first + i, chunk.terms) for i, chunk in enumerate(chunks)],
    )
    vectors = [(first + i, one) for i, one in enumerate(data)]
    connection.executemany("INSERT INTO vectors VALUES (?, ?)", vectors)


def remove(connection: sqlite3.Connection, rows: Sequence[int], generation: int) -> None:
    """Remove rows, with their words and vectors."""
    numbers = [(int(row),) for row in rows]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        query = "SELECT row, text FROM chunks WHERE row IN (SELECT value FROM %s)"
        some = _listed(connection, query, map(int, rows[start : start + ROWS_AT_ONCE]))
        connection.executemany(  # an index without contents is told what it held
            "INSERT INTO words (words, rowid, terms) VALUES ('delete', ?, ?)",
            [(row, worded(text)) for row, text in some],
        )
    connection.executemany("DELETE FROM chunks WHERE row = ?", numbers)
    connection.executemany("DELETE FROM vectors WHERE row = ?", numbers)
    connection.executemany(
        "INSERT OR REPLACE INTO removed VALUES (?, ?)", [(row, generation) for (row,) in numbers]
    )


def passages(connection: sqlite3.Connection, ids: Iterable[str]) -> list[Passage]:
    """The passages of these ids in their order; unknown ids are left out."""
    wanted = list(ids)
    query = "SELECT id, text, source, metadata FROM chunks WHERE id IN (%s)"
    found = {row[0]: _passage(*row) for row in _with(connection, query, filter(is_whole, wanted))}
    return [found[name] for name in wanted if name in found]


def _passage(name: str, text: str, source: str, metadata: str) -> Passage:
    known = json.loads(metadata)
    start = known.get("start", known.get("start_index", 0))
    start = start if isinstance(start, int) else 0
    end = known.get("end", start + len(text))
    return Passage(
        text=text,
        id=name,
        source=source,
        start=start,
        end=end if isinstance(end, int) else start + len(text),
        metadata=known,
    )


def named(connection: sqlite3.Connection, rows: Ints) -> list[str]:
    """The ids of rows, in their order."""
    query = "SELECT row, id FROM chunks WHERE row IN (SELECT value FROM %s)"
    found = dict(_listed(connection, query, map(int, rows)))
    return [found[int(row)] for row in rows]


def numbered(connection: sqlite3.Connection) -> Ints:
    """The numbers of all rows, rising."""
    found = connection.execute("SELECT row FROM chunks ORDER BY row")
    return np.fromiter((row for (row,) in found), np.int64)


def halves(connection: sqlite3.Connection, rows: Ints, width: int) -> tuple[Ints, Halves]:
    """The vectors of those of these rows that have one, and which rows these are."""
    query = "SELECT row, data FROM vectors WHERE row IN (SELECT value FROM %s) ORDER BY row"
    return _stacked(_listed(connection, query, map(int, rows)), width)


def all_halves(
    connection: sqlite3.Connection, width: int, after: int = 0
) -> Iterator[tuple[Ints, Halves]]:
    """The vectors of all rows behind one, rising, some at a time."""
    query = "SELECT row, data FROM vectors WHERE row > ? ORDER BY row"
    cursor = connection.execute(query, (after,))
    while some := cursor.fetchmany(ROWS_AT_ONCE):
        yield _stacked(some, width)


def _stacked(found: Sequence[tuple[int, bytes]], width: int) -> tuple[Ints, Halves]:
    rows = np.array([row for row, _ in found], np.int64)
    joined = np.frombuffer(b"".join(data for _, data in found), np.float16)
    return rows, joined.reshape(len(found), width)


def lexical(
    connection: sqlite3.Connection, question: str, k: int, allowed: Ints | None
) -> list[tuple[int, float]]:
    """The rows that answer best to the words of a question, and their BM25, the best first."""
    terms = sorted(set(terms_of(question)))
    if not terms or k < 1:
        return []
    asked = " OR ".join(f'"{term}"' for term in terms)
    query = "SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank, rowid"
    if allowed is None:
        return connection.execute(f"{query} LIMIT ?", (asked, k)).fetchall()
    found: list[tuple[int, float]] = []
    cursor = connection.execute(query, (asked,))
    while len(found) < k and (some := cursor.fetchmany(FEW)):
        inside = np.isin([row for row, _ in some], allowed)
        found += [one for one, is_in in zip(some, inside, strict=True) if is_in]
    cursor.close()
    return found[:k]


def packed(vectors: Vectors) -> list[bytes]:
    """Vectors as they are kept, row by row."""
    return [row.tobytes() for row in vectors.astype(np.float16)]


def _with(connection: sqlite3.Connection, query: str, values: Iterable[Any]) -> list[Any]:
    """What a query finds for values of any kind, however many, each once."""
    found: list[Any] = []
    wanted = list(dict.fromkeys(values))
    for start in range(0, len(wanted), FEW):
        some = wanted[start : start + FEW]
        found += connection.execute(query % ", ".join("?" * len(some)), some)
    return found


def _listed(connection: sqlite3.Connection, query: str, values: Iterable[int]) -> list[Any]:
    """What a query finds for numbers, however many: they go in as one JSON text."""
    return connection.execute(query % "json_each(?)", (json.dumps(list(values)),)).fetchall()
