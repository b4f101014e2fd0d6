"""One file of SQLite, opened by many at the same time."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tersely.connections import Connections

LAYOUT = "PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS made (key BLOB PRIMARY KEY);"
MANY = 8


def test_all_who_open_a_new_file_at_once_can_write(tmp_path: Path) -> None:
    together = Barrier(MANY)

    def write(at: int, path: Path) -> None:
        together.wait()
        mine = Connections(path, LAYOUT, 5.0)
        mine.database().execute("INSERT INTO made VALUES (?)", (at,))

    with ThreadPoolExecutor(MANY) as pool:
        for turn in range(25):
            path = tmp_path / f"{turn}.sqlite3"
            list(pool.map(write, range(MANY), [path] * MANY))
            made = sqlite3.connect(path).execute("SELECT COUNT(*) FROM made").fetchone()
            assert made == (MANY,)


def test_who_waits_for_too_long_is_told(tmp_path: Path) -> None:
    path = tmp_path / "held.sqlite3"
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Connections(path, LAYOUT, 0.05).database()
    held.execute("COMMIT")
    assert Connections(path, LAYOUT, 0.05).database()
