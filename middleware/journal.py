"""Files that grow together, and a record of how far they are whole.

A commit brings every file to the disk and only then replaces the record, in one step. Whatever
stops the process, and at whatever byte: the record tells what to keep, and the rest is cut off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tersely.errors import ConfigError
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


class Journal:
    """Writes files of which each holds a whole number of rows after every commit."""

    def __init__(self, path: Path, files: Mapping[str, Path]) -> None:
        self.path = path
        self.files = files
        self._open: dict[str, BinaryIO] = {}
        self._exits = ExitStack()

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
        try:
            mark = Mark.model_validate_json(self.path.read_bytes())
        except ValidationError as error:
            raise ConfigError(f"{self.path} can't be read: {mend}") from error
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
        """Open the files at a mark; what they hold beyond it is cut off."""
        self._record(mark)
        for name in {**self.files, **mark.sizes}:
            self._begin(name, mark.sizes.get(name, 0))

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
        """Add to a file; it counts from the next commit on."""
        if name not in self._open:
            self._begin(name, 0)
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
        self._open.clear()

    def finish(self, mark: Mark) -> Mark:
        """Make it count that the job is done, of which no file needs to be there any more."""
        mark = mark.model_copy(update={"finished": True})
        self._record(mark)
        return mark

    def drop_empty(self) -> None:
        """Remove the files beside the first one in which nothing was written."""
        for path in [*self.files.values()][1:]:
            if path.stat().st_size == 0:
                path.unlink()

    def _begin(self, name: str, size: int) -> None:
        path = self.path_of(name)
        path.touch()
        file = self._exits.enter_context(path.open("r+b"))
        file.truncate(size)
        file.seek(0, os.SEEK_END)
        self._open[name] = file

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
