"""A batch job on a real Ray cluster of this machine, and its work where Ray, datasets or Daft bring
the rows; without them nothing is tested."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from little_batch import Deadly, Sealed

import tersely
from tersely.errors import ConfigError
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


def test_more_workers_than_there_is_room_for(ray: Any, tmp_path: Path) -> None:
    (tmp_path / "grave").touch()
    whole = outputs(tmp_path / "here", ROWS)
    assert outputs(tmp_path / "ray", ROWS, engine="ray", workers=4) == whole


def test_a_pipeline_that_no_actor_can_open_is_told(ray: Any, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": TEXT}))
    sealed = tersely.Pipeline(Sealed(maker=os.getpid()))
    with pytest.raises(ConfigError, match="can't open the pipeline: RuntimeError: sealed"):
        batch(
            tmp_path / "in.jsonl", tmp_path / "out.jsonl", pipeline=sealed, engine="ray", workers=2
        )


# other libraries bring the rows

GIVEN: dict[str, Any] = {
    "id": [*range(20)],
    "text": [f"{i} {TEXT}" if i % 5 else None for i in range(20)],
}
SETTINGS: dict[str, Any] = {"pipeline": tersely.Pipeline(Deadly(grave="")), "field": "text"}


@pytest.fixture
def job(tmp_path: Path) -> list[Any]:
    """The rows that a job makes of the same ones."""
    pq.write_table(pa.table(GIVEN), tmp_path / "in.parquet")
    batch(tmp_path / "in.parquet", tmp_path / "out.parquet", **SETTINGS)
    made: list[Any] = pq.read_table(tmp_path / "out.parquet").to_pylist()
    return made


def test_map_batches(ray: Any, job: list[Any]) -> None:
    parts = [pa.table(GIVEN).slice(at, 10) for at in (0, 10)]
    made = ray.data.from_arrow(parts).map_batches(
        MapRows, fn_constructor_kwargs=SETTINGS, concurrency=2, batch_format="pyarrow", batch_size=3
    )
    assert sorted(made.take_all(), key=lambda row: row["id"]) == job


@pytest.mark.skipif(find_spec("datasets") is None, reason="datasets is not installed")
def test_datasets(job: list[Any], tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_dict(GIVEN)
    shorter = MapRows(**SETTINGS)
    assert data.map(shorter, batched=True, batch_size=3).to_list() == plain(job)
    assert data.map(shorter.row).to_list() == plain(job)


@pytest.mark.skipif(find_spec("daft") is None, reason="Daft is not installed")
def test_daft(job: list[Any]) -> None:
    import daft

    shorter = MapRows(**SETTINGS)

    @daft.func.batch(return_dtype=daft.DataType.string())
    def short(series: daft.Series) -> list[str | None]:
        return shorter.texts(series.to_pylist())

    made = daft.from_pydict(GIVEN).with_column("text", short(daft.col("text"))).to_pydict()
    assert made["text"] == [row["text"] for row in job]


def plain(rows: list[Any]) -> list[Any]:
    """Rows whose accounts tell all that any account tells, as columns without a type have it."""
    empty = {"reason": "", "decisions": []}
    filled = ({k: v for k, v in row["tersely"].items() if v is not None} for row in rows)
    tokens = {"before": None, "after": None}
    return [
        {**row, "tersely": tokens | empty | told} for row, told in zip(rows, filled, strict=True)
    ]
