"""What befalls batch jobs, again and again: they go on afterwards, and what was lost is counted."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.batch_rows import Truth, outcome, verdict, written
from benchmarks.batch_server import Server
from benchmarks.harness import Row

ROWS = 250
UNREAD = ("torn", "not UTF-8", "wrong type", "no field")
WRONG = ("rows lost", "rows doubled", "out of order", "errors wrong", "other bytes")

TMPFS = 1 << 20
"""So many bytes has a disk that runs full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A job to be disturbed: its source, what must become of it, and how long it takes."""

    folder: Path
    server: Server
    source: Path
    truth: Truth
    whole: tuple[Any, bytes]
    seconds: float
    ending: str
    settings: dict[str, Any]

    def target(self, name: object) -> Path:
        return self.folder / f"out-{name}.{self.ending}"

    def begin(self, target: Path, **more: Any) -> int:
        return self.server.begin(
            source=str(self.source), target=str(target), **self.settings | more
        )

    def run(self, target: Path, **more: Any) -> Any:
        return self.server.run(source=str(self.source), target=str(target), **self.settings | more)

    def judged(self, target: Path) -> Counter[str]:
        found = verdict(target, self.truth, self.whole)
        for path in self.folder.glob(f"{target.name}*"):
            path.unlink()
        return found


Befall = Callable[[Case, int], Row]
"""What befalls a job so many times."""


def case(
    folder: Path, server: Server, *bad: str, ending: str = "jsonl", rows: int = ROWS, **more: Any
) -> Case:
    """A job, and what it comes to when nothing disturbs it (which is judged as well)."""
    folder.mkdir(exist_ok=True)
    source = folder / f"in.{'parquet' if ending == 'parquet' else 'jsonl'}"
    truth = written(source, rows, *bad, large=more.pop("large", False))
    settings = {"pipeline": "fatal", "block": 4, "field": "text", "workers": 1} | more
    target = folder / f"whole.{ending}"
    began = time.monotonic()
    server.run(source=str(source), target=str(target), **settings)
    seconds = time.monotonic() - began
    made = Case(
        folder=folder,
        server=server,
        source=source,
        truth=truth,
        whole=outcome(target),
        seconds=seconds,
        ending=ending,
        settings=settings,
    )
    if wrong := +verdict(target, truth, made.whole):
        raise AssertionError(f"undisturbed, the job is wrong: {dict(wrong)}")
    return made


def faults(folder: Path, moments: int) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every fault by its name, and what measures it."""
    few = max(moments // 4, 3)
    many: dict[str, Any] = {"workers": 2, "rows": 3 * ROWS}
    listed: list[tuple[str, Befall, int, tuple[str, ...], dict[str, Any]]] = [
        ("kill -9", killed, moments, UNREAD, {}),
        ("kill -9, two workers", killed, moments, UNREAD, many),
        ("kill -9, gz", killed, few, UNREAD, {"ending": "jsonl.gz"}),
        ("kill -9, Parquet", killed, few, (), {"ending": "parquet"}),
        ("SIGINT", interrupted, few, UNREAD, {}),
        ("full disk (quota)", filled, few, UNREAD, {}),
        ("full disk (tmpfs)", without_space, few, UNREAD, {"rows": 600}),
        ("full disk (tmpfs), Parquet", without_space, few, (), {"ending": "parquet", "rows": 600}),
        ("rows that end their worker", repeated, 2, ("dies", "raises"), {"rows": 60, "workers": 2}),
        ("a worker killed from outside", bereft, few, UNREAD, many),
    ]
    for workers in (1, 2):
        more = {"workers": workers}
        unread = f"unreadable rows and one of 5 MB, workers: {workers}"
        listed.append((unread, repeated, 3, UNREAD, {"large": True, **more}))
        listed.append((f"a stage that raises, workers: {workers}", repeated, 3, ("raises",), more))
    for name, befall, times, bad, settings in listed:
        place = folder / name.replace(" ", "-")
        yield name, partial(_measured, name, befall, times, place, bad, settings)


def _measured(
    name: str,
    befall: Befall,
    times: int,
    place: Path,
    bad: tuple[str, ...],
    settings: dict[str, Any],
) -> Row:
    server = Server(place.with_name(f"{place.name}.json"))
    try:
        return {"fault": name, **befall(case(place, server, *bad, **settings), times)}
    finally:
        server.close()


def told(count: int, jobs: int, wrong: Counter[str], **more: Any) -> Row:
    return {"n": count, "jobs": jobs, **{name: wrong[name] for name in WRONG}, **more}


def repeated(given: Case, times: int) -> Row:
    """The job undisturbed, as often."""
    wrong: Counter[str] = Counter()
    for i in range(times):
        target = given.target(i)
        given.run(target)
        wrong += given.judged(target)
    return told(len(given.truth.failed) * times, times, wrong)


def killed(given: Case, moments: int) -> Row:
    """Kill the job at random moments until it comes through, job after job."""
    chance = random.Random(7)
    kills = jobs = midway = left = 0
    wrong: Counter[str] = Counter()
    while kills < moments:
        target = given.target(jobs)
        while True:
            child = given.begin(target)
            after = chance.random() * given.seconds
            if ended(given.server, after if kills < moments else 10 * given.seconds + 60):
                given.server.end()
                break
            family = descendants(child)
            os.kill(child, signal.SIGKILL)
            given.server.end()
            kills += 1
            midway += rows_of(target) > 0
            left += not gone(family)
        jobs += 1
        wrong += given.judged(target)
    return told(kills, jobs, wrong, **{"after its first rows": midway, "workers left": left})


def interrupted(given: Case, moments: int) -> Row:
    """SIGINT at random moments; the exit code must be 130, or 0 where the job was done."""
    chance = random.Random(7)
    stops = jobs = silent = 0
    wrong: Counter[str] = Counter()
    while stops < moments:
        target = given.target(jobs)
        while True:
            child = given.begin(target)
            if ended(given.server, 0.05 + chance.random() * given.seconds):
                given.server.end()
                break
            os.kill(child, signal.SIGINT)
            code = given.server.end()
            said = given.server.said
            if code == 0:
                break
            stops += 1
            silent += code != 130 or "run the same job again" not in said["message"]
        jobs += 1
        wrong += given.judged(target)
    return told(stops, jobs, wrong, silent=silent)


def filled(given: Case, moments: int) -> Row:
    """Let no file grow beyond ever later bytes, then go on with room."""
    size = given.target("x").with_name(f"whole.{given.ending}").stat().st_size
    wrong: Counter[str] = Counter()
    silent = 0
    for at in range(moments):
        target = given.target(at)
        said = given.run(target, room=400 + size * at // moments)
        silent += "run the same job again" not in said.get("error", "")
        given.run(target)
        wrong += given.judged(target)
    return told(moments, moments, wrong, silent=silent)


def without_space(given: Case, moments: int) -> Row:
    """Let a small disk run full (ENOSPC) at ever later rows, then go on with room."""
    wrong: Counter[str] = Counter()
    silent = full = 0
    with disk(given.folder / "disk") as place:
        if place is None:
            return {"n": 0, "jobs": 0, "note": "this process may mount no disk"}
        whole = sum(p.stat().st_size for p in given.folder.glob("whole*"))
        for at in range(moments):
            ballast = place / "ballast"
            with suppress(OSError):  # a disk that is full already is full as well
                ballast.write_bytes(bytes(max(TMPFS - 20_000 - whole * at // moments, 0)))
            target = place / given.target(at).name
            said = given.run(target)
            full += "No space left" in said.get("error", "")
            silent += "error" in said and "run the same job again" not in said["error"]
            ballast.unlink()
            given.run(target)
            wrong += verdict(target, given.truth, given.whole)
            for path in place.iterdir():
                path.unlink()
    return told(full, moments, wrong, silent=silent)


def bereft(given: Case, moments: int) -> Row:
    """Kill one of the workers at a random moment."""
    chance = random.Random(7)
    kills = jobs = 0
    wrong: Counter[str] = Counter()
    while kills < moments:
        target = given.target(jobs)
        child = given.begin(target)
        while not ended(given.server, 0.2 + chance.random() * given.seconds / 2):
            if len(family := workers_of(child)) > 1 and rows_of(target):
                os.kill(chance.choice(family), signal.SIGKILL)
                kills += 1
        given.server.end()
        jobs += 1
        wrong += given.judged(target)
    return told(kills, jobs, wrong)


def ended(server: Server, seconds: float) -> bool:
    """Whether the job in hand ends within a time."""
    assert server.process.stdout
    return bool(select.select([server.process.stdout], [], [], seconds)[0])


def rows_of(target: Path) -> int:
    """The rows that a job has done, as its journal tells."""
    journal = target.with_name(f"{target.name}.journal")
    tally = json.loads(journal.read_text())["tally"] if journal.exists() else {}
    return int(tally.get("done", 0) + tally.get("failed", 0))


def descendants(process: int) -> list[int]:
    """The processes that one began, and those that they began."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def workers_of(process: int) -> list[int]:
    """The processes that treat rows: they are forks of one that this process began."""
    below = descendants(process)
    return [one for one in below if one not in descendants_of_first(process)]


def descendants_of_first(process: int) -> set[int]:
    """The processes that one began itself."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return {int(child) for task in tasks for child in task.read_text().split()}


def gone(processes: list[int], seconds: float = 10) -> bool:
    """Whether processes end within a time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(Path(f"/proc/{one}").exists() for one in processes):
            return True
        time.sleep(0.02)
    return False


@contextmanager
def disk(place: Path) -> Iterator[Path | None]:
    """A small disk of its own; None where the process may mount none."""
    place.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    asked = ["-t", "tmpfs", "-o", f"size={TMPFS}", "tmpfs", str(place)]
    if mount is None or subprocess.run([mount, *asked], stderr=subprocess.DEVNULL).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
