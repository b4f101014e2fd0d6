"""The work of a batch job, for rows that another library brings."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from little_batch import Half

import tersely
from tersely.errors import ConfigError, RequestError
from tersely.middleware.batch import batch
from tersely.middleware.batch_map import MapRows

TEXT = "one two three four five six seven eight nine ten"
SHORT = TEXT[:24]
PIPELINE = tersely.Pipeline(Half(), model="gpt-4o")
MAP = MapRows(pipeline=PIPELINE)
COLUMNS: dict[str, Any] = {"id": [1, 2, 3], "text": [TEXT, None, ""], "tags": [["a"], [], None]}


def test_columns_as_lists() -> None:
    made = MAP(COLUMNS)
    assert list(made) == ["id", "text", "tags", "tersely"]
    assert made["text"] == [SHORT, None, ""]
    assert made["id"] is COLUMNS["id"]
    assert [told["status"] for told in made["tersely"]] == ["compressed", "failed", "unchanged"]
    assert COLUMNS["text"][0] == TEXT


def test_columns_as_arrays() -> None:
    given = {
        "id": np.arange(2),
        "messages": np.array(
            [np.array([{"role": "user", "content": TEXT}], dtype=object), [None]], dtype=object
        ),
    }
    made = MapRows(pipeline=PIPELINE, format="messages", column=False)(given)
    assert list(made) == ["id", "messages"]
    assert made["id"] is given["id"]
    assert made["messages"] == [[{"role": "user", "content": SHORT}], [None]]


def test_one_row_and_a_column_of_texts() -> None:
    made = MAP.row({"text": TEXT, "n": np.float32(1.5)})
    assert (made["text"], made["n"], made["tersely"]["status"]) == (SHORT, 1.5, "compressed")
    assert MAP.texts([TEXT, None, ""]) == [SHORT, None, ""]
    assert MAP.texts([]) == []


def test_a_table_gives_what_the_job_gives(tmp_path: Path) -> None:
    given = pa.table({"text": [TEXT, None, f"{TEXT} {TEXT}"], "n": pa.array([1, 2, 3], pa.int8())})
    pq.write_table(given, tmp_path / "in.parquet")
    batch(tmp_path / "in.parquet", tmp_path / "out.parquet", pipeline=PIPELINE)
    assert MAP(given).equals(pq.read_table(tmp_path / "out.parquet"))
    plain = MapRows(pipeline=PIPELINE, column=False)(given)
    assert plain.schema == given.schema


def test_it_travels(tmp_path: Path) -> None:
    again = pickle.loads(pickle.dumps(MapRows(pipeline=PIPELINE, budget=0.4, field="text")))
    assert again(COLUMNS)["text"] == [SHORT, None, ""]
    named = MapRows(pipeline="default")
    assert pickle.loads(pickle.dumps(named)) == named


def test_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="nearest: lexical"):
        MapRows(pipeline="lexicall")
    with pytest.raises(ConfigError, match="must be above 0, was 0"):
        MapRows(budget=0)
    with pytest.raises(RequestError, match=r"for one row call `\.row`"):
        MAP({"text": TEXT})
    with pytest.raises(ConfigError, match="name the field"):
        MAP({"question": ["a"]})


def test_an_empty_batch() -> None:
    assert MAP({"text": []}) == {"text": []}
    assert MapRows(pipeline=PIPELINE, field="text")(pa.table({"text": []})).num_rows == 0


def test_every_part_of_an_account_is_there_in_every_row() -> None:
    told = MAP(COLUMNS)["tersely"]
    assert len({tuple(sorted(one)) for one in told}) == 1
    json.dumps(told)
