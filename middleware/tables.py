"""Rows of typed columns: Parquet, Arrow, and datasets as Hugging Face's library saves them.

What is written grows as a file of whole pieces, each a table by itself, and becomes the target at
the end: a Parquet or Arrow file can't be gone on with once it was begun.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from tersely.errors import ConfigError
from tersely.middleware import places
from tersely.middleware.dataset_folder import DATA, described, parts_of, write_about
from tersely.middleware.files import ANSWER, COLUMN, At, Block, Kind, Made, Treat
from tersely.middleware.jsonl import error_line
from tersely.middleware.pieces import (
    arrow,
    grouped,
    packed,
    parquet,
    piece,
    pieces,
    unpacked,
    writer,
)
from tersely.middleware.places import Codec
from tersely.middleware.rows import Treated, renewed
from tersely.middleware.tally import Tally


@dataclass(frozen=True)
class Tables:
    """A Parquet file, an Arrow file or a dataset on disk, written as any of the three.

    Every column keeps its type, and the values that did not change theirs.
    """

    source: str
    kind: Kind
    made: Kind
    codec: Codec = ""
    grows: bool = False
    has_column: bool = True
    columns: tuple[str, ...] = (COLUMN,)

    def parts(self) -> list[str]:
        return parts_of(self.source) if self.kind == "dataset" else [self.source]

    def head(self) -> bytes:
        return b""

    def blocks(self, at: At, rows: int) -> Iterator[Block]:
        done, total = at.offset, self._rows or 1
        for batch in self._batches(at.offset, rows):
            for start in range(0, batch.num_rows, rows):
                yield _block(batch.slice(start, rows), done + 1, total)
                done += min(rows, batch.num_rows - start)

    def rows(self, block: Block, /) -> Iterator[Any]:
        yield from unpacked(block.data).to_pylist()

    def alone(self, block: Block, /) -> Iterator[Block]:
        table = unpacked(block.data)
        for at in range(block.rows):
            row = table.slice(at, 1).combine_chunks().to_batches()[0]
            yield _block(row, block.first + at)

    def treat(self, block: Block, treat: Treat, *, column: bool) -> Made:
        table = unpacked(block.data)
        rows = table.to_pylist()
        treated = [treat(row) for row in rows]
        numbered = list(enumerate(zip(rows, treated, strict=True), block.first))
        errors = (_error(n, row, one) for n, (row, one) in numbered if one.status == "failed")
        made = edited(table, treated, column=COLUMN in self.columns)
        if ANSWER in self.columns:
            said = arrow().array([one.answer for one in treated], type=_answer())
            made = _set(made, ANSWER, said)
        batches = made.combine_chunks().to_batches()
        return Made(
            target=tuple(piece(batch) for batch in batches),
            errors=b"".join(errors),
            tally=Tally.total(Tally.of(n, row, one) for n, (row, one) in numbered),
        )

    def finish(self, grown: Path, target: Path) -> None:
        schema = self.schema
        for name in self.columns:
            schema = with_column(schema, name, _account() if name == COLUMN else _answer())
        if self.made == "dataset":
            target.mkdir(parents=True, exist_ok=True)
            write_about(self.source if self.kind == "dataset" else "", target, schema)
            target = target / DATA
        with writer(target, self.made, schema, self._compression) as write:
            for table in grouped(pieces(grown)):
                write(table.cast(schema))

    @cached_property
    def schema(self) -> Any:
        """The columns of the source. Raises ConfigError when it can't be read."""
        with _reading(self.source):
            if self.kind == "parquet":
                with places.opened(self.source) as file:
                    return parquet().ParquetFile(file).schema_arrow
            with places.opened(self.parts()[0]) as file:
                return _arrow_reader(file).schema

    @cached_property
    def _rows(self) -> int:
        """How many rows there are, where that is known; else 0."""
        if self.kind != "parquet":
            return 0
        with _reading(self.source), places.opened(self.source) as file:
            return int(parquet().ParquetFile(file).metadata.num_rows)

    @cached_property
    def _compression(self) -> str:
        """How the columns of the source are packed, which the target keeps."""
        if self.kind != "parquet":
            return "snappy"
        with places.opened(self.source) as file:
            about = parquet().ParquetFile(file).metadata
            known = about.num_row_groups and about.num_columns
            named = about.row_group(0).column(0).compression if known else "SNAPPY"
        return "none" if named == "UNCOMPRESSED" else str(named).lower()

    def _batches(self, start: int, rows: int) -> Iterator[Any]:
        """The rows from one on."""
        passed = 0
        with _reading(self.source):
            for batch in self._groups(rows) if self.kind == "parquet" else self._streamed():
                skipped = min(max(start - passed, 0), batch.num_rows)
                passed += batch.num_rows
                if skipped < batch.num_rows:
                    yield batch.slice(skipped)

    def _streamed(self) -> Iterator[Any]:
        for part in self.parts():
            with places.opened(part) as file:
                reader = _arrow_reader(file)
                count = getattr(reader, "num_record_batches", None)
                yield from reader if count is None else map(reader.get_batch, range(count))

    def _groups(self, rows: int) -> Iterator[Any]:
        with places.opened(self.source) as file:
            yield from parquet().ParquetFile(file).iter_batches(batch_size=rows)


def _block(batch: Any, first: int, total: int = 1) -> Block:
    """Rows as a block; their number is also where they lie."""
    last = first + batch.num_rows - 1
    return Block(
        data=packed(batch),
        rows=batch.num_rows,
        first=first,
        end=At(last, last),
        share=min(last / total, 1.0),
    )


def with_column(schema: Any, name: str, kind: Any) -> Any:
    """The columns with one more, in the place of one of its name."""
    at = schema.get_field_index(name)
    schema = schema if at < 0 else schema.remove(at)
    return described(schema.append(arrow().field(name, kind)))


def _answer() -> Any:
    pa = arrow()
    texts = [(name, pa.string()) for name in ("text", "model", "finish_reason")]
    counts = ("prompt_tokens", "cached_tokens", "completion_tokens")
    return pa.struct([*texts, *((name, pa.int64()) for name in counts)])


def _account() -> Any:
    pa = arrow()
    texts = [(name, pa.string()) for name in ("path", "kind", "stage", "action", "reason")]
    counts = [("before", pa.int64()), ("after", pa.int64())]
    decisions = ("decisions", pa.list_(pa.struct([*texts, *counts])))
    return pa.struct([*counts, ("status", pa.string()), ("reason", pa.string()), decisions])


def edited(table: Any, treated: list[Treated], *, column: bool = True) -> Any:
    """The table with what became of its texts, and the column of accounts if it is wanted."""
    touched = {str(path[0]) for one in treated for path in one.edits}
    for name in touched:
        at = table.schema.get_field_index(name)
        values = [
            _renewed(name, value, one)
            for value, one in zip(table.column(at).to_pylist(), treated, strict=True)
        ]
        field = table.schema.field(at)
        table = table.set_column(at, field, arrow().array(values, type=field.type))
    if not column:
        return table
    told = arrow().array([one.account for one in treated], type=_account())
    return _set(table, COLUMN, told)


def _set(table: Any, name: str, values: Any) -> Any:
    """The table with a column at its end, in the place of one of its name."""
    old = table.schema.get_field_index(name)
    table = table if old < 0 else table.remove_column(old)
    return table.append_column(arrow().field(name, values.type), values)


def _renewed(name: str, value: Any, treated: Treated) -> Any:
    """The value of a column with the texts that changed in it."""
    return renewed(value, {p[1:]: made for p, made in treated.edits.items() if p[0] == name})


def _error(number: int, row: Any, treated: Treated) -> bytes:
    text = json.dumps(row, default=str, ensure_ascii=False)
    return error_line({"line": number, "reason": treated.reason, "row": text})


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Turn what Arrow raises about a file into a ConfigError."""
    pa = arrow()
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, EOFError) as error:
        raise ConfigError(f"{source} can't be read: {error}") from error


def _arrow_reader(file: BinaryIO) -> Any:
    """The reader of an Arrow file, or of a stream, which has no index of what is in it."""
    pa = arrow()
    magic = file.read(6)
    file.seek(0)
    return pa.ipc.open_file(file) if magic == b"ARROW1" else pa.ipc.open_stream(file)
