"""Texts as they were before something was left out of them, kept for a while."""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from tersely.connections import Connections
from tersely.errors import ConfigError, StoreError

MEGABYTE = 2**20

PATIENCE = 5.0
"""Seconds to wait for another process that writes."""

LAYOUT = """
CREATE TABLE IF NOT EXISTS originals (
    scope TEXT NOT NULL, key TEXT NOT NULL, text BLOB NOT NULL, kept REAL NOT NULL,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_age ON originals (kept);
"""


class Originals:
    """Keeps texts for `hours`, up to `megabytes` of them packed; the oldest go first.

    A text belongs to a scope, a conversation for example, and is given back to that scope alone,
    by a key that follows from both: the key of one scope means nothing in another. Without a
    `path` they are held in memory; a file is for its owner alone, and threads and processes may
    share it. Raises ConfigError for a limit that can't work, and StoreError where the file can't
    be opened or is damaged.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        megabytes: float = 100,
        hours: float = 24,
        now: Callable[[], float] = time.time,
    ) -> None:
        for name, value in (("megabytes", megabytes), ("hours", hours)):
            if not value > 0:
                raise ConfigError(f"{name} must be above 0, was {value!r}")
        self.megabytes, self.hours = megabytes, hours
        self._now = now
        self._lock = threading.Lock()
        self._file = None if path is None else _file(Path(path).expanduser())
        self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._memory.executescript(LAYOUT)
        with self._opened():
            pass

    def keep(self, scope: str, text: str) -> str:
        """Keep a text; tells its key, or "" when it alone is larger than all may be."""
        packed = zlib.compress(text.encode(errors="surrogatepass"), 1)
        if len(packed) > self.megabytes * MEGABYTE:
            return ""
        key = _key(scope, text)
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                row = (scope, key, packed, self._now())
                database.execute("INSERT OR REPLACE INTO originals VALUES (?, ?, ?, ?)", row)
                self._tidy(database)
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise
        return key

    def get(self, scope: str, key: str) -> str | None:
        """The text of a scope; None when none of that key is kept there, or any more."""
        with self._opened() as database:
            found = database.execute(
                "SELECT text FROM originals WHERE scope = ? AND key = ? AND kept > ?",
                (scope, key, self._oldest),
            ).fetchone()
            text = zlib.decompress(found[0]) if found else None
        return None if text is None else text.decode(errors="surrogatepass")

    def forget(self, scope: str) -> None:
        """Keep nothing more of a scope."""
        with self._opened() as database:
            database.execute("DELETE FROM originals WHERE scope = ?", (scope,))

    @property
    def _oldest(self) -> float:
        return self._now() - self.hours * 3600

    def _tidy(self, database: sqlite3.Connection) -> None:
        """Let go what is too old, then the oldest until the rest has room."""
        database.execute("DELETE FROM originals WHERE kept <= ?", (self._oldest,))
        (size,) = database.execute("SELECT TOTAL(LENGTH(text)) FROM originals").fetchone()
        excess = size - self.megabytes * MEGABYTE
        if excess <= 0:
            return
        rows = database.execute("SELECT scope, key, LENGTH(text) FROM originals ORDER BY kept")
        for scope, key, length in rows.fetchall():
            if excess <= 0:
                break
            database.execute("DELETE FROM originals WHERE scope = ? AND key = ?", (scope, key))
            excess -= length

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The database, for one thread of this process at a time."""
        with self._lock:
            try:
                yield self._file.database() if self._file else self._memory
            except (sqlite3.Error, OSError, zlib.error) as error:
                where = self._file.path if self._file else "memory"
                raise StoreError(
                    f"the originals at {str(where)!r} can't be had: {error}"
                ) from error


def _file(path: Path) -> Connections:
    return Connections(path, LAYOUT, PATIENCE, mode=0o700)


def _key(scope: str, text: str) -> str:
    """What a text is known by within a scope; it tells nothing of the text elsewhere."""
    held = blake2b(scope.encode(errors="surrogatepass"), digest_size=32).digest()
    return blake2b(text.encode(errors="surrogatepass"), key=held, digest_size=6).hexdigest()
