"""Rows of typed columns as pieces in a file, and the Parquet or Arrow file that is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tersely.errors import require
from tersely.middleware.files import Kind

GROUP = 8 << 20
"""A row group of the target has about so many bytes."""

HELD = 128
"""So many tables are held at most before they are joined."""

LENGTH = 8
"""A piece begins with its length, in so many bytes."""


def packed(batch: Any) -> bytes:
    """Rows as a stream of their own, dictionaries and all."""
    made = arrow().BufferOutputStream()
    with arrow().ipc.new_stream(made, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(made.getvalue())


def unpacked(data: bytes) -> Any:
    """The table that `packed` made bytes of."""
    with arrow().ipc.open_stream(data) as stream:
        return stream.read_all()


def piece(batch: Any) -> bytes:
    """Rows as they are written in a row with others."""
    data = packed(batch)
    return len(data).to_bytes(LENGTH) + data


def pieces(grown: Path) -> Iterator[Any]:
    """The tables that were written in a row."""
    with grown.open("rb") as file:
        while length := file.read(LENGTH):
            yield unpacked(file.read(int.from_bytes(length)))


def grouped(tables: Iterator[Any]) -> Iterator[Any]:
    """Tables joined until each has the size of a row group."""
    groups: list[Any] = []
    held: list[Any] = []
    room = GROUP
    for table in tables:
        held.append(table)
        room -= table.nbytes
        if len(held) == HELD or room < 0:  # many small ones need far more than their bytes
            groups.append(_joined(held))
            held = []
        if room < 0:
            yield _joined(groups)
            groups, room = [], GROUP
    if held:
        groups.append(_joined(held))
    if groups:
        yield _joined(groups)


def _joined(tables: list[Any]) -> Any:
    return arrow().concat_tables(tables).combine_chunks()


@contextmanager
def writer(target: Path, kind: Kind, schema: Any, compression: str) -> Iterator[Any]:
    """What adds a table to a new file."""
    if kind == "parquet":
        with parquet().ParquetWriter(target, schema, compression=compression) as file:
            yield file.write_table
    else:
        ipc = arrow().ipc
        begin = ipc.new_file if kind == "arrow" else ipc.new_stream
        with target.open("wb") as out, begin(out, schema) as stream:
            yield stream.write_table


def arrow() -> Any:
    """The package, with its part for streams. Raises MissingExtra."""
    require("pyarrow", extra="batch")
    import_module("pyarrow.ipc")
    return import_module("pyarrow")


def parquet() -> Any:
    """The package's part for Parquet. Raises MissingExtra."""
    require("pyarrow", extra="batch")
    return import_module("pyarrow.parquet")
