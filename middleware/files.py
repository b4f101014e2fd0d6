"""How a data set lies in files: what reads blocks of its rows, and says what is written for each.

A way of lying in files is one file: `jsonl.py`, `cells.py` for CSV, `tables.py` for Parquet, Arrow
and datasets on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from tersely.errors import ConfigError
from tersely.middleware import places
from tersely.middleware.places import Codec
from tersely.middleware.rows import Treated
from tersely.middleware.tally import Tally

COLUMN = "tersely"
"""The column that a row gets; in CSV it begins the names of several."""

ANSWER = "tersely_answer"
"""The column with what a backend said to a row; in CSV its text, beside others that begin so."""

Kind = Literal["jsonl", "csv", "parquet", "arrow", "dataset"]

ENDINGS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
"""How the names of files end."""

TABLES = ("parquet", "arrow", "dataset")
"""The kinds that hold typed columns, and can be written as each other."""

BYTES_AT_ONCE = 1 << 20
"""A block ends when it has so many bytes."""

FEW = 16
"""So many rows are read at once to look at them."""

Treat = Callable[[Any], Treated]
"""Says what becomes of a row."""


@dataclass(frozen=True, slots=True)
class At:
    """A place in a data set: where the next row begins, and the number of the row before it."""

    offset: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows that are read, treated and written together, as they lay in the file.

    `first` is the number of the first row, where the data does not tell. `end` is the place after
    them, and `share` how much of the source was read by then.
    """

    data: Any
    rows: int
    end: At
    first: int = 0
    share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What is written for a block: to the target in pieces that stay whole, and beside it.

    Where a backend is still to be asked, it is what is `treated` so far.
    """

    target: tuple[bytes, ...] = ()
    errors: bytes = b""
    report: bytes = b""
    results: bytes = b""
    treated: tuple[Treated, ...] = ()
    tally: Tally = field(default_factory=Tally)


class Files(Protocol):
    """A data set in files of one kind. A frozen value that can go to another process.

    `column` tells that a row's account is a column of it, else it is a line of the report.
    """

    @property
    def source(self) -> str: ...
    @property
    def grows(self) -> bool:
        """Whether the target is the pieces in a row, else `finish` makes it of them."""
        ...

    @property
    def codec(self) -> Codec:
        """How the pieces of the target are packed."""
        ...

    @property
    def has_column(self) -> bool:
        """Whether rows are given a column whatever their format."""
        ...

    def parts(self) -> list[str]:
        """The files that hold the source."""
        ...

    def head(self) -> bytes:
        """What the target begins with."""
        ...

    def blocks(self, at: At, rows: int) -> Iterator[Block]:
        """The rows from a place on, at most so many in a block."""
        ...

    def rows(self, block: Block, /) -> Iterator[Any]:
        """What the rows of a block hold; those that can't be read are passed over."""
        ...

    def alone(self, block: Block, /) -> Iterator[Block]:
        """The rows of a block, each in a block of its own."""
        ...

    def treat(self, block: Block, treat: Treat, *, column: bool) -> Made:
        """Put rows through an optimizer and say what is written for them."""
        ...

    def finish(self, grown: Path, target: Path) -> None:
        """Make the target of the pieces that were written in a row."""
        ...


def kind_of(place: str) -> tuple[Kind | None, Codec]:
    """What the name of a place says of what lies there: the kind, if any, and how it is packed."""
    *_, last = PurePosixPath(place).suffixes or [""]
    codec = places.PACKED.get(last.lower(), "")
    name = place[: -len(last)] if codec else place
    return ENDINGS.get(PurePosixPath(name).suffix.lower()), codec


def is_dataset(place: str) -> bool:
    """Whether a folder is a dataset as `Dataset.save_to_disk` leaves it."""
    return places.exists(places.below(place, "state.json"))


def files_of(source: str, target: str, columns: tuple[str, ...] = (COLUMN,)) -> Files:
    """Who reads a source and writes it as a target, with columns of ours.

    Raises ConfigError with the mend.
    """
    kind = _kind_of_source(source)
    wanted, packing = kind_of(target)
    if kind in TABLES:
        if wanted not in (None, *TABLES):
            raise ConfigError(f"a {kind} source can't be written as {wanted}: {target}")
        from tersely.middleware.tables import Tables

        default: Kind = kind if kind == "dataset" or PurePosixPath(target).suffix else "dataset"
        return Tables(source, kind, wanted or default, columns=columns)
    if wanted not in (None, kind):
        raise ConfigError(f"a {kind} source can't be written as {wanted}: {target}")
    unpacking = places.codec_of(source)
    if kind == "csv":
        from tersely.middleware.cells import Cells

        return Cells(source, unpacking, packing, columns=columns)
    from tersely.middleware.jsonl import Lines

    return Lines(source, unpacking, packing, columns=columns)


def _kind_of_source(source: str) -> Kind:
    if not places.exists(source):
        raise ConfigError(f"{source} is not there")
    if places.is_folder(source):
        if not is_dataset(source):
            raise ConfigError(f"{source} is not a file")
        return "dataset"
    with places.opened(source) as file:
        head = file.read(6)
    if head.startswith(b"PAR1"):
        return "parquet"
    named = kind_of(source)[0]
    if head == b"ARROW1" or named == "arrow":
        return "arrow"
    if named == "parquet":
        raise ConfigError(f"{source} is named like Parquet, but is none")
    return named or "jsonl"


def objects(files: Files) -> Iterator[dict[str, Any]]:
    """The rows of a data set that can be read and are objects, a few at a time."""
    for block in files.blocks(At(), FEW):
        yield from (row for row in files.rows(block) if isinstance(row, dict))


def total(made: Sequence[Made]) -> Made:
    """What is written for several rows or blocks, one after another."""
    return Made(
        target=tuple(piece for one in made for piece in one.target),
        errors=b"".join(one.errors for one in made),
        report=b"".join(one.report for one in made),
        results=b"".join(one.results for one in made),
        treated=tuple(row for one in made for row in one.treated),
        tally=Tally.total(one.tally for one in made),
    )
