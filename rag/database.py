"""The file behind a store: one SQLite database that many read while one writes."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock

from tersely.errors import StoreError
from tersely.lexical import STOPWORDS, SUFFIX, TERM
from tersely.rag.rows import worded

FILE = "chunks.sqlite3"
LOCK = "write.lock"

SCHEMA = 1
"""The layout. A file of a higher one was written by a newer release and is left alone."""

PATIENCE = 60.0
"""Seconds to wait for SQLite's own locks, which are held for moments only."""

TOKENISER = hashlib.sha256(
    "\n".join((TERM.pattern, STOPWORDS.pattern, SUFFIX.pattern)).encode()
).hexdigest()
"""What our way of cutting texts into terms is known by."""

WORDS = (
    # all that is not ASCII belongs to a term, so that our terms pass as they are
    "CREATE VIRTUAL TABLE words USING fts5(terms, content='', tokenize=\"ascii tokenchars '_'\")"
)

LAYOUT = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # a number is never used twice, so that what stands in a row never changes
    "CREATE TABLE chunks (row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " source TEXT NOT NULL, digest BLOB NOT NULL, text TEXT NOT NULL, metadata TEXT NOT NULL)",
    "CREATE INDEX by_source ON chunks (source)",
    "CREATE INDEX by_digest ON chunks (digest)",
    "CREATE TABLE vectors (row INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE removed (row INTEGER PRIMARY KEY, generation INTEGER NOT NULL)",
    "CREATE INDEX by_generation ON removed (generation)",
    "CREATE TABLE snapshots (token TEXT PRIMARY KEY, generation INTEGER NOT NULL)",
    WORDS,
)


@dataclass(frozen=True, slots=True)
class State:
    """What a database tells of itself at one moment.

    Every change makes a new `generation`; embedding everything again makes a new `epoch`. What
    was removed up to generation `trimmed` is no longer listed. `embedder` is the key of what
    embedded the texts ("" for nothing) and `width` the length of its vectors.
    """

    store: str
    generation: int
    epoch: int
    trimmed: int
    embedder: str
    width: int


class Database:
    """A tenant's folder with its database. Threads and processes may share it.

    Readers see one generation for as long as they read, whatever is written meanwhile. Writers
    follow one another, across processes too. A commit is on the disk when it returns.
    """

    def __init__(self, folder: Path, tenant: str) -> None:
        self.folder = folder
        self.path = folder / FILE
        self.tenant = tenant
        self._of_thread = threading.local()
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._writer: _Connection | None = None
        self._lock = os.getpid(), FileLock(folder / LOCK)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._told():
                self._prepare()
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"no store can be opened at {str(folder)!r}: {error}") from error

    @property
    def lock(self) -> BaseFileLock:
        """Held by the one who writes. A thread may take it again while it holds it."""
        process, lock = self._lock
        if process != os.getpid():  # a lock is not inherited by a process that was forked
            lock = FileLock(self.folder / LOCK)
            self._lock = os.getpid(), lock
        return lock

    def reader(self) -> sqlite3.Connection:
        """This thread's connection for reading."""
        known: _Connection | None = getattr(self._of_thread, "known", None)
        if known is None or not known.usable:
            known = self._of_thread.known = self._connect()
        return known.database

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read one generation, until the block is left."""
        connection = self.reader()
        with self._told():
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing: kept when the block is left, undone when it raises."""
        with self._told(), self.lock:
            if self._writer is None or not self._writer.usable:
                self._writer = self._connect()
            connection = self._writer.database
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def vouches(self, token: str) -> bool:
        """Whether this database, as it is now, wrote the snapshot with that token."""
        known = _Connection(self.path)
        try:
            query = "SELECT 1 FROM snapshots WHERE token = ?"
            return known.database.execute(query, (token,)).fetchone() is not None
        finally:
            known.close()

    def close(self) -> None:
        """Close every connection. They are opened again when they are needed."""
        for known in list(self._open):
            known.close()

    def _connect(self) -> _Connection:
        known = _Connection(self.path)
        self._open.add(known)
        return known

    def _prepare(self) -> None:
        schema = self.reader().execute("PRAGMA user_version").fetchone()[0]
        if schema > SCHEMA:
            raise StoreError(
                f"the store at {str(self.folder)!r} was written by a newer release"
                f" (layout {schema}, known here: {SCHEMA}): install that release"
            )
        if schema < SCHEMA:
            self._begin()
        facts = facts_of(self.reader())
        if facts["tenant"] != self.tenant:
            raise StoreError(
                f"{str(self.folder)!r} belongs to tenant {facts['tenant']!r}, not {self.tenant!r}"
            )
        if facts["tokeniser"] != TOKENISER:
            with self.writing() as writer:
                _cut_again(writer)

    def _begin(self) -> None:
        with self.lock:  # of several that open a new folder, one lays it out
            self.reader().execute("PRAGMA journal_mode = WAL")
            with self.writing() as writer:
                if not writer.execute("PRAGMA user_version").fetchone()[0]:
                    _make(writer, self.tenant)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise StoreError(f"the store at {str(self.folder)!r} failed: {error}") from error


class _Connection:
    """A connection that is closed with the thread that opened it."""

    def __init__(self, path: Path) -> None:
        self.process = os.getpid()
        self.database = sqlite3.connect(
            path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        self.closed = False
        self.database.execute("PRAGMA synchronous = FULL")  # a commit outlives a power cut

    @property
    def usable(self) -> bool:
        """Whether it is open, and was opened by this process: SQLite forbids to inherit one."""
        return not self.closed and self.process == os.getpid()

    def close(self) -> None:
        if self.usable:
            self.closed = True
            self.database.close()
        elif self.process != os.getpid():
            _OF_PARENTS.append(self.database)

    def __del__(self) -> None:
        if hasattr(self, "database"):
            self.close()


_OF_PARENTS: list[sqlite3.Connection] = []
"""Connections that came along when the process was forked: SQLite forbids to close them here."""


def facts_of(connection: sqlite3.Connection) -> dict[str, str]:
    """What the database tells of itself, by name."""
    return dict(connection.execute("SELECT name, value FROM facts"))


def state_of(connection: sqlite3.Connection) -> State:
    """What the database tells of itself."""
    facts = facts_of(connection)
    return State(
        store=facts["store"],
        generation=int(facts["generation"]),
        epoch=int(facts["epoch"]),
        trimmed=int(facts["trimmed"]),
        embedder=facts["embedder"],
        width=int(facts["width"]),
    )


def tell(connection: sqlite3.Connection, **facts: str | int) -> None:
    """Note facts."""
    rows = [(name, str(value)) for name, value in facts.items()]
    connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)


def _make(connection: sqlite3.Connection, tenant: str) -> None:
    for statement in LAYOUT:
        connection.execute(statement)
    tell(connection, tenant=tenant, store=uuid.uuid4().hex, tokeniser=TOKENISER)
    tell(connection, generation=0, epoch=0, trimmed=0, saved=0, embedder="", width=0)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _cut_again(connection: sqlite3.Connection) -> None:
    """Index all texts anew: they were cut into terms in another way."""
    connection.execute("DROP TABLE words")
    connection.execute(WORDS)
    texts = connection.execute("SELECT row, text FROM chunks")
    rows = ((row, worded(text)) for row, text in texts)
    connection.executemany("INSERT INTO words (rowid, terms) VALUES (?, ?)", rows)
    tell(connection, tokeniser=TOKENISER)
