"""Values by key in a file that several processes may use at once; the oldest go when it is full."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tersely.connections import Connections

T = TypeVar("T")

FILE = "made-1.sqlite3"
"""The number is that of the layout: another one is another file."""

PATIENCE = 2.0
"""Seconds to wait while another process writes."""

ROOM_LEFT = 0.1
"""The share of the room that is made free when it is used up, so that this is seldom done."""

LAYOUT = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS made (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_use ON made (used, size);
"""


class Store:
    """Bytes by key in a folder, up to `room` bytes of them; what was used last stays.

    It is a convenience and never in the way: a damaged file is begun anew, and where there is
    no file to be had (no right to write, no room on the disk) nothing is found and nothing kept.
    Each thread of each process has a connection of its own.
    """

    def __init__(self, folder: Path, room: int) -> None:
        self.path = folder / FILE
        self.room = room
        self._connections = Connections(self.path, LAYOUT, PATIENCE, mode=0o700)

    def get(self, key: bytes) -> bytes | None:
        """The value of that key, which counts as used now; None when it is not known."""
        return self._tried(lambda database: _get(database, key))

    def put(self, key: bytes, value: bytes) -> None:
        """Keep a value. When the room is used up, those go that were used longest ago."""
        packed = zlib.compress(value, 1)
        self._tried(lambda database: _put(database, key, packed, self.room))

    def clear(self) -> None:
        """Forget everything."""
        self._tried(lambda database: database.execute("DELETE FROM made"))

    @property
    def size(self) -> int:
        """The bytes that are kept."""
        return self._tried(_size) or 0

    def check(self) -> None:
        """Raise OSError when the folder is none, or can't be made or written to."""
        at = next(one for one in (self.path.parent, *self.path.parents) if one.exists())
        if not at.is_dir():
            raise NotADirectoryError(f"{str(at)!r} is no folder")
        if not os.access(at, os.W_OK | os.X_OK):
            raise PermissionError(f"no right to write to {str(at)!r}")

    def _tried(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        try:
            return work(self._connections.database())
        except (OSError, sqlite3.OperationalError, zlib.error):
            return None
        except sqlite3.DatabaseError:  # no database, or damaged
            self._discard()
            return None

    def _discard(self) -> None:
        self._connections.forget()
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self.path.with_name(self.path.name + end).unlink()


def _get(database: sqlite3.Connection, key: bytes) -> bytes | None:
    found = database.execute("SELECT value FROM made WHERE key = ?", (key,)).fetchone()
    if found is None:
        return None
    database.execute("UPDATE made SET used = ? WHERE key = ?", (time.time_ns(), key))
    return zlib.decompress(found[0])


def _put(database: sqlite3.Connection, key: bytes, value: bytes, room: int) -> None:
    if len(value) > room:
        return
    with database:
        database.execute("BEGIN IMMEDIATE")
        row = (key, value, len(value), time.time_ns())
        database.execute("INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?)", row)
        over = _size(database) - room
        if over > 0:
            _make_room(database, over + int(room * ROOM_LEFT))


def _size(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT TOTAL(size) FROM made").fetchone()[0])


def _make_room(database: sqlite3.Connection, wanted: int) -> None:
    """Drop what was used longest ago, this many bytes of it at least."""
    last = 0
    for used, size in database.execute("SELECT used, size FROM made ORDER BY used"):
        last, wanted = used, wanted - size
        if wanted <= 0:
            break
    database.execute("DELETE FROM made WHERE used <= ?", (last,))
