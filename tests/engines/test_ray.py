"""A batch job on a real Ray cluster of this machine; without Ray nothing is tested."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from little_batch import Deadly

import tersely
from tersely.middleware.batch import batch
from tersely.middleware.batch_map import MapRows
from tersely.middleware.batch_workers import DIED

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

TEXT = "one two three four five six seven eight nine ten"
ROWS: list[Any] = [{"id": i, "text": f"{i} {TEXT}" if i % 6 else i} for i in range(60)]


@pytest.fixture(scope="module")
def ray() -> Any:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def outputs(folder: Path, rows: list[Any], **more: Any) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows) + "torn {\n")
    grave = folder.parent / "grave"
    pids = folder / "pids"
    pids.mkdir()
    stage = Deadly(grave=str(grave), seconds=0.05, pids=str(pids))
    batch(source, folder / "out.jsonl", pipeline=tersely.Pipeline(stage), block=3, **more)
    names = ("out.jsonl", "out.jsonl.errors.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


def test_the_same_to_the_byte_though_a_worker_is_killed(ray: Any, tmp_path: Path) -> None:
    (tmp_path / "grave").touch()
    rows = [*ROWS, {"text": f"faint {TEXT}"}, {"text": "explode"}]
    whole = outputs(tmp_path / "here", rows)
    (tmp_path / "grave").unlink()  # one row kills its actor, the first time
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            time.sleep(0.05)
            pids = sorted((tmp_path / "ray" / "pids").glob("*"))
            if len(pids) >= 2:
                killed.append(int(pids[0].name))
                os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    made = outputs(tmp_path / "ray", rows, engine="ray", workers=2)
    assert killed
    assert (tmp_path / "grave").exists()
    assert made == whole


def test_a_row_that_kills_each_time_fails_alone(ray: Any, tmp_path: Path) -> None:
    rows = [*ROWS[1:5], {"text": "die"}, *ROWS[7:12]]
    made = outputs(tmp_path / "ray", rows, engine="ray", workers=2)
    told = [json.loads(line)["tersely"] for line in made["out.jsonl"].splitlines()]
    assert [one["status"] for one in told].count("failed") == 1
    assert told[4]["reason"] == DIED


def test_map_batches(ray: Any) -> None:
    given = ray.data.from_items([{"text": f"{TEXT} {i}"} for i in range(10)])
    settings = {"pipeline": tersely.Pipeline(Deadly(grave="")), "field": "text"}
    made = given.map_batches(
        MapRows, fn_constructor_kwargs=settings, concurrency=2, batch_format="pyarrow"
    )
    rows = sorted(made.take_all(), key=lambda row: row["text"])
    assert len(rows) == 10
    assert {row["tersely"]["status"] for row in rows} == {"compressed"}
