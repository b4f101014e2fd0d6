"""Files that grow together, and a record of how far they are whole.

A commit brings every file to the disk and only then replaces the record, in one step. Whatever
stops the process, and at whatever byte: the record tells what to keep, and the rest is cut off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tersely.errors import ConfigError, WriteError, missing
from tersely.middleware import places
from tersely.middleware.places import known_by
from tersely.middleware.tally import Tally

MEND = "delete {target} and {journal}, or run with resume=False, to start anew"


class Source(BaseModel):
    """What the files that hold a data set are known by; `size` is bytes, of all of them."""

    model_config = ConfigDict(frozen=True)

    size: int
    stamp: str
    head: str

    @classmethod
    def of(cls, *places: str) -> Self:
        """What files are known by now."""
        sizes, stamps, heads = zip(*map(known_by, places), strict=True)
        return cls(size=sum(sizes), stamp=" ".join(stamps), head=" ".join(heads))


class Mark(BaseModel):
    """A point between two rows: how much was read and written up to it, and with what result.

    `offset` tells the source's reader where the next row begins, and `line` is the number of the
    last one that was read. `sizes` are the bytes of each file written. When the target is split,
    `part` is the number of its file in hand, which holds `part_rows` rows of `part_bytes`.
    """

    model_config = ConfigDict(frozen=True)

    source: Source
    settings: Mapping[str, str]
    sizes: Mapping[str, int]
    offset: int = 0
    line: int = 0
    part: int = 1
    part_rows: int = 0
    part_bytes: int = 0
    tally: Tally = Field(default_factory=Tally)
    finished: bool = False

    @property
    def rows(self) -> int:
        """Rows that were read, good and bad ones."""
        return self.tally.rows

    @property
    def in_hand(self) -> str:
        """The name of the target's file in hand."""
        return "target" if self.part == 1 else f"target.{self.part}"


class Journal:
    """Writes files of which each holds a whole number of rows after every commit.

    While it is open no other can write them: the second one raises ConfigError.
    """

    def __init__(self, path: Path, files: Mapping[str, Path]) -> None:
        self.path = path
        self.files = files
        self._open: dict[str, BinaryIO] = {}
        self._exits = ExitStack()
        self._last: Mark | None = None
        self._sizes: dict[str, int] = {}

    def resume(self, start: Mark, target: str) -> Mark:
        """The point to go on from: `start` itself when nothing was written yet.

        `target` is what the files become in the end. Raises ConfigError when what is there belongs
        to another job or was changed since.
        """
        mend = MEND.format(target=target, journal=self.path)
        if not self.path.exists():
            if places.exists(target):
                raise ConfigError(f"{target} exists and was not written by a job like this: {mend}")
            return start
        mark = _read(self.path)
        if mark is None:
            raise ConfigError(f"{self.path} can't be read: {mend}")
        grown = self.path_of(next(iter(self.files)))
        if not (places.exists(target) if mark.finished else grown.exists()):
            return start
        if changed := _changes(mark, start):
            raise ConfigError(f"{changed} changed since the job was begun: {mend}")
        for name, size in mark.sizes.items():
            path = self.path_of(name)
            if (path.stat().st_size if path.exists() else 0) < size:
                raise ConfigError(f"{path} is shorter than when the job stopped: {mend}")
        return mark

    def open(self, mark: Mark) -> None:
        """Open the files at a mark; what they hold beyond it is cut off.

        Of a job that is begun anew, the files that the one before had more of are emptied.
        """
        with told_as_write_error(self.path):
            self._lock()
            before = _read(self.path)
            left = [] if mark.rows or before is None else _parts(before)
            sizes = {**dict.fromkeys([*self.files, *left], 0), **mark.sizes}
            self._record(mark.model_copy(update={"sizes": sizes}))
            self._sizes = sizes
            for name, size in sizes.items():
                self._begin(name, size)
                if name not in self.files and name != mark.in_hand:
                    self._end(name)

    def path_of(self, name: str) -> Path:
        """Where a file lies: `target` where it was told, `target.2` beside it with a number."""
        base, _, number = name.partition(".")
        path = self.files[base]
        if not number:
            return path
        endings = path.suffixes[-2:] if path.suffix in places.PACKED else path.suffixes[-1:]
        stem = path.name.removesuffix("".join(endings))
        return path.with_name(f"{stem}.{number}{''.join(endings)}")

    def write(self, name: str, data: bytes) -> None:
        """Add to a file; it counts from the next commit on. Raises WriteError when it can't be."""
        with told_as_write_error(self.path_of(name)):
            if name not in self._open:
                self._go_on_to(name)
            self._open[name].write(data)

    def commit(self, mark: Mark) -> Mark:
        """Bring everything to the disk and make it count. Returns the mark with the sizes."""
        with told_as_write_error(self.path):
            self._sizes |= {name: _brought(file) for name, file in self._open.items()}
            mark = mark.model_copy(update={"sizes": dict(self._sizes)})
            self._record(mark)
        return mark

    def close(self) -> None:
        """Close the files. What was not committed is cut off when the job goes on."""
        self._open.clear()
        with told_as_write_error(self.path):
            self._exits.close()

    def finish(self, mark: Mark) -> Mark:
        """Make it count that the job is done, of which no file needs to be there any more."""
        mark = mark.model_copy(update={"finished": True})
        self._record(mark)
        return mark

    def drop_empty(self, mark: Mark) -> None:
        """Remove the files beside the first one in which nothing was written."""
        for path in [*map(self.path_of, {**self.files, **mark.sizes})][1:]:
            if path.exists() and path.stat().st_size == 0:
                path.unlink()

    def _lock(self) -> None:
        """Raise ConfigError when another process writes these files; it ends with the process."""
        path = [*self.files.values()][-1]
        path.touch()
        if not _locked(self._exits.enter_context(path.open("rb"))):
            target = self.path_of(next(iter(self.files)))
            raise ConfigError(f"another run of this job is writing {target}: let it end")

    def _go_on_to(self, name: str) -> None:
        """Begin another file of the target; the one before is whole."""
        path, base = self.path_of(name), name.partition(".")[0]
        if name not in self._sizes and path.exists() and path.stat().st_size:
            raise ConfigError(f"{path} exists and was not written by this job: move it elsewhere")
        for other in [one for one in self._open if one.partition(".")[0] == base]:
            self._end(other)
        if self._last is not None and name not in self._last.sizes:
            sizes = {**self._last.sizes, name: 0}
            self._record(self._last.model_copy(update={"sizes": sizes}))
        self._begin(name, 0)

    def _end(self, name: str) -> None:
        file = self._open.pop(name)
        self._sizes[name] = _brought(file)
        file.close()

    def _begin(self, name: str, size: int) -> None:
        path = self.path_of(name)
        path.touch()
        if path.stat().st_size < size:
            raise ConfigError(f"{path} is shorter than when the job stopped: start anew")
        file = self._exits.enter_context(path.open("r+b"))
        file.truncate(size)
        file.seek(0, os.SEEK_END)
        self._open[name] = file

    def _record(self, mark: Mark) -> None:
        draft = self.path.with_name(f"{self.path.name}.new")
        with draft.open("wb") as file:
            file.write(mark.model_dump_json().encode())
            _brought(file)
        draft.replace(self.path)
        self._last = mark


def _read(path: Path) -> Mark | None:
    """The last mark, if there is one that can be read."""
    try:
        return Mark.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _locked(file: BinaryIO) -> bool:
    """Keep others from locking a file while it is open. False when one of them did before."""
    if missing("fcntl"):  # Windows
        return True
    fcntl = import_module("fcntl")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems of networks know no locks
        return True
    return True


def _parts(mark: Mark) -> list[str]:
    """The names of the target's files beyond the first."""
    return [name for name in mark.sizes if name.startswith("target.")]


@contextmanager
def told_as_write_error(path: Path) -> Iterator[None]:
    """Raise a WriteError for what the disk refuses, with the mend."""
    try:
        yield
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        where = error.filename or path
        raise WriteError(
            f"can't write {where}: {error.strerror or error}; what was written before that is kept:"
            " mend it and run the same job again to go on from there"
        ) from error


def _brought(file: BinaryIO) -> int:
    """Bring a file to the disk. Tells its size."""
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def _changes(then: Mark, now: Mark) -> str:
    """What differs between a job and the one that the journal tells of. Else ''."""
    names = {**then.settings, **now.settings}
    changed = [name for name in names if then.settings.get(name) != now.settings.get(name)]
    if then.source != now.source:
        changed.insert(0, "source")
    return ", ".join(changed)
