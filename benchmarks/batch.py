"""A batch job at any size: faults that lose nothing, memory that stays flat, and the pace.

`faults` kills the job (kill -9) at random moments, alone and with workers, and lets its disk run
full; the result must be that of an undisturbed job to the byte. `memory` is the peak of a process
over ten and a hundred times as many rows. `pace` is rows a second of the model-free pipeline with
one and two processes, beside a plain loop over the pipeline, which is what all the rest costs.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Options, Row, manual, options, save, show

JOB = """
import json, resource, sys
from tersely.middleware.batch import batch
from tersely.middleware.pipeline import Pipeline

if __name__ == "__main__":
    source, target, workers, room = sys.argv[1:5]
    if int(room):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(room),) * 2)
    pipeline = Pipeline("lexical", budget=0.5, model="gpt-4o")
    done = batch(source, target, pipeline=pipeline, workers=int(workers), block=4)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": done.rows, "seconds": done.seconds, "MiB": peak}))
"""
WORDS = 120
FAULT_ROWS = 150


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "job.py").write_text(JOB)
        found = {
            "faults": faults(folder, given),
            "memory": memory(folder, given),
            "pace": pace(folder, given),
        }
    for title, rows in found.items():
        show(title, rows)
    save("batch", given, found)


def faults(folder: Path, given: Options) -> list[Row]:
    """Kill a job until it comes through, again and again; tell what was lost."""
    source = written(folder / "faults.jsonl", FAULT_ROWS, broken=True)
    whole = folder / "whole.jsonl"
    seconds = _run(folder, source, whole)["seconds"]
    moments = 10 if given.quick else 100
    return [
        _killed(folder, source, whole, Fault("kill -9", 1, moments, seconds)),
        _killed(folder, source, whole, Fault("kill -9, two workers", 2, moments, seconds)),
        _filled(folder, source, whole, moments),
    ]


class Fault:
    """What befalls a job, how often, and the seconds within which it does."""

    def __init__(self, name: str, workers: int, moments: int, seconds: float) -> None:
        self.name = name
        self.workers = workers
        self.moments = moments
        self.seconds = seconds


def _killed(folder: Path, source: Path, whole: Path, fault: Fault) -> Row:
    chance = random.Random(fault.workers)
    kills = jobs = wrong = 0
    while kills < fault.moments:
        target = folder / f"killed{fault.workers}-{jobs}.jsonl"
        while True:
            running = _started(folder, source, target, fault.workers)
            try:
                running.wait(2 + chance.random() * fault.seconds)
                break
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                kills += 1
        jobs += 1
        wrong += outcome(target) != outcome(whole)
    return {"fault": fault.name, "n": kills, "jobs": jobs, "jobs that differ": wrong}


def _filled(folder: Path, source: Path, whole: Path, moments: int) -> Row:
    """Let the disk run full at ever later bytes, then go on with room."""
    size = whole.stat().st_size
    wrong = 0
    for at in range(moments):
        target = folder / f"filled-{at}.jsonl"
        room = 2_000 + size * at // moments
        _started(folder, source, target, room=room).wait()
        _run(folder, source, target)
        wrong += outcome(target) != outcome(whole)
    return {"fault": "full disk", "n": moments, "jobs": moments, "jobs that differ": wrong}


def outcome(target: Path) -> list[bytes]:
    """Everything that a job leaves for its user."""
    return [target.read_bytes(), target.with_name(f"{target.name}.errors.jsonl").read_bytes()]


def memory(folder: Path, given: Options) -> list[Row]:
    """The peak of a process over more and more rows."""
    sizes = (100, 1_000) if given.quick else (10_000, 100_000, 1_000_000)
    rows: list[Row] = []
    for size in sizes:
        source = written(folder / "many.jsonl", size)
        done = _run(folder, source, folder / f"many-{size}.jsonl")
        rows.append({"rows": size, "MiB (peak)": done["MiB"], "rows/s": size / done["seconds"]})
    return rows


def pace(folder: Path, given: Options) -> list[Row]:
    """Rows a second: a plain loop over the pipeline, and the job with one and two processes."""
    from tersely.middleware.pipeline import Pipeline

    size = 200 if given.quick else 20_000
    source = written(folder / "pace.jsonl", size)
    pipeline = Pipeline("lexical", budget=0.5, model="gpt-4o")
    texts = [json.loads(line)["text"] for line in source.read_text().splitlines()]
    start = time.perf_counter()
    for text in texts:
        pipeline.run(text)
    loop = size / (time.perf_counter() - start)
    found: list[Row] = [{"way": "a plain loop over the pipeline", "n": size, "rows/s": loop}]
    for workers in (1, 2):
        done = _run(folder, source, folder / f"pace-{workers}.jsonl", workers)
        name = f"batch, {workers} process{'es' if workers > 1 else ''}"
        found.append({"way": name, "n": size, "rows/s": size / done["seconds"]})
    return found


def written(path: Path, rows: int, *, broken: bool = False) -> Path:
    """A file of so many rows of real prose; of a broken one, every tenth line is no row."""
    with path.open("w") as file:
        for i, text in zip(range(rows), _texts(), strict=False):
            bad = broken and i % 10 == 3
            file.write('{"text": \n' if bad else json.dumps({"id": i, "text": text}) + "\n")
    return path


def _texts() -> Iterator[str]:
    words = " ".join(manual()).split()
    chance = random.Random(0)
    while True:
        at = chance.randrange(len(words) - WORDS)
        yield " ".join(words[at : at + WORDS])


def _started(
    folder: Path, source: Path, target: Path, workers: int = 1, room: int = 0
) -> subprocess.Popen[bytes]:
    words = [str(folder / "job.py"), str(source), str(target), str(workers), str(room)]
    return subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _run(folder: Path, source: Path, target: Path, workers: int = 1) -> Any:
    said, _ = _started(folder, source, target, workers).communicate()
    return json.loads(said)


if __name__ == "__main__":
    main()
