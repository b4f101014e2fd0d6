"""What can befall a batch job: it loses no row, doubles none, and tells exactly what failed."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from little_batch import Deadly, Half, Sealed

import tersely
from tersely.contracts import Context
from tersely.errors import ConfigError, WriteError
from tersely.middleware.batch import BatchJob, BatchSummary, batch
from tersely.middleware.batch_map import MapRows
from tersely.middleware.places import unpacked
from tersely.middleware.rows import Treated
from tersely.middleware.tally import MODELS, Tally
from tersely.prompt import Prompt

TEXT = "one two three four five six seven eight nine ten"
PIPELINE = tersely.Pipeline(Half(), model="gpt-4o")
ROWS: list[Any] = [{"id": i, "text": f"{i} {TEXT}" if i % 6 else i} for i in range(30)]


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def run(source: Path, target: Path, **more: Any) -> BatchSummary:
    return batch(source, target, **{"pipeline": PIPELINE, "block": 3, **more})


def content(folder: Path) -> dict[str, Any]:
    """What a job left for its user, packed or not."""
    names = ("out.jsonl", "out.csv", "out.jsonl.gz", "out.parquet")
    made: dict[str, Any] = {}
    for path in (folder / name for name in names):
        if not path.exists():
            continue
        if path.suffix == ".parquet":
            made[path.name] = pq.read_table(path)
        else:
            with path.open("rb") as file, unpacked(file, "gz" if path.suffix == ".gz" else "") as f:
                made[path.name] = f.read()
        errors = path.with_name(f"{path.name}.errors.jsonl")
        made["errors"] = errors.read_bytes()
    return made


def source_of(folder: Path, ending: str) -> tuple[Path, Path]:
    """A source with rows that fail, and the target of that ending."""
    source = folder / f"in.{'parquet' if ending == 'parquet' else ending.removesuffix('.gz')}"
    texts = [f"{TEXT} {i}" if i % 5 else None for i in range(40)]
    if ending == "parquet":
        pq.write_table(pa.table({"id": range(40), "text": texts}), source)
    elif ending == "csv":
        write(
            source, f"text,n\n{TEXT},1\nfew\n{TEXT},2\n".encode() * 1 + f"{TEXT},3\n".encode() * 9
        )
    else:
        write(source, lines(*({"id": i, "text": text} for i, text in enumerate(texts))) + b"torn {")
    return source, folder / f"out.{ending}"


# a disk that is full


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file may be larger than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


ENDINGS = ["jsonl", "jsonl.gz", "csv", "parquet"]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ENDINGS), st.integers(0, 6000), st.sampled_from([1, 4, 50]))
def test_a_full_disk_at_any_byte(ending: str, size: int, block: int) -> None:
    with TemporaryDirectory() as made:
        (Path(made) / "whole").mkdir()
        source, whole = source_of(Path(made) / "whole", ending)
        run(source, whole)
        target = Path(made) / whole.name
        try:
            with room(size):
                run(source, target, block=block)
        except WriteError as error:
            assert "run the same job again to go on from there" in str(error)
            assert "File too large" in str(error)
        run(source, target, block=block)
        assert content(Path(made)) == content(whole.parent)
        left = {path.name for path in Path(made).iterdir()} - {"whole"}
        told = {f"{target.name}.{name}" for name in ("journal", "errors.jsonl")}
        assert left <= {target.name, *told, f"{target.name}.journal.new"}


# kill -9

JOB = """
import sys
import tersely
from little_batch import Deadly
from tersely.middleware.batch import batch

if __name__ == "__main__":
    pipeline = tersely.Pipeline(Deadly(grave="", seconds=0.02), model="gpt-4o")
    batch(sys.argv[1], sys.argv[2], pipeline=pipeline, block=3)
"""


@pytest.mark.parametrize("ending", ["jsonl.gz", "parquet"])
def test_kill_9_where_files_are_packed_or_typed(tmp_path: Path, ending: str) -> None:
    source, target = source_of(tmp_path, ending)
    (tmp_path / "whole").mkdir()
    slow = tersely.Pipeline(Deadly(grave="", seconds=0.02), model="gpt-4o")
    run(source, tmp_path / "whole" / target.name, pipeline=slow.but())
    script = write(tmp_path / "job.py", JOB.encode())
    grown = target.with_name(f"{target.name}.part") if ending == "parquet" else target
    running = subprocess.Popen(
        [sys.executable, script, source, target],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    while not (grown.exists() and grown.stat().st_size):
        assert running.poll() is None
        time.sleep(0.005)
    running.kill()
    running.wait()
    assert run(source, target, pipeline=slow).finished
    assert content(tmp_path) == content(tmp_path / "whole")


def test_what_a_kill_at_the_end_leaves_is_removed(tmp_path: Path) -> None:
    source, target = source_of(tmp_path, "parquet")
    run(source, target)
    before = content(tmp_path)
    for ending in (".part", ".sorted"):
        write(tmp_path / f"out.parquet{ending}", b"left")
    assert run(source, target).message.startswith("nothing to do")
    assert sorted(path.name for path in tmp_path.glob("out*")) == [
        *("out.parquet", "out.parquet.errors.jsonl", "out.parquet.journal")
    ]
    assert content(tmp_path) == before


def test_two_runs_do_not_write_the_same_files(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", lines(*ROWS)), tmp_path / "out.jsonl"
    said: list[str] = []

    class Again(Half):
        """Begins the job that it is part of."""

        name = "again"

        def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
            if not said:
                with pytest.raises(ConfigError) as told:
                    run(source, target, pipeline=tersely.Pipeline(self), resume=False)
                said.append(str(told.value))
            return super().__call__(prompt, context)

    assert run(source, target, pipeline=tersely.Pipeline(Again(), model="gpt-4o")).finished
    assert said == [f"another run of this job is writing {target}: let it end"]
    assert [row["id"] for row in read(target)] == [row["id"] for row in ROWS]


# rows that can't be read, and stages that raise

FAULTS: dict[str, tuple[bytes, str, bool]] = {
    "good": (json.dumps({"text": TEXT}).encode(), "", True),
    "torn": (b'{"text": "abc', "not JSON: Unterminated string", False),
    "not UTF-8": (b'{"text": "a\xff"}', "not UTF-8 at byte 11", False),
    "a number": (b'{"text": 12}', "field 'text' holds no text but 12", True),
    "a list": (b'["a"]', "a row is a JSON object, was ['a']", True),
    "nothing": (b'{"txt": "a"}', "no field 'text'; the row has txt", True),
    "raises": (b'{"text": "explode"}', "failed: RuntimeError: exploded", True),
    "large": (b'{"text": "' + b"ab " * 30_000 + b'"}', "", True),
}
"""A line, what is wrong with it, and whether it goes on to the target."""


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(list(FAULTS)), max_size=12), st.integers(1, 5), st.integers(0, 12))
def test_the_errors_are_exactly_the_rows_that_failed(
    kinds: list[str], block: int, stop: int
) -> None:
    with TemporaryDirectory() as made:
        source = write(Path(made) / "in.jsonl", b"".join(FAULTS[k][0] + b"\n" for k in kinds))
        target = Path(made) / "out.jsonl"
        stage = tersely.Pipeline(Deadly(grave=""), model="gpt-4o")
        more: dict[str, Any] = {"pipeline": stage, "field": "text", "block": block}
        run(source, target, limit=stop, **more)
        done = run(source, target, **more)
        errors_at = target.with_name("out.jsonl.errors.jsonl")
        errors = read(errors_at) if errors_at.exists() else []
        written = target.read_bytes().splitlines()
    wrong = [(i, kind) for i, kind in enumerate(kinds, 1) if FAULTS[kind][1]]
    assert [error["line"] for error in errors] == [line for line, _ in wrong]
    for error, (_, kind) in zip(errors, wrong, strict=True):
        line, reason, _ = FAULTS[kind]
        assert reason in error["reason"]
        assert error["row"] == line.decode(errors="backslashreplace")
    assert (done.rows, done.failed) == (len(kinds), len(wrong))
    kept = [kind for kind in kinds if FAULTS[kind][2]]
    assert len(written) == len(kept)
    for line, kind in zip(written, kept, strict=True):
        assert line[:9] == FAULTS[kind][0][:9]


def test_half_a_surrogate_is_told(tmp_path: Path) -> None:
    """JSON can hold what UTF-8 can't: in names, models, fields and reasons."""
    half = "\ud83d"
    rows = [
        {"id": half, "text": f"{half} {TEXT}"},
        {"text": TEXT, "model": half, half: 1},
        {"text": [half, 1]},
        {half: 1},
    ]
    report = tmp_path / "report.html"
    done = run(write(tmp_path / "in.jsonl", lines(*rows)), tmp_path / "out.jsonl", report=report)
    assert (done.rows, done.failed, done.finished) == (4, 2, True)
    made = read(tmp_path / "out.jsonl")
    assert made[0]["id"] == half
    assert made[0]["text"] == f"{half} {TEXT}"[:25]
    assert made[1][half] == 1
    assert report.exists()


# workers


def outputs(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("out.jsonl", "out.jsonl.errors.jsonl")]


def test_a_worker_that_is_killed_from_outside_costs_no_row(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", lines(*ROWS) + b"torn {")
    (tmp_path / "whole").mkdir()
    slow = Deadly(grave="", seconds=0.02, pids=str(tmp_path / "pids"))
    (tmp_path / "pids").mkdir()
    run(source, tmp_path / "whole" / "out.jsonl", pipeline=tersely.Pipeline(slow))
    (tmp_path / "pids" / str(os.getpid())).unlink()
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            time.sleep(0.02)
            if found := [int(path.name) for path in (tmp_path / "pids").iterdir()]:
                killed.append(found[0])
                os.kill(found[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run(source, tmp_path / "out.jsonl", pipeline=tersely.Pipeline(slow), workers=2)
    killer.join()
    assert outputs(tmp_path) == outputs(tmp_path / "whole")


def test_workers_that_can_not_open_the_pipeline_are_told(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", lines(*ROWS))
    sealed = tersely.Pipeline(Sealed(maker=os.getpid()))
    with pytest.raises(ConfigError, match="can't open the pipeline: RuntimeError: sealed"):
        run(source, tmp_path / "out.jsonl", pipeline=sealed, workers=2)
    assert not (tmp_path / "out.jsonl").read_bytes()


def test_a_script_without_its_guard_is_told(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", lines(*ROWS))
    script = JOB.replace('if __name__ == "__main__":', "if True:").replace("block=3", "workers=2")
    write(tmp_path / "job.py", script.encode())
    done = subprocess.run(
        [sys.executable, tmp_path / "job.py", source, tmp_path / "out.jsonl"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 1
    assert b"a script that asks for workers needs `if __name__" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out.jsonl").read_bytes()


# files of several parts


def test_parts_of_a_job_before_do_not_stay(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", lines(*ROWS)), tmp_path / "out.jsonl"
    run(source, target, split_rows=4)
    assert (tmp_path / "out.8.jsonl").exists()
    run(source, target, split_rows=20, resume=False)
    assert sorted(path.name for path in tmp_path.glob("out*")) == [
        *("out.2.jsonl", "out.jsonl", "out.jsonl.errors.jsonl", "out.jsonl.journal")
    ]
    made = [row["id"] for path in (target, tmp_path / "out.2.jsonl") for row in read(path)]
    assert made == [row["id"] for row in ROWS]


def test_a_file_that_is_not_ours_is_no_part(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", lines(*ROWS)), tmp_path / "out.jsonl"
    mine = write(tmp_path / "out.2.jsonl", b"precious")
    with pytest.raises(ConfigError, match=r"out\.2\.jsonl exists and was not written by this job"):
        run(source, target, split_rows=10)
    assert mine.read_bytes() == b"precious"
    mine.rename(tmp_path / "elsewhere")
    assert run(source, target, split_rows=10).finished
    parts = [target, *(tmp_path / f"out.{n}.jsonl" for n in (2, 3))]
    assert [row["id"] for path in parts for row in read(path)] == [row["id"] for row in ROWS]
    errors = read(tmp_path / "out.jsonl.errors.jsonl")
    assert [error["line"] for error in errors] == [1, 7, 13, 19, 25]


def test_more_parts_than_files_may_be_open(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", lines(*[{"text": TEXT}] * 120))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len([*Path("/dev/fd").iterdir()]) + 30, hard))
    try:
        run(source, tmp_path / "out.jsonl", split_rows=1, limit=70)
        assert run(source, tmp_path / "out.jsonl", split_rows=1).finished
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(len(read(tmp_path / f"out.{n}.jsonl")) == 1 for n in range(2, 121))


def test_cells_have_one_header_though_no_row_was_done(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", f"text,n\n{TEXT},1\n".encode())
    sealed = tersely.Pipeline(Sealed(maker=os.getpid()))
    with pytest.raises(ConfigError, match="sealed"):
        run(source, tmp_path / "out.csv", pipeline=sealed, workers=2)
    assert run(source, tmp_path / "out.csv", pipeline=sealed).finished
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["n"] for row in csv.DictReader(file)] == ["1"]


def test_errors_of_several_files_go_to_a_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.jsonl", lines({"text": TEXT}) + f"torn {name}".encode())
    run(tmp_path / "in", tmp_path / "out", errors=tmp_path / "wrong")
    for name in ("a", "b"):
        (error,) = read(tmp_path / "wrong" / f"{name}.jsonl.errors.jsonl")
        assert (error["line"], error["row"]) == (2, f"torn {name}")
    assert run(tmp_path / "in", tmp_path / "out", errors=tmp_path / "wrong").skipped == 4
    with pytest.raises(
        ConfigError, match=r"errors of several files go to a folder, was wrong\.jsonl"
    ):
        run(tmp_path / "in", tmp_path / "again", errors=Path("wrong.jsonl"))


def test_the_last_line_needs_no_ending_to_be_sorted(tmp_path: Path) -> None:
    rows = [{"text": f"{9 - i} {TEXT}"} for i in range(5)]
    source = write(tmp_path / "in.jsonl", lines(*rows).rstrip(b"\n"))
    run(source, tmp_path / "out.jsonl", sort=True)
    assert [row["text"][0] for row in read(tmp_path / "out.jsonl")] == ["5", "6", "7", "8", "9"]


# what does not hang on the machine


def test_how_busy_the_machine_is_changes_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", b"")
    for name in ("default", "bold"):
        job = BatchJob(source=source, target=tmp_path / "out.jsonl", pipeline=name)
        assert (job.settled.budget.ms, job.settled.budget.pace) == (None, None)
        assert job.settled.budget.shares
        made = MapRows(pipeline=name).pipeline
        assert isinstance(made, tersely.Pipeline)
        assert made.budget == job.settled.budget
    hurried = BatchJob(source=source, target=tmp_path / "out.jsonl", budget={"ms": 5})
    assert hurried.settled.budget.ms == 5


def test_the_account_takes_the_same_room_however_large_rows_are() -> None:
    messages = [{"role": "user", "content": f"{i} {TEXT * 300}"} for i in range(500)]
    treated = Treated(
        status="compressed",
        edits={("messages", i, "content"): "short" for i in range(500)},
        before=10,
        after=5,
    )
    each = (Tally.of(i, {"messages": messages, "model": f"m{i}"}, treated) for i in range(200))
    total = Tally.total(each)
    assert len(total.model_dump_json()) < 800_000
    assert (len(total.read), sum(total.read.values())) == (MODELS, 2000)
