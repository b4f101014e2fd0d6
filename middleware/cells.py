"""Rows of a CSV file: what does not change is written as it came, the account in more columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from tersely.errors import ConfigError, RequestError
from tersely.middleware import places
from tersely.middleware.files import ANSWER, COLUMN, At, Block, Made, Treat, total
from tersely.middleware.jsonl import blocks_of, check_readable, error_line
from tersely.middleware.places import Codec
from tersely.middleware.rows import Treated
from tersely.middleware.tally import Tally

DELIMITERS = ",\t;|"
"""What may stand between two cells; the one that is most often in the header does."""

ACCOUNT = ("before", "after", "status", "reason", "decisions")
"""The parts of an account; each has a column, and decisions are JSON."""

ANSWERED = ("model", "finish_reason", "prompt_tokens", "cached_tokens", "completion_tokens")
"""The parts of an answer that have columns beside its text."""

LONGEST_CELL = 1 << 30
"""In characters; Python's own limit is 131,072."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it lay in the file, which may be several lines; the header has the number 1."""

    number: int
    raw: bytes
    cells: tuple[str, ...]

    @property
    def blank(self) -> bool:
        return self.number == 1 or not self.body

    @property
    def body(self) -> bytes:
        return self.raw.rstrip(b"\r\n")


@dataclass(frozen=True, slots=True)
class Head:
    """The names of the columns, and how the file is written."""

    names: tuple[str, ...]
    raw: bytes
    delimiter: str

    @property
    def ending(self) -> str:
        return "\r\n" if self.raw.endswith(b"\r\n") else "\n"

    def line(self, cells: list[str]) -> bytes:
        """Cells as a line of this file."""
        made = io.StringIO()
        csv.writer(made, delimiter=self.delimiter, lineterminator=self.ending).writerow(cells)
        return made.getvalue().encode(errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class Cells:
    """A CSV or TSV file with a header, plain or packed.

    A row whose texts don't change keeps its bytes. One that has more or fewer cells than the
    header can't be read, and goes to the errors alone.
    """

    source: str
    packing: Codec = ""
    codec: Codec = ""
    grows: bool = True
    has_column: bool = True
    columns: tuple[str, ...] = (COLUMN,)

    def parts(self) -> list[str]:
        check_readable(self.source)
        return [self.source]

    def head(self) -> bytes:
        head = self._head()
        own = self._own
        return head.line([*(name for name in head.names if name not in own), *own])

    @property
    def _own(self) -> list[str]:
        """The names of the columns that rows get."""
        return [name for column in self.columns for name in _NAMES[column]]

    def blocks(self, at: At, rows: int) -> Iterator[Block]:
        head = self._head()
        size = places.known_by(self.source)[0] or 1
        with places.opened(self.source) as packed:
            read = self._records(places.unpacked(packed, self.packing), at, head.delimiter)
            for block in blocks_of(read, at, rows, lambda: packed.tell() / size):
                yield replace(block, data=(head, *block.data))

    def rows(self, block: Block, /) -> Iterator[Any]:
        head, *records = block.data
        for record in records:
            try:
                yield _row(head, record)
            except RequestError:
                continue

    def alone(self, block: Block, /) -> Iterator[Block]:
        head, *records = block.data
        for record in records:
            yield Block(data=(head, record), rows=1, end=At(block.end.offset, record.number))

    def treat(self, block: Block, treat: Treat, *, column: bool) -> Made:
        head, *records = block.data
        return total([_made(head, record, treat, self._own) for record in records])

    def finish(self, grown: Path, target: Path) -> None:
        """There is nothing to do: the pieces in a row are the target."""

    def _head(self) -> Head:
        """Raises ConfigError when there is none."""
        with places.opened(self.source) as packed:
            file = places.unpacked(packed, self.packing)
            first = file.readline().decode(errors="surrogateescape").removeprefix("\ufeff")
            delimiter = max(DELIMITERS, key=first.count)
        with places.opened(self.source) as packed:
            file = places.unpacked(packed, self.packing)
            head = next(self._records(file, At(), delimiter), None)
        if head is None:
            raise ConfigError(f"{self.source} has no header with the names of its columns")
        names = (head.cells[0].removeprefix("\ufeff"), *head.cells[1:])
        if len({*names}) < len(names):
            raise ConfigError(f"{self.source} has two columns of one name: {', '.join(names)}")
        return Head(names, head.raw, delimiter)

    def _records(self, file: IO[bytes], at: At, delimiter: str) -> Iterator[Record]:
        """The rows from a place on, each with its bytes."""
        raw: list[bytes] = []

        def lines() -> Iterator[str]:
            for line in file:
                raw.append(line)
                yield line.decode(errors="surrogateescape")

        csv.field_size_limit(LONGEST_CELL)
        count = at.line
        try:
            places.skip(file, at.offset)
            for cells in csv.reader(lines(), delimiter=delimiter):
                count += 1
                yield Record(count, b"".join(raw), tuple(cells))
                raw.clear()
        except (EOFError, ValueError, csv.Error) as error:
            raise ConfigError(f"{self.source} can't be read after row {count}: {error}") from error


_NAMES = {
    COLUMN: [f"{COLUMN}_{part}" for part in ACCOUNT],
    ANSWER: [ANSWER, *(f"{ANSWER}_{part}" for part in ANSWERED)],
}


def _row(head: Head, record: Record) -> dict[str, str]:
    """A row by the names of its columns. Raises RequestError."""
    if len(record.cells) != len(head.names):
        raise RequestError(f"{len(record.cells)} cells, the header has {len(head.names)}")
    try:
        record.body.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"not UTF-8 at byte {error.start}") from error
    return dict(zip(head.names, record.cells, strict=True))


def _made(head: Head, record: Record, treat: Treat, own: Sequence[str]) -> Made:
    """What is written for one row."""
    try:
        row = _row(head, record)
    except RequestError as error:
        unread = Treated(status="failed", reason=str(error))
        return Made(errors=_error(record, unread), tally=Tally.of(record.number, None, unread))
    treated = treat(row)
    kept = {name: text for name, text in row.items() if name not in own}
    answer = treated.answer or {}
    said = {ANSWER: answer.get("text")} | {f"{ANSWER}_{part}": answer.get(part) for part in answer}
    told = _cells(own, _account(treated.account) | said)
    if treated.edits or len(kept) < len(row):
        made = {str(path[0]): text for path, text in treated.edits.items()}
        target = head.line([*(kept | made).values(), *told])
    else:
        target = record.body + head.delimiter.encode() + head.line(told)
    return Made(
        target=(target,),
        errors=_error(record, treated) if treated.status == "failed" else b"",
        tally=Tally.of(record.number, row, treated),
    )


def _account(told: Mapping[str, Any]) -> dict[str, Any]:
    cells = {**told, "decisions": json.dumps(told.get("decisions", []))}
    return {f"{COLUMN}_{part}": cells.get(part) for part in ACCOUNT}


def _cells(names: Sequence[str], told: Mapping[str, Any]) -> list[str]:
    return ["" if told.get(name) is None else str(told[name]) for name in names]


def _error(record: Record, treated: Treated) -> bytes:
    text = record.body.decode(errors="backslashreplace")
    return error_line({"line": record.number, "reason": treated.reason, "row": text})
