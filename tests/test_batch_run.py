"""How a job runs: with several workers, through faults, and what it tells before it begins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from little_batch import Deadly, Half

import tersely
from tersely.errors import ConfigError
from tersely.middleware.batch import BatchJob, batch
from tersely.middleware.batch_sample import Guess, estimate
from tersely.middleware.batch_summary import BatchSummary
from tersely.middleware.batch_workers import DIED

TEXT = "one two three four five six seven eight nine ten"
ROWS: list[Any] = [{"id": i, "text": f"{i} {TEXT}" if i % 6 else i} for i in range(30)]

JOB = """
import sys
import tersely
from little_batch import Deadly
from tersely.middleware.batch import BatchJob

if __name__ == "__main__":
    source, target, grave, workers = sys.argv[1:5]
    pipeline = tersely.Pipeline(Deadly(grave=grave, seconds=0.02), model="gpt-4o")
    job = BatchJob(
        source=source, target=target, pipeline=pipeline, workers=int(workers), block=2
    )
    done = job.run()
    print(done.message, file=sys.stderr)
    sys.exit(done.exit_code)
"""
"""A job of two workers in a process of its own, which can be killed."""


def write(folder: Path, rows: list[Any]) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "torn {\n")
    return path


def outputs(folder: Path) -> dict[str, bytes]:
    names = ("out.jsonl", "out.jsonl.errors.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


def pipeline(folder: Path, seconds: float = 0.0) -> tersely.Pipeline:
    return tersely.Pipeline(Deadly(grave=str(folder / "grave"), seconds=seconds), model="gpt-4o")


def started(folder: Path, workers: int = 2) -> subprocess.Popen[bytes]:
    script = folder / "job.py"
    script.write_text(JOB)
    paths = [str(script), str(folder / "in.jsonl"), str(folder / "out.jsonl")]
    return subprocess.Popen(
        [sys.executable, *paths, str(folder / "grave"), str(workers)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )


def test_workers_give_what_one_process_gives(tmp_path: Path) -> None:
    """Also where a row kills its worker each time, one only the first time, and one raises."""
    rows = [*ROWS, {"text": "explode here"}, {"text": f"faint {TEXT}"}, *ROWS[:3]]
    source = write(tmp_path, rows)
    (tmp_path / "grave").touch()
    alone = batch(source, tmp_path / "out.jsonl", pipeline=pipeline(tmp_path), block=4)
    whole = outputs(tmp_path)
    (tmp_path / "grave").unlink()
    more = {"pipeline": pipeline(tmp_path), "workers": 2, "block": 4, "resume": False}
    together = batch(source, tmp_path / "out.jsonl", **more)
    assert outputs(tmp_path) == whole
    assert (tmp_path / "grave").exists()
    same = ("rows", "done", "failed", "before", "after", "finished")
    assert {n: getattr(together, n) for n in same} == {n: getattr(alone, n) for n in same}


def test_a_row_that_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    rows = [*ROWS[1:4], {"text": "die"}, *ROWS[7:10]]
    source = write(tmp_path, rows)
    done = batch(source, tmp_path / "out.jsonl", pipeline=pipeline(tmp_path), workers=2, block=3)
    assert (done.rows, done.failed, done.finished) == (8, 2, True)
    made = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["tersely"]["status"] for row in made] == [
        *["compressed"] * 3, "failed", *["compressed"] * 3
    ]  # fmt: skip
    assert made[3]["tersely"]["reason"] == DIED
    first, second = (tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()
    assert (json.loads(first)["line"], json.loads(first)["reason"]) == (4, DIED)
    assert json.loads(second)["line"] == 8


def test_a_pipeline_that_can_not_travel_is_told(tmp_path: Path) -> None:
    class Here(Half):
        name = "here"

    source = write(tmp_path, ROWS)
    with pytest.raises(ConfigError, match="workers need a pipeline that can be pickled"):
        batch(source, tmp_path / "out.jsonl", pipeline=tersely.Pipeline(Here()), workers=2)


def test_an_override_travels_to_the_workers(tmp_path: Path) -> None:
    source = write(tmp_path, ROWS[1:3])
    with tersely.override(mode="off"):
        batch(source, tmp_path / "out.jsonl", pipeline=pipeline(tmp_path), workers=2)
    made = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in made] == [row["text"] for row in ROWS[1:3]]


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def finished(folder: Path) -> BatchSummary:
    """Go on in this process, to the end."""
    slow = pipeline(folder, seconds=0.02)
    done = BatchJob(
        source=folder / "in.jsonl", target=folder / "out.jsonl", pipeline=slow, block=2
    ).run()
    assert done.finished
    return done


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the job gives when nothing stops it."""
    folder = tmp_path_factory.mktemp("whole")
    batch(write(folder, ROWS), folder / "out.jsonl", pipeline=pipeline(folder), block=2)
    return outputs(folder)


def test_kill_9_while_workers_work(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write(tmp_path, ROWS)
    running = started(tmp_path)
    while not size_of(tmp_path / "out.jsonl"):
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.communicate()
    assert finished(tmp_path).skipped < len(ROWS)
    assert outputs(tmp_path) == whole


def test_ctrl_c_with_workers_says_how_to_go_on(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write(tmp_path, ROWS)
    running = started(tmp_path)
    while not size_of(tmp_path / "out.jsonl"):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    said = running.communicate()[1].decode()
    assert running.returncode in (0, 130), said
    assert "Traceback" not in said
    if running.returncode:
        assert "run the same job again to go on from there" in said
    finished(tmp_path)
    assert outputs(tmp_path) == whole


# before it begins


def test_an_estimate_holds_what_the_job_comes_to(tmp_path: Path) -> None:
    rows = [{"text": " ".join([TEXT] * (1 + i % 7))} for i in range(400)]
    source = write(tmp_path, rows)
    made = tmp_path / "out.jsonl"
    said = estimate(source, made, sample=100, pipeline=pipeline(tmp_path))
    assert not made.exists()
    done = batch(source, made, pipeline=pipeline(tmp_path))
    assert (said.rows, said.tried) == (401, 100)
    assert said.before.low <= done.before <= said.before.high
    assert said.saved.low <= done.before - done.after <= said.saved.high
    assert said.saved.high - said.saved.low < 0.5 * said.saved.value
    assert said.price == 2.5
    assert said.dollars_saved.value == pytest.approx(said.saved.value * 2.5e-6)
    assert 0 < said.seconds.low <= said.seconds.value <= said.seconds.high
    assert "100 of 401 rows were tried" in said.message
    assert "at $2.5 a million (gpt-4o)" in said.message


def test_when_all_is_tried_it_is_no_guess(tmp_path: Path) -> None:
    source = write(tmp_path, ROWS)
    said = estimate(source, tmp_path / "out", pipeline=pipeline(tmp_path), workers=2)
    done = batch(source, tmp_path / "out", pipeline=pipeline(tmp_path))
    assert (said.rows, said.tried, said.failed) == (31, 31, 6)
    assert said.before == Guess(value=done.before, low=done.before, high=done.before)


def test_rows_tell_the_model_that_is_paid(tmp_path: Path) -> None:
    body = {
        "model": "claude-opus-5-5",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "a"}],
    }
    source = write(tmp_path, [{"custom_id": "a", "params": body}])
    said = estimate(source, tmp_path / "out", pipeline=tersely.Pipeline(Half()))
    assert (said.model, said.price) == ("claude-opus-5-5", 4)


def test_a_sample_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").touch()
    said = estimate(tmp_path / "in.jsonl", tmp_path / "out", pipeline=pipeline(tmp_path))
    assert (said.rows, said.before.value) == (0, 0)
    with pytest.raises(ConfigError, match="at least 1, was 0"):
        estimate(tmp_path / "in.jsonl", tmp_path / "out", sample=0)
