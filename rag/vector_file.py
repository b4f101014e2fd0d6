"""Bytes by key in one file of SQLite: many at once, several processes, the oldest go first."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from tersely.connections import Connections

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds to wait while another process writes."""

ROOM_LEFT = 0.1
"""The share of the room that is made free when it is used up, so that this is seldom done."""

KEYS_AT_ONCE = 500
"""Fewer than the oldest SQLite takes in one statement."""

OVERHEAD = 100
"""Bytes that a row takes besides its value: the key, twice, the time, twice, and a checksum."""

LATELY = 60 * 10**9
"""Nanoseconds for which a value counts as just used, so that reading seldom writes."""

LAYOUT = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA journal_size_limit = 16000000;
CREATE TABLE IF NOT EXISTS kept (
    row INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, used INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_use ON kept (used);
CREATE TABLE IF NOT EXISTS size (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO size VALUES (1, 0);
"""


class VectorFile:
    """Bytes by key, up to `room` bytes of them; what was used last stays.

    It is never in the way: where there is no file to be had (no right to write, no room on the
    disk) nothing is found and nothing kept. A damaged file is set aside and begun anew, a damaged
    value is not known. Each thread of each process has a connection of its own.
    """

    def __init__(self, path: Path, room: int) -> None:
        self.path = path
        self.room = room
        self._connections = Connections(path, LAYOUT, PATIENCE)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are known; they count as used now."""
        return self._tried(lambda database: _get(database, keys)) or {}

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values. When the room is used up, those go that were used longest ago."""
        if values and self.room > 0:
            self._tried(lambda database: _put(database, values, self.room))

    @property
    def size(self) -> int:
        """The bytes that are kept."""
        return self._tried(_size) or 0

    def _tried(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        try:
            return work(self._connections.database())
        except (OSError, sqlite3.OperationalError):
            return None
        except sqlite3.DatabaseError:  # no database, or damaged
            with contextlib.suppress(OSError):
                self._set_aside()
            return None

    def _set_aside(self) -> None:
        """Rename the file, unless another one has been begun since this thread opened it."""
        known = self._connections.known
        self._connections.forget()
        with FileLock(self.path.with_name(self.path.name + ".lock")):
            if known is not None and self.path.stat().st_ino == known.file:
                for end in ("-wal", "-shm", ""):
                    one = self.path.with_name(self.path.name + end)
                    with contextlib.suppress(FileNotFoundError):
                        one.replace(one.with_name(f"{self.path.name}.damaged{end}"))


def _get(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    old: list[tuple[int, int]] = []
    now = time.time_ns()
    for some in _parts(keys):
        asked = f"SELECT row, key, value, used FROM kept WHERE key IN ({_marks(some)})"
        for row, key, value, used in database.execute(asked, some):
            if (data := _checked(value)) is not None:
                found[key] = data
                if now - used > LATELY:
                    old.append((now, row))
    if old:
        with contextlib.suppress(sqlite3.OperationalError), _writing(database):
            database.executemany("UPDATE kept SET used = ? WHERE row = ?", old)
    return found


def _put(database: sqlite3.Connection, values: Mapping[bytes, bytes], room: int) -> None:
    now = time.time_ns()
    with _writing(database):
        before = sum(
            database.execute(
                f"SELECT TOTAL(LENGTH(value) + {OVERHEAD}) FROM kept WHERE key IN ({_marks(some)})",
                some,
            ).fetchone()[0]
            for some in _parts(list(values))
        )
        database.executemany(
            "INSERT INTO kept (key, value, used) VALUES (?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value, used = excluded.used",
            [(key, _with_check(data), now) for key, data in values.items()],
        )
        after = sum(len(data) + 4 + OVERHEAD for data in values.values())
        database.execute("UPDATE size SET bytes = bytes + ?", (after - int(before),))
        if (over := _size(database) - room) > 0:
            _make_room(database, over + int(room * ROOM_LEFT))


def _size(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT bytes FROM size").fetchone()[0])


def _make_room(database: sqlite3.Connection, wanted: int) -> None:
    """Drop what was used longest ago, this many bytes of it at least."""
    rows: list[tuple[int]] = []
    freed = 0
    asked = f"SELECT row, LENGTH(value) + {OVERHEAD} FROM kept ORDER BY used, row"
    for row, size in database.execute(asked):
        if freed >= wanted:
            break
        rows.append((row,))
        freed += size
    database.executemany("DELETE FROM kept WHERE row = ?", rows)
    database.execute("UPDATE size SET bytes = bytes - ?", (freed,))


@contextlib.contextmanager
def _writing(database: sqlite3.Connection) -> Iterator[None]:
    """One transaction that nobody else writes in."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        yield


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (keys[i : i + KEYS_AT_ONCE] for i in range(0, len(keys), KEYS_AT_ONCE))


def _marks(keys: Sequence[bytes]) -> str:
    return ",".join("?" * len(keys))


def _with_check(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4)


def _checked(value: bytes) -> bytes | None:
    """The data of a value; None when a bit of it has changed."""
    data = value[:-4]
    return data if _with_check(data) == value else None
