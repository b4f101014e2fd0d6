"""What the command line reads and writes: results on standard output, all else on the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tersely.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from tersely.middleware.cli_options import Source
    from tersely.report import Report

Say = Callable[[str], None]
"""Takes the pieces of an answer as they come."""

ROWS = 40
"""Decisions that the terminal shows; JSON and the HTML diff tell all."""


@dataclass(frozen=True, slots=True)
class Given:
    """What was read: the text as it stood there, and the request in it."""

    raw: str
    request: Any
    encoding: str = "utf-8"

    @property
    def is_json(self) -> bool:
        return not isinstance(self.request, str)

    def respelled(self, output: Any) -> str:
        """An output as text. Of a JSON request, everything that did not change keeps its bytes."""
        if not self.is_json:
            return str(output)
        from tersely.middleware.rawjson import differences, patched

        edits = dict(differences(self.request, output))
        return patched(self.raw, edits) if edits else self.raw


def read(source: Source) -> Given:
    """Read a file or standard input. Raises RequestError with the place and the mend."""
    raw = _decoded(_bytes(source.file), source)
    request = None if source.as_text else _request(raw)
    return Given(raw, raw if request is None else request, source.encoding)


def write(text: str, path: Path | None, *, encoding: str = "utf-8") -> None:
    """Write a result to a file or to standard output. Raises ConfigError."""
    data = text.encode(encoding, errors="replace")
    if path is None:
        typer.echo(data, nl=False)
        return
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror}") from error


def write_json(value: Any, path: Path | None = None) -> None:
    """Write a result as one JSON object."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        text = json.dumps(value, indent=2)
    write(text + "\n", path)


def tell(line: str, style: str = "") -> None:
    """Say something on standard error."""
    from rich.console import Console
    from rich.text import Text

    from tersely.middleware.signs import shown

    Console(stderr=True).print(Text(shown(line), style=style), soft_wrap=True)


def tell_report(report: Report) -> None:
    """Show a report on standard error."""
    from rich.console import Console

    from tersely.middleware.render import table

    Console(stderr=True).print(table(report, most=ROWS))


def _bytes(file: Path | None) -> bytes:
    if file is None or str(file) == "-":
        stdin = typer.get_binary_stream("stdin")
        if stdin.isatty():
            tell("reading from the terminal; end with Ctrl-D", "dim")
        return stdin.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise RequestError(f"can't read {file}: {error.strerror}") from error


def _decoded(data: bytes, source: Source) -> str:
    named = source.file or "standard input"
    try:
        return data.decode(source.encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{named} is not {source.encoding}: byte 0x{data[error.start]:02x} at {error.start};"
            " say how it is encoded, for example --encoding latin-1"
        ) from error
    except LookupError as error:
        raise ConfigError(f"no encoding named {source.encoding!r}") from error


def _request(raw: str) -> Any:
    """The request that a JSON text holds; None when it is JSON that no adapter knows, or none."""
    if raw.lstrip()[:1] not in {"{", "["}:
        return None
    from tersely.middleware import adapters, rawjson

    try:
        request = rawjson.parse(raw)
    except RequestError:
        return None
    return request if adapters.find(request) else None
