"""Connections to a file of SQLite: one for each thread of each process."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from time import monotonic, sleep

PAUSE = 0.01
"""Seconds between two tries to give a file its layout."""

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_BUSY_RECOVERY)
"""What SQLite says while somebody else has the file."""


class Connection:
    """A connection that is closed with the thread that opened it.

    `file` is the number of the file that it opened, so that another one of its name is told apart.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self.process = os.getpid()
        self.file = path.stat().st_ino
        self.database = sqlite3.connect(
            path, timeout=patience, isolation_level=None, check_same_thread=False
        )

    def __del__(self) -> None:
        if self.process == os.getpid() and hasattr(self, "database"):
            self.database.close()


_OF_PARENTS: list[Connection] = []
"""Connections that came along when the process was forked: SQLite forbids to close them here."""


class Connections:
    """Opens a file with a layout, for its owner alone, waiting `patience` seconds for others.

    A folder that has to be made for it gets the rights `mode`.
    """

    def __init__(self, path: Path, layout: str, patience: float, *, mode: int = 0o777) -> None:
        self.path = path
        self._mode = mode
        self._layout, self._patience = layout, patience
        self._open = threading.local()

    @property
    def known(self) -> Connection | None:
        """What this thread opened, whatever became of it."""
        found: Connection | None = getattr(self._open, "known", None)
        return found

    def database(self) -> sqlite3.Connection:
        """This thread's connection. One that a parent process opened is left alone.

        Raises OSError and sqlite3.Error.
        """
        known = self.known
        if known is None or known.process != os.getpid():
            if known is not None:
                _OF_PARENTS.append(known)
            self.path.parent.mkdir(mode=self._mode, parents=True, exist_ok=True)
            if not self.path.exists():
                self.path.touch(mode=0o600)
            self._open.known = known = Connection(self.path, self._patience)
            try:
                self._lay_out(known.database)
            except sqlite3.OperationalError:  # the next time it is tried again
                self.forget()
                raise
        return known.database

    def _lay_out(self, database: sqlite3.Connection) -> None:
        """Give a file its layout. Where others do so too, SQLite does not wait for them itself."""
        until = monotonic() + self._patience
        while True:
            try:
                database.executescript(self._layout)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode not in BUSY or monotonic() > until:
                    raise
            sleep(PAUSE)

    def forget(self) -> None:
        """Open it anew the next time."""
        self._open.known = None
