"""Rows whose fate is known, for batch jobs, and what a job made of them beside that."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.harness import manual
from tersely.compressors.lexical import Lexical
from tersely.contracts import Context
from tersely.middleware.batch_workers import DIED
from tersely.prompt import Prompt

WORDS = 60
LARGE = 5_000_000
"""So many bytes has a line that is large."""

BAD: dict[str, tuple[str, bool]] = {
    "torn": ("not JSON: ", False),
    "not UTF-8": ("not UTF-8 at byte ", False),
    "wrong type": ("field 'text' holds no text but 12", True),
    "no field": ("no field 'text'; the row has ", True),
    "raises": ("failed: RuntimeError: this row raises", True),
    "dies": (DIED, True),
}
"""How the reason of a row that must fail begins, and whether the row goes on to the target."""


class Fatal(Lexical):
    """Lexical, but raises at a text that tells it to, and ends its process at another."""

    name: ClassVar[str] = "fatal"

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        if "[raises]" in prompt.text:
            raise RuntimeError("this row raises")
        if "[dies]" in prompt.text:
            os._exit(9)
        return super().__call__(prompt, context)


@dataclass(frozen=True, slots=True)
class Truth:
    """What must become of a source: the ids that go on, in order, and the lines that fail."""

    ids: tuple[int, ...]
    failed: tuple[tuple[int, str], ...]


def written(path: Path, rows: int, *bad: str, large: bool = False) -> Truth:
    """Write so many rows of real prose; every tenth is bad in one of the ways, in turn."""
    ids: list[int] = []
    failed: list[tuple[int, str]] = []
    if path.suffix == ".parquet":
        return _table(path, rows)
    with path.open("wb") as file:
        for number, text in zip(range(1, rows + 1), prose(), strict=False):
            way = bad[number // 10 % len(bad)] if bad and number % 10 == 3 else ""
            if large and number == rows // 2:
                text = text * (LARGE // len(text))
            file.write(_line(number, text, way) + b"\n")
            reason, goes_on = BAD.get(way, ("", True))
            if way:
                failed.append((number, reason))
            if goes_on:
                ids.append(number)
    return Truth(tuple(ids), tuple(failed))


def _table(path: Path, rows: int) -> Truth:
    pa, pq = arrow()
    numbers = range(1, rows + 1)
    texts = [text if i % 10 != 3 else None for i, text in zip(numbers, prose(), strict=False)]
    pq.write_table(pa.table({"id": numbers, "text": texts}), path, row_group_size=1000)
    reason = "no field 'text'; the row has "
    return Truth(tuple(numbers), tuple((i, reason) for i in numbers if i % 10 == 3))


def arrow() -> tuple[Any, Any]:
    """pyarrow, and its part for Parquet."""
    return import_module("pyarrow"), import_module("pyarrow.parquet")


def _line(number: int, text: str, way: str) -> bytes:
    row: dict[str, Any] = {"id": number, "text": text}
    match way:
        case "torn":
            return json.dumps(row).encode()[:40]
        case "not UTF-8":
            return json.dumps(row).encode().replace(b" ", b"\xff", 1)
        case "wrong type":
            row["text"] = 12
        case "no field":
            row = {"id": number, "txt": text}
        case "raises" | "dies":
            row["text"] = f"{text} [{way}]"
    return json.dumps(row).encode()


def prose() -> Iterator[str]:
    """Real prose, ever other passages of it."""
    words = " ".join(manual()).split()
    chance = random.Random(0)
    while True:
        at = chance.randrange(len(words) - WORDS)
        yield " ".join(words[at : at + WORDS])


def records() -> Iterator[str]:
    """Small JSON objects with the blanks that tools put in them."""
    chance = random.Random(0)
    number = 0
    while True:
        number += 1
        found = {"id": number, "name": f"kettle {number}", "tags": ["a", "b"]}
        yield json.dumps({**found, "price": chance.random()}, indent=1)


def outcome(target: Path) -> tuple[Any, bytes]:
    """What a job leaves for its user: the target, unpacked, and the errors."""
    errors = target.with_name(f"{target.name}.errors.jsonl")
    if target.suffix == ".parquet":
        made: Any = arrow()[1].read_table(target)
    else:
        data = target.read_bytes()
        made = gzip.decompress(data) if target.suffix == ".gz" else data
    return made, errors.read_bytes() if errors.exists() else b""


def verdict(target: Path, truth: Truth, whole: tuple[Any, bytes]) -> Counter[str]:
    """What is wrong with the outcome of a job, by count."""
    made, errors = outcome(target)
    if isinstance(made, bytes):
        ids = [json.loads(line)["id"] for line in made.splitlines()]
    else:
        ids = made.column("id").to_pylist()
    known, found = Counter(truth.ids), Counter(ids)
    told = [json.loads(line) for line in errors.splitlines()]
    wrong = abs(len(told) - len(truth.failed)) + sum(
        one["line"] != line or reason not in one["reason"]
        for one, (line, reason) in zip(told, truth.failed, strict=False)
    )
    return Counter(
        {
            "rows lost": (known - found).total(),
            "rows doubled": (found - known).total(),
            "out of order": int(ids != sorted(ids)),
            "errors wrong": wrong,
            "other bytes": int(made != whole[0] or errors != whole[1]),
        }
    )
