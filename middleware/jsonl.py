"""Lines of a JSONL file: read as bytes, so that what does not change is written as it came."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tersely.errors import ConfigError, RequestError
from tersely.middleware.rawjson import parse, patched
from tersely.middleware.rows import Treated

COLUMN = "tersely"
"""The column that a row gets."""

_BOM = b"\xef\xbb\xbf"

_OTHERS = {
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
    b"\x1f\x8b": "gzip: unpack it first",
    b"\x28\xb5\x2f\xfd": "zstd: unpack it first",
    b"PAR1": "Parquet: write it as JSONL first",
}
"""How files begin that are not JSONL."""


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
class Written:
    """What one line becomes, by the file that it goes to."""

    treated: Treated
    parts: dict[str, bytes]


def lines(path: Path, offset: int = 0, number: int = 0) -> Iterator[Line]:
    """The lines of a file from an offset on, before which lie `number` lines.

    Only a line feed ends a line: other separators are part of the text.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for count, raw in enumerate(file, number + 1):
            yield Line(count, raw)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file; lines that hold none are passed over."""
    for line in lines(path):
        try:
            row = parse(line.text)
        except RequestError:
            continue
        if isinstance(row, dict):
            yield row


def written(line: Line, optimizer: Callable[[Any], Treated], *, column: bool) -> Written:
    """Put a line through the optimizer and say what is written for it.

    A row that failed goes on unchanged; a line that can't be read goes to the errors alone. The
    account is a column of the row or, where rows may have none, a line of the report.
    """
    try:
        text = line.text
        row = parse(text)
    except RequestError as error:
        treated = Treated(status="failed", reason=str(error))
        return Written(treated, {"errors": _error(line, treated)})
    treated = optimizer(row)
    edits = {**treated.edits}
    parts: dict[str, bytes] = {}
    if column and isinstance(row, dict):
        text = patched(text, edits | {(COLUMN,): treated.account})
    else:
        text = patched(text, edits)
    if not column:
        name = row.get("custom_id") if isinstance(row, dict) else None
        parts["report"] = _line({"line": line.number, "custom_id": name} | treated.account)
    if treated.status == "failed":
        parts["errors"] = _error(line, treated)
    return Written(treated, {"target": text.encode() + line.ending, **parts})


def check_readable(path: Path) -> None:
    """Raise ConfigError with the mend when a file is no JSONL."""
    if not path.is_file():
        raise ConfigError(f"{path} is {'not a file' if path.exists() else 'not there'}")
    with path.open("rb") as file:
        head = file.read(4)
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise ConfigError(f"{path} must be JSONL in UTF-8, but is {what}")


def _error(line: Line, treated: Treated) -> bytes:
    text = line.body.decode(errors="backslashreplace")
    return _line({"line": line.number, "reason": treated.reason, "row": text})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
