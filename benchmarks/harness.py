"""What all benchmarks share: options, data, intervals, the table, and the file of results."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
MODEL = "smollm2"
THREADS = 1

Row = Mapping[str, Any]

Cost = tuple[float, float]
"""CPU and wall seconds."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for. `data` is a folder of public evaluation sets, if there is one."""

    data: Path | None
    out: Path
    quick: bool


def options(about: str, argv: Sequence[str] | None = None) -> Options:
    """Read `--data DIR --out DIR --quick`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data", type=Path, help="folder of public evaluation sets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--quick", action="store_true", help="a small part, to see that it runs")
    given = parser.parse_args(argv)
    return Options(given.data, given.out, given.quick)


def machine() -> dict[str, Any]:
    """What a reader must know about the machine to compare."""
    packages = ["tersely", "torch", "transformers", "numpy", "tiktoken", "bm25s"]
    packages += ["spacy", "llmlingua", "selective-context", "sumy", "langchain-classic"]
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: found for name in packages if (found := _version(name))},
    }


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """The mean and its 95 % bootstrap interval."""
    drawn = np.asarray(values, np.float64)
    picks = np.random.default_rng(seed).integers(0, len(drawn), (2000, len(drawn)))
    low, high = np.percentile(drawn[picks].mean(axis=1), [2.5, 97.5])
    return float(drawn.mean()), float(low), float(high)


def median_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """The median and its 95 % bootstrap interval."""
    drawn = np.asarray(values, np.float64)
    picks = np.random.default_rng(seed).integers(0, len(drawn), (2000, len(drawn)))
    low, high = np.percentile(np.median(drawn[picks], axis=1), [2.5, 97.5])
    return float(np.median(drawn)), float(low), float(high)


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(_spelled(value) for value in row.values()))
    Console(width=110).print(table)


def save(name: str, given: Options, results: Mapping[str, Any]) -> Path:
    """Write results beside the facts of the machine; tells where."""
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{name}{'.quick' if given.quick else ''}.json"
    content = {"benchmark": name, "machine": machine(), **results}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Console().print(f"written: {path}")
    return path


def read_lines(path: Path) -> Iterator[Any]:
    """The rows of a JSON-lines file, zipped or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


def speeches(data: Path) -> list[str]:
    """State of the Union addresses, in order of their years."""
    with zipfile.ZipFile(data / "longctx" / "state_union.zip") as folder:
        names = sorted(name for name in folder.namelist() if name.endswith(".txt"))
        return [folder.read(name).decode("utf-8", "replace") for name in names]


def manual() -> list[str]:
    """The language reference that every Python brings: thousands of tokens a topic."""
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def long_texts(given: Options) -> list[str]:
    """Long real texts: speeches where the data is at hand, else the language reference."""
    return speeches(given.data) if given.data else manual()


def cut_to(size: int, text: str, lm: Any) -> tuple[str, Any]:
    """The beginning of a text that has this many tokens, and its ids."""
    import torch

    encoded = lm.tokenizer(text[: size * 8], add_special_tokens=False, return_offsets_mapping=True)
    cut = encoded["offset_mapping"][:size][-1][1]
    return text[:cut], torch.tensor([encoded["input_ids"][:size]])


def in_turns(
    works: Mapping[str, Callable[[], object]], turns: Mapping[str, int]
) -> dict[str, list[Cost]]:
    """What each work costs, every one once a turn, so that all meet the same machine.

    A work with fewer turns than others takes part in the first ones.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in works}
    for turn in range(max(turns.values())):
        order = [name for name in works if turn < turns[name]]
        for name in order if turn % 2 == 0 else order[::-1]:
            costs[name].append(cost_of(works[name]))
    return costs


def cost_of(work: Callable[[], object]) -> Cost:
    """What doing some work costs."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def times(costs: Sequence[Cost], unit: Sequence[Cost], which: int) -> tuple[float, float, float]:
    """How many times another work's cost, turn by turn: CPU (0) or wall (1)."""
    return median_interval([a[which] / b[which] for a, b in zip(costs, unit, strict=False)])


def forget() -> None:
    """Empty all that stages remember, in whichever module it is kept."""
    from tersely.compressors.memory import Memory

    ours = [module for name, module in list(sys.modules.items()) if name.startswith("tersely.")]
    for value in [value for module in ours for value in vars(module).values()]:
        if isinstance(value, Memory):
            value.clear()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _spelled(value: Any) -> str:
    if isinstance(value, tuple | list):
        middle, low, high = value
        return f"{middle:.3f} [{low:.3f}, {high:.3f}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
