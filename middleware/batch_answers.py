"""Answers that came, kept until their rows are written: none is asked for again after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter

from tersely.contracts import Completion
from tersely.middleware.journal import Mark

Key = tuple[int, int]
"""A row: the number of the last line before its block, and how many readable rows lie between.

So it is the same row, whatever blocks another run has.
"""

_COMPLETIONS = TypeAdapter(list[Completion])


@dataclass(slots=True)
class Kept(AbstractContextManager["Kept"]):
    """A file of answers, each of which is there as soon as it came.

    They count for the job whose settings and source are those of `start`, and for rows that are
    not written yet; with `anew` none does.
    """

    path: Path
    start: Mark
    anew: bool = False
    known: dict[Key, list[Completion]] = field(default_factory=dict, init=False)
    _file: BinaryIO | None = field(default=None, init=False)

    def __enter__(self) -> Kept:
        self.known = self._read()
        draft = self.path.with_name(f"{self.path.name}.new")
        with draft.open("wb") as file:
            file.write(f"{json.dumps(self._job)}\n".encode())
            for key, answers in self.known.items():
                file.write(_line(key, answers))
        draft.replace(self.path)
        self._file = self.path.open("ab")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, key: Key, answers: Sequence[Completion]) -> None:
        """Keep what came."""
        if self._file is not None:
            self._file.write(_line(key, answers))
            self._file.flush()

    def _read(self) -> dict[Key, list[Completion]]:
        """What an earlier run left for rows that it did not write."""
        if self.anew or not self.path.exists():
            return {}
        found: dict[Key, list[Completion]] = {}
        with self.path.open("rb") as file:
            if file.readline().strip() != json.dumps(self._job).encode():
                return {}
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # the process was killed while it wrote this
                told = json.loads(raw)
                if told["line"] >= self.start.line:
                    found[told["line"], told["row"]] = _COMPLETIONS.validate_python(told["answers"])
        return found

    @property
    def _job(self) -> Mapping[str, str]:
        """What the job is known by."""
        told = repr((sorted(self.start.settings.items()), self.start.source))
        return {"job": blake2b(told.encode(errors="replace"), digest_size=16).hexdigest()}


def _line(key: Key, answers: Sequence[Completion]) -> bytes:
    told = _COMPLETIONS.dump_python([*answers], mode="json")
    return f"{json.dumps({'line': key[0], 'row': key[1], 'answers': told})}\n".encode()
