"""Text files in, LangChain's Documents out, a little at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tersely.errors import ConfigError, RequestError
from tersely.rag.rows import is_whole

if TYPE_CHECKING:
    from langchain_core.documents import Document

READ_FROM = "read_from"
"""Where the metadata of a passage tells the file it was read from."""

BLOCK = 4_000_000
"""Characters of a file that are held at once. Most files have fewer, and are read whole."""

ROWS = ".jsonl"
"""The end of the names of files whose lines may be texts with metadata."""


def listed(paths: Sequence[Path], globs: Sequence[str], apart: Path) -> list[Path]:
    """The files that paths lead to, each once, in order.

    Of a folder these are all below it whose names fit one of the globs (all, without any). What
    begins with a dot and what lies `apart` is left out. Raises RequestError for a path that
    leads nowhere, and when there is no file.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise RequestError(f"can't read {path}: no such file or folder")
        for file in _below(path, globs, apart.resolve()) if path.is_dir() else (path,):
            found.setdefault(file.resolve(), file)
    if not found:
        asked = f" that fits {' or '.join(globs)}" if globs else ""
        raise RequestError(f"nothing to read: no file{asked} in {', '.join(map(str, paths))}")
    return list(found.values())


def _below(folder: Path, globs: Sequence[str], apart: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        here = Path(place)
        inside = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(name for name in inside if (here / name).resolve() != apart)
        for name in sorted(names):
            file = here / name
            wanted = not globs or any(file.relative_to(folder).match(glob) for glob in globs)
            if wanted and not name.startswith(".") and file.is_file():
                yield file


@dataclass(slots=True)
class Reading:
    """Files on their way to Documents: `done` were read, `skipped` hold no text.

    The source of a text is its file's path as given. A file of lines such as `{"text": ...}`
    (`.jsonl`) is one text for each; its source is told in its metadata, or is the file with the
    `id` or the number of the line. `bytes` are those of the files read so far.
    """

    encoding: str
    done: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    bytes: int = 0

    def documents(self, files: Sequence[Path]) -> Iterator[Document]:
        """The texts in files, one after the other. Raises RequestError for a wrong row."""
        for file in files:
            name = file.as_posix()
            if why := self._no_text(file):
                self.skipped[name] = why
                continue
            before = self.bytes
            yield from self._read(file, name)
            self.bytes = before + file.stat().st_size
            self.done.append(name)

    def _no_text(self, file: Path) -> str:
        """Why a file can't be read as text; "" where it can. It is gone through once for that."""
        if not is_whole(file.as_posix()):
            return "its name is no text"
        try:
            with file.open(encoding=self._codec(), newline="") as lines:
                while block := lines.read(BLOCK):
                    if "\0" in block:
                        return "it is binary"
        except UnicodeError:
            return f"it is not {self.encoding}"
        except LookupError as error:
            raise ConfigError(f"no encoding named {self.encoding!r}") from error
        except OSError as error:
            return str(error.strerror)
        return ""

    def _read(self, file: Path, name: str) -> Iterator[Document]:
        with file.open(encoding=self._codec(), newline="") as lines:
            if file.suffix == ROWS and _is_row(lines.readline()):
                lines.seek(0)
                for number, line in enumerate(lines, 1):
                    self.bytes += len(line)
                    yield from _row(line, name, number)
                return
            lines.seek(0)
            start, rest = 0, ""
            while block := lines.read(BLOCK):
                self.bytes += len(block)
                text, rest = _parted(rest + block) if len(block) == BLOCK else (rest + block, "")
                yield _document(text, name, start)
                start += len(text)
            if rest:
                yield _document(rest, name, start)

    def _codec(self) -> str:
        """UTF-8 may begin with a mark that is no part of the text."""
        return "utf-8-sig" if self.encoding.lower() in ("utf-8", "utf8") else self.encoding


def _parted(text: str) -> tuple[str, str]:
    """A text up to its last paragraph, and the rest."""
    end = max(text.rfind("\n\n"), text.rfind("\r\n\r\n"))
    end = end if end > 0 else text.rfind("\n")
    return (text[:end], text[end:]) if end > 0 else (text, "")


def _document(text: str, name: str, start: int) -> Document:
    from langchain_core.documents import Document

    place = {"start_index": start} if start else {}
    return Document(page_content=text, metadata={"source": name, READ_FROM: name, **place})


def _is_row(line: str) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and isinstance(row.get("text"), str)


def _row(line: str, name: str, number: int) -> Iterator[Document]:
    """The text of a row; an empty line is none. Raises RequestError that tells its place."""
    from langchain_core.documents import Document

    if not line.strip():
        return
    text, metadata, own = _checked(line, f"{name}:{number}")
    source = metadata.get("source") or f"{name}#{number if own is None else own}"
    metadata = {**metadata, "source": str(source), READ_FROM: name}
    yield Document(page_content=text, metadata=metadata)


def _checked(line: str, place: str) -> tuple[str, Mapping[str, Any], Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{place} is no JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise RequestError(f'{place} has no text: a row is {{"text": ..., "id": ...}}')
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict) or not isinstance(metadata.get("start_index", 0), int):
        raise RequestError(f"{place}: metadata is a mapping, was {metadata!r}")
    if not is_whole(f"{row['text']}{row.get('id')}{metadata.get('source')}"):
        raise RequestError(f"{place} holds half a character (a lone surrogate)")
    return row["text"], metadata, row.get("id")
