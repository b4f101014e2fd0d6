"""Lines of a JSONL file: read as bytes, so that what does not change is written as it came."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from tersely.errors import ConfigError, RequestError
from tersely.middleware import places
from tersely.middleware.files import ANSWER, BYTES_AT_ONCE, COLUMN, At, Block, Made, Treat, total
from tersely.middleware.places import Codec
from tersely.middleware.rawjson import parse, patched
from tersely.middleware.rows import Treated
from tersely.middleware.tally import Tally

_BOM = b"\xef\xbb\xbf"

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""How files begin that are text in another encoding."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line with its ending; the first has the number 1."""

    number: int
    raw: bytes

    @property
    def blank(self) -> bool:
        return not self.raw.removeprefix(_BOM).strip(b" \t\r\n")

    @property
    def body(self) -> bytes:
        """The line without its ending and without the mark that some files begin with."""
        body = self.raw.rstrip(b"\r\n")
        return body.removeprefix(_BOM) if self.number == 1 else body

    @property
    def ending(self) -> bytes:
        return self.raw[len(self.raw.rstrip(b"\r\n")) :]

    @property
    def text(self) -> str:
        """Raises RequestError when it is not UTF-8."""
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise RequestError(f"not UTF-8 at byte {error.start}") from error


@dataclass(frozen=True, slots=True)
class Lines:
    """A JSONL file, plain or packed, of which every byte that does not change stays as it is.

    A row that failed goes on unchanged; a line that can't be read goes to the errors alone.
    """

    source: str
    packing: Codec = ""
    codec: Codec = ""
    grows: bool = True
    has_column: bool = False
    columns: tuple[str, ...] = (COLUMN,)

    def parts(self) -> list[str]:
        check_readable(self.source)
        return [self.source]

    def head(self) -> bytes:
        return b""

    def blocks(self, at: At, rows: int) -> Iterator[Block]:
        size = places.known_by(self.source)[0] or 1
        with places.opened(self.source) as packed:
            read = _numbered(packed, self.source, at, self.packing)
            yield from blocks_of(read, at, rows, lambda: packed.tell() / size)

    def rows(self, block: Block, /) -> Iterator[Any]:
        for line in block.data:
            try:
                yield parse(line.text)
            except RequestError:
                continue

    def alone(self, block: Block, /) -> Iterator[Block]:
        for line in block.data:
            yield Block(data=(line,), rows=1, end=At(block.end.offset, line.number))

    def treat(self, block: Block, treat: Treat, *, column: bool) -> Made:
        columns = self.columns if column else ()
        return total([_made(line, treat, columns) for line in block.data])

    def finish(self, grown: Path, target: Path) -> None:
        """There is nothing to do: the pieces in a row are the target."""


class Raw(Protocol):
    """A row as it lay in a file of bytes, with its number."""

    @property
    def number(self) -> int: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def blank(self) -> bool: ...


def blocks_of(
    read: Iterable[Raw], at: At, rows: int, share: Callable[[], float]
) -> Iterator[Block]:
    """Rows in blocks, without the blank ones; the last block may have none."""
    held: list[Raw] = []
    end, room = at, BYTES_AT_ONCE
    for one in read:
        end = At(end.offset + len(one.raw), one.number)
        if one.blank:
            continue
        held.append(one)
        room -= len(one.raw)
        if len(held) == rows or room < 0:
            yield Block(data=tuple(held), rows=len(held), end=end, share=share())
            held, room = [], BYTES_AT_ONCE
    yield Block(data=tuple(held), rows=len(held), end=end, share=1.0)


def lines(path: str | Path) -> Iterator[Line]:
    """The lines of a file, packed or not.

    Only a line feed ends a line: other separators are part of the text. Raises ConfigError when
    a packed file is damaged, after the lines before that.
    """
    with places.opened(str(path)) as file:
        yield from _numbered(file, str(path), At(), places.codec_of(str(path)))


def _numbered(packed: BinaryIO, place: str, at: At, codec: Codec) -> Iterator[Line]:
    count = at.line
    try:
        file = places.unpacked(packed, codec)
        places.skip(file, at.offset)
        for raw in file:
            count += 1
            yield Line(count, raw)
    except (EOFError, ValueError) as error:
        raise ConfigError(f"{place} can't be read after line {count}: {error}") from error


def check_readable(path: str | Path) -> None:
    """Raise ConfigError with the mend when a file is no JSONL."""
    place = str(path)
    if not places.exists(place) or places.is_folder(place):
        raise ConfigError(f"{path} is {'not a file' if places.exists(place) else 'not there'}")
    with places.opened(place) as file:
        head = file.read(4)
    if head.startswith(_UTF16):
        raise ConfigError(f"{path} must be in UTF-8, but is UTF-16: save it as UTF-8")


def _made(line: Line, treat: Treat, columns: Sequence[str]) -> Made:
    """What is written for one line."""
    try:
        text = line.text
        row = parse(text)
    except RequestError as error:
        unread = Treated(status="failed", reason=str(error))
        return Made(errors=_error(line, unread), tally=Tally.of(line.number, None, unread))
    treated = treat(row)
    edits: dict[Any, Any] = {**treated.edits}
    if isinstance(row, dict):
        told = {COLUMN: treated.account, ANSWER: treated.answer}
        own = [name for name in columns if told[name] is not None or name in row]
        edits |= {(name,): told[name] for name in own}
    name = row.get("custom_id") if isinstance(row, dict) else None
    account = {"line": line.number, "custom_id": name} | treated.account
    return Made(
        target=(patched(text, edits).encode() + line.ending,),
        errors=_error(line, treated) if treated.status == "failed" else b"",
        report=b"" if columns else error_line(account),
        results=b"" if columns or treated.answer is None else error_line({**treated.answer}),
        tally=Tally.of(line.number, row, treated),
    )


def _error(line: Line, treated: Treated) -> bytes:
    text = line.body.decode(errors="backslashreplace")
    return error_line({"line": line.number, "reason": treated.reason, "row": text})


def error_line(value: dict[str, Any]) -> bytes:
    """A line of the files beside the target."""
    return json.dumps(value).encode() + b"\n"
