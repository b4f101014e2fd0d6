"""Files that grow together, and a record of how far they are whole.

A commit brings every file to the disk and only then replaces the record, in one step. Whatever
stops the process, and at whatever byte: the record tells what to keep, and the rest is cut off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tersely.errors import ConfigError

HEAD = 65536
"""So many bytes from the start of a file tell it from others of its size and time."""

MEND = "delete {target} and {journal}, or run with resume=False, to start anew"


class Source(BaseModel):
    """What a file is known by."""

    model_config = ConfigDict(frozen=True)

    size: int
    mtime_ns: int
    head: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """What a file is known by now."""
        with path.open("rb") as file:
            head = blake2b(file.read(HEAD), digest_size=16).hexdigest()
        told = path.stat()
        return cls(size=told.st_size, mtime_ns=told.st_mtime_ns, head=head)


class Mark(BaseModel):
    """A point between two rows: how much was read and written up to it, and with what result.

    `offset` and `sizes` are bytes, of the source and of each file written; `line` is the number
    of the last line that was read.
    """

    model_config = ConfigDict(frozen=True)

    source: Source
    settings: Mapping[str, str]
    sizes: Mapping[str, int]
    offset: int = 0
    line: int = 0
    done: int = 0
    failed: int = 0
    before: int = 0
    after: int = 0
    finished: bool = False

    @property
    def rows(self) -> int:
        """Rows that were read, good and bad ones."""
        return self.done + self.failed


class Journal:
    """Writes files of which each holds a whole number of rows after every commit."""

    def __init__(self, path: Path, files: Mapping[str, Path]) -> None:
        self.path = path
        self.files = files
        self._open: dict[str, BinaryIO] = {}
        self._exits = ExitStack()

    def resume(self, start: Mark) -> Mark:
        """The point to go on from: `start` itself when nothing was written yet.

        Raises ConfigError when what is there belongs to another job or was changed since.
        """
        target = next(iter(self.files.values()))
        mend = MEND.format(target=target, journal=self.path)
        if not target.exists():
            return start
        if not self.path.exists():
            raise ConfigError(f"{target} exists and was not written by a job like this: {mend}")
        try:
            mark = Mark.model_validate_json(self.path.read_bytes())
        except ValidationError as error:
            raise ConfigError(f"{self.path} can't be read: {mend}") from error
        if changed := _changes(mark, start):
            raise ConfigError(f"{changed} changed since the job was begun: {mend}")
        for name, path in self.files.items():
            size = path.stat().st_size if path.exists() else 0
            if size < mark.sizes.get(name, 0):
                raise ConfigError(f"{path} is shorter than when the job stopped: {mend}")
        return mark

    def open(self, mark: Mark) -> None:
        """Open the files at a mark; what they hold beyond it is cut off."""
        self._record(mark)
        for name, path in self.files.items():
            path.touch()
            file = self._exits.enter_context(path.open("r+b"))
            file.truncate(mark.sizes[name])
            file.seek(0, os.SEEK_END)
            self._open[name] = file

    def write(self, name: str, data: bytes) -> None:
        """Add to a file; it counts from the next commit on."""
        self._open[name].write(data)

    def commit(self, mark: Mark) -> Mark:
        """Bring everything to the disk and make it count. Returns the mark with the sizes."""
        for file in self._open.values():
            file.flush()
            os.fsync(file.fileno())
        sizes = {name: file.tell() for name, file in self._open.items()}
        mark = mark.model_copy(update={"sizes": sizes})
        self._record(mark)
        return mark

    def close(self) -> None:
        """Close the files. What was not committed is cut off when the job goes on."""
        self._exits.close()

    def drop_empty(self) -> None:
        """Remove the files beside the first one in which nothing was written."""
        for path in [*self.files.values()][1:]:
            if path.stat().st_size == 0:
                path.unlink()

    def _record(self, mark: Mark) -> None:
        draft = self.path.with_name(f"{self.path.name}.new")
        with draft.open("wb") as file:
            file.write(mark.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)


def _changes(then: Mark, now: Mark) -> str:
    """What differs between a job and the one that the journal tells of. Else ''."""
    names = {**then.settings, **now.settings}
    changed = [name for name in names if then.settings.get(name) != now.settings.get(name)]
    if then.source != now.source:
        changed.insert(0, "source")
    return ", ".join(changed)
