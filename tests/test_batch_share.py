"""Work that rows have in common is done once, and rows that begin alike come together."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from little_batch import Counted, Half

import tersely
from tersely.errors import ConfigError
from tersely.middleware import batch_sort
from tersely.middleware.batch import batch
from tersely.middleware.batch_summary import BatchSummary

SYSTEM = "you are careful and short and you answer in the language of the question"
PAPERS = [f"paper {i} has seven things to say about the sea" for i in range(3)]


def chat(i: int) -> dict[str, Any]:
    asked = f"what does it say of the wind, and of case number {i}"
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": PAPERS[i % 3]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": asked},
    ]
    return {"id": i, "messages": messages}


def write(folder: Path, rows: list[Any]) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(folder: Path, name: str = "out.jsonl", **more: Any) -> BatchSummary:
    stage = Counted(book=str(folder / f"{name}.book"))
    pipeline = tersely.Pipeline(stage, model="gpt-4o", budget=0.6)
    given = {"pipeline": pipeline, "block": 4, "share": True} | more
    return batch(folder / "in.jsonl", folder / name, **given)


def test_a_text_is_compressed_once_in_the_whole_job(tmp_path: Path) -> None:
    write(tmp_path, [chat(i) for i in range(12)])
    done = run(tmp_path)
    seen = Counter((tmp_path / "out.jsonl.book").read_text().splitlines())
    assert seen[SYSTEM] == 1
    assert [seen[paper] for paper in PAPERS] == [1, 1, 1]
    made = read(tmp_path / "out.jsonl")
    assert len({row["messages"][0]["content"] for row in made}) == 1
    assert len(made[0]["messages"][0]["content"]) < len(SYSTEM)
    assert {d["stage"] for row in made for d in row["tersely"]["decisions"]} == {"apart"}
    assert done.failed == 0
    assert done.after < done.before


def test_workers_share_what_they_made(tmp_path: Path) -> None:
    write(tmp_path, [chat(i) for i in range(24)])
    run(tmp_path, limit=12)
    run(tmp_path, workers=2)  # what is shared is no other job
    whole = (tmp_path / "out.jsonl").read_bytes()
    assert run(tmp_path, "alone.jsonl").finished
    assert read(tmp_path / "alone.jsonl") == [json.loads(line) for line in whole.splitlines()]
    seen = Counter((tmp_path / "out.jsonl.book").read_text().splitlines())
    assert seen[SYSTEM] <= 3  # once here, and at most once in each worker
    assert not (tmp_path / "out.jsonl.cache").exists()


@pytest.mark.parametrize("budget", [1500, None])
def test_a_budget_that_no_text_can_have_alone(tmp_path: Path, budget: Any) -> None:
    write(tmp_path, [chat(0)])
    with pytest.raises(ConfigError, match="a budget that is a ratio"):
        run(tmp_path, pipeline=tersely.Pipeline(Half(), budget=budget))


# the order of rows


def begin_of(row: Any) -> str:
    return "".join(message["content"] for message in row["messages"])


def test_rows_that_begin_alike_come_together(tmp_path: Path) -> None:
    rows = [chat(i) for i in range(20)]
    path = write(tmp_path, rows)
    path.write_text(path.read_text() + "torn {\n")
    first = run(tmp_path, share=False, sort=True, limit=7)
    assert (first.rows, first.finished) == (7, False)
    done = run(tmp_path, share=False, sort=True)
    assert (done.rows, done.failed, done.skipped, done.finished) == (21, 1, 7, True)
    made = read(tmp_path / "out.jsonl")
    papers = [row["id"] % 3 for row in made]
    assert papers == sorted(papers)
    assert sorted(row["id"] for row in made) == [*range(20)]
    (error,) = read(tmp_path / "out.jsonl.errors.jsonl")
    assert error["line"] == 21
    assert not (tmp_path / "out.jsonl.sorted").exists()


def test_sorting_in_pieces_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [chat(i) for i in range(300)]
    write(tmp_path, rows)
    monkeypatch.setattr(batch_sort, "ROOM", 2_000)
    run(tmp_path, share=False, sort=True, block=50)
    made = read(tmp_path / "out.jsonl")
    asked = [[message["content"] for message in row["messages"]] for row in rows]
    order = sorted(range(300), key=lambda i: (*asked[i], i))
    assert [row["id"] for row in made] == order


def test_rows_of_a_table_keep_their_numbers(tmp_path: Path) -> None:
    texts = ["b b b b", None, "a a a a", "b b a a"]
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    pipeline = tersely.Pipeline(Half())
    batch(tmp_path / "in.parquet", tmp_path / "out.parquet", pipeline=pipeline, sort=True)
    made = pq.read_table(tmp_path / "out.parquet").column("text").to_pylist()
    assert made == [None, "a a ", "b b ", "b b "]
    (error,) = read(tmp_path / "out.parquet.errors.jsonl")
    assert error["line"] == 2
