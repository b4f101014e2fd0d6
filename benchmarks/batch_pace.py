"""What a batch job needs: memory over more and more rows, and time with one and two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.batch_faults import descendants, rows_of
from benchmarks.batch_rows import arrow, prose, records
from benchmarks.batch_server import pipeline_of
from benchmarks.harness import Row, median_interval

SIZES = (10_000, 100_000, 1_000_000)
KINDS = (("jsonl", 1, SIZES[-1]), ("jsonl", 2, SIZES[-1]), ("parquet", 1, 100_000))
"""How files end, workers, and the most rows that are tried."""

PACE = {"lexical": (prose, 5_000), "json": (records, 30_000)}
"""For each pipeline its rows, and how many of them are enough to time."""

TENTHS = 10

LOOK = 0.25
"""A job is looked at after so many seconds; looking takes time as well."""


@dataclass(slots=True)
class Seen:
    """What was seen of a job from outside: samples of its memory in bytes and of its rows, and the
    CPU seconds of each process.

    Memory is that of all its processes together; what they share counts for each of them.
    """

    target: Path
    memory: list[int] = field(default_factory=list)
    cpu: dict[int, float] = field(default_factory=dict)
    rows: list[tuple[float, int]] = field(default_factory=list)

    def look(self, process: int) -> None:
        self.rows.append((time.monotonic(), rows_of(self.target)))
        family = [process, *descendants(process)]
        self.memory.append(sum(_resident(one) for one in family))
        self.cpu |= {one: taken for one in family if (taken := _cpu(one))}

    @property
    def steady(self) -> float:
        """Rows a second once a tenth of the rows is done, to the last one."""
        under_way = [(at, rows) for at, rows in self.rows if rows > self.rows[-1][1] / TENTHS]
        (start, before), (end, after) = under_way[0], under_way[-1]
        return (after - before) / (end - start) if end > start else 0.0

    @property
    def peak(self) -> float:
        """MiB."""
        return max(self.memory, default=0) / 2**20

    @property
    def tenths(self) -> list[float]:
        """The most in each tenth of the time, in MiB."""
        size = max(len(self.memory) / TENTHS, 1)
        parts = [self.memory[round(i * size) : round((i + 1) * size)] for i in range(TENTHS)]
        return [max(part) / 2**20 for part in parts if part]


def job(folder: Path, source: Path, **told: Any) -> tuple[Any, Seen]:
    """Run a job in a process of its own and watch it. What it came to, and what was seen."""
    said, target = folder / "said.json", Path(told["target"])
    for path in folder.glob(f"{target.name}*"):  # of a run before
        path.unlink()
    given = {"source": str(source), "said": str(said), "resume": False, **told}
    words = [sys.executable, "-m", "benchmarks.batch_server", json.dumps(given)]
    seen = Seen(target)
    running = subprocess.Popen(words)
    while running.poll() is None:
        seen.look(running.pid)
        time.sleep(LOOK)
    if running.returncode:
        raise RuntimeError(f"the job ended with {running.returncode}")
    return json.loads(said.read_text()), seen


def memory(folder: Path, sizes: Sequence[int]) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Memory by the number of rows and the processes."""
    for size in sizes:
        for ending, workers in ((e, w) for e, w, most in KINDS if size <= most):
            name = f"{ending}, {workers} worker{'s' if workers > 1 else ''}, {size:,} rows"
            yield name, partial(_measured, folder, size, ending, workers)


def _measured(folder: Path, size: int, ending: str, workers: int) -> Row:
    source = written(folder / f"many-{size}.{ending}", size)
    target = folder / f"made-{size}-{workers}.{ending}"
    said, seen = job(folder, source, target=str(target), pipeline="json", workers=workers)
    for path in folder.glob(f"{target.name}*"):
        path.unlink()
    source.unlink()
    if said["rows"] != size:
        raise RuntimeError(f"{said['rows']} rows of {size} were done")
    return {
        "files": ending,
        "workers": workers,
        "rows": size,
        "MiB (peak)": seen.peak,
        "MiB by tenth of the time": [round(one, 1) for one in seen.tenths],
        "rows/s": size / said["seconds"],
    }


def written(path: Path, size: int) -> Path:
    """So many rows, every fifth with a small text, the others empty: a million take minutes."""
    texts = ("" if i % 5 else next(small) for small in (records(),) for i in range(size))
    made = enumerate(texts)
    if path.suffix == ".parquet":
        pa, pq = arrow()
        schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
        with pq.ParquetWriter(path, schema) as file:
            while rows := [{"id": i, "text": text} for i, text in islice(made, 10_000)]:
                file.write_table(pa.Table.from_pylist(rows, schema=schema))
    else:
        with path.open("w") as file:
            file.writelines(json.dumps({"id": i, "text": text}) + "\n" for i, text in made)
    return path


def pace(folder: Path, *, repeats: int, share: float) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Time: a plain loop over the pipeline, the job with one process, and with two."""
    for name in PACE:
        yield name, partial(_paced, folder, name, repeats, share)


def _paced(folder: Path, name: str, repeats: int, share: float) -> Row:
    """All ways in turn, again and again, so that all meet the same machine."""
    texts, count = PACE[name]
    size = round(count * share)
    source = folder / f"pace-{name}.jsonl"
    rows = [*islice(texts(), size)]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    loops: list[float] = []
    jobs: dict[int, list[tuple[Any, Seen]]] = {1: [], 2: []}
    for turn in range(repeats):
        loops.append(_looped(name, rows))
        for workers in ((1, 2), (2, 1))[turn % 2]:
            told = {"target": str(folder / f"pace-{workers}.jsonl"), "pipeline": name}
            jobs[workers].append(job(folder, source, workers=workers, **told))
    one, two = jobs[1], jobs[2]
    return {
        "pipeline": name,
        "n": size,
        "repeats": repeats,
        "rows/s, one": median_interval([seen.steady for _, seen in one]),
        "rows/s, two": median_interval([seen.steady for _, seen in two]),
        "two over one": _over([seen.steady for _, seen in two], [seen.steady for _, seen in one]),
        "two over one, with their start": _over(
            [said["seconds"] for said, _ in one], [said["seconds"] for said, _ in two]
        ),
        "CPU a row, two over one": _over(
            [sum(seen.cpu.values()) for _, seen in two], [sum(seen.cpu.values()) for _, seen in one]
        ),
        "CPU a row, one over a plain loop": _over([said["cpu"] for said, _ in one], loops),
        "reader's and writer's share of a core": median_interval(
            [said["cpu"] / said["seconds"] for said, _ in two]
        ),
    }


def _over(some: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    return median_interval([a / b for a, b in zip(some, others, strict=True)])


def _looped(name: str, texts: Sequence[str]) -> float:
    """CPU seconds of a plain loop over the pipeline, what it opens first left out."""
    pipeline = pipeline_of(name)
    pipeline.run(texts[0])
    cpu = time.process_time()
    for text in texts:
        pipeline.run(text)
    return time.process_time() - cpu


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGESIZE"
        )
    except (OSError, IndexError):  # it has just ended
        return 0


def _cpu(process: int) -> float:
    try:
        told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK") if told else 0.0
