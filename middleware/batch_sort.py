"""Rows in the order of how they begin, so that a provider's cache reads what they share once."""

from __future__ import annotations

import heapq
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from tersely.errors import RequestError
from tersely.middleware.files import At, Block, Files
from tersely.middleware.jsonl import Line
from tersely.middleware.row_shapes import Format

LETTERS = 4_000
"""So much of a request's beginning is compared."""

ROOM = 64 << 20
"""So many bytes of rows are sorted in memory at once."""

READ_AT_ONCE = 64

Keyed = tuple[str, int, Block]
"""A row with what it begins with and its place in the source, which decides between equals."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """The rows of a source in another order, as they lie in a file of ours.

    The file is written once, in pieces that fit into memory and are then merged, so that the room
    it takes is that of the rows on the disk.
    """

    files: Files
    format: Format
    path: Path

    def prepare(self, *, anew: bool) -> None:
        """Write the file, unless an earlier run has done so."""
        if self.path.exists() and not anew:
            return
        draft = self.path.with_name(f"{self.path.name}.new")
        folder = self.path.with_name(f"{self.path.name}.runs")
        shutil.rmtree(folder, ignore_errors=True)  # a run that was killed leaves it
        folder.mkdir()
        with ExitStack() as opened:
            opened.callback(shutil.rmtree, folder)
            runs = [opened.enter_context(run.open("rb")) for run in self._runs(folder)]
            merged = heapq.merge(*map(_pickled, runs), key=itemgetter(0, 1))
            with draft.open("wb") as file:
                for _, _, row in merged:
                    pickle.dump(row, file)
        draft.replace(self.path)

    def blocks(self, at: At, rows: int) -> Iterator[Block]:
        """The rows from a place on, each in a block of its own."""
        size = self.path.stat().st_size or 1
        with self.path.open("rb") as file:
            file.seek(at.offset)
            for line, row in zip(count(at.line + 1), _pickled(file), strict=False):
                end = At(file.tell(), line)
                yield replace(row, end=end, share=end.offset / size)

    def _runs(self, folder: Path) -> Iterator[Path]:
        """Files of sorted rows, each as large as memory allows."""
        held: list[Keyed] = []
        room, place = ROOM, count()
        for block in self.files.blocks(At(), READ_AT_ONCE):
            for row in self.files.alone(block):
                data = pickle.dumps(row)
                held.append((self._key(row), next(place), _ended(row)))
                room -= len(data)
            if room < 0:
                yield _written(folder / str(next(place)), held)
                held, room = [], ROOM
        yield _written(folder / "last", held)

    def _key(self, block: Block) -> str:
        """How a row's request begins; rows that can't be read come first."""
        for row in self.files.rows(block):
            try:
                texts = _texts(self.format.part(row).request) if isinstance(row, dict) else ()
                return "\0".join(texts)[:LETTERS]
            except RequestError:
                continue
        return ""


def _ended(row: Block) -> Block:
    """A row that others can follow: the last line of a file may have no ending."""
    if not isinstance(row.data, tuple) or not isinstance(row.data[0], Line) or row.data[0].ending:
        return row
    line = row.data[0]
    return replace(row, data=(Line(line.number, line.raw + b"\n"),))


def _texts(value: Any) -> Iterator[str]:
    """Every text of a request, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _written(path: Path, rows: list[Keyed]) -> Path:
    with path.open("wb") as file:
        for row in sorted(rows, key=itemgetter(0, 1)):
            pickle.dump(row, file)
    return path


def _pickled(file: BinaryIO) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(file)
        except EOFError:
            return
