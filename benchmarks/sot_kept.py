"""Rows that are kept as soon as they are there: long work can be stopped and gone on with."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Found = dict[str, Any]


class Kept:
    """The rows of one file, by their keys; `again` begins anew."""

    def __init__(self, path: Path, *, again: bool = False) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if again:
            path.unlink(missing_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.rows: dict[str, Found] = dict(map(json.loads, lines))

    def once(self, key: str, make: Callable[[], Found]) -> Found:
        """The row of that name, made if it is not there yet."""
        if key not in self.rows:
            self.rows[key] = row = make()
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, row], ensure_ascii=False) + "\n")
        return self.rows[key]


def kept(part: str, asked: str, *, quick: bool, again: bool) -> Kept:
    """Where a part of the benchmark keeps what it found out, until it is summed up."""
    from tersely.models import home

    name = f"{part}-{zlib.crc32(asked.encode()):08x}{'-quick' if quick else ''}.jsonl"
    return Kept(home() / "benchmarks" / name, again=again)
