"""Rows as a provider's batch file, and what the provider sends back, in the rows again."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import tersely
from tersely.backends.scripted import ScriptedBackend
from tersely.errors import ConfigError
from tersely.middleware.batch import BatchJob, batch
from tersely.middleware.batch_collect import Collected, collect
from tersely.middleware.batch_results import outcome_of
from tersely.middleware.cli import app

PLAIN = tersely.Pipeline("none")
TEXT = "one two three four five six seven eight nine ten"


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def chat(text: str | None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, **more}
    return {
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


def openai_line(name: str, body: Any, status: int = 200) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": f"batch_req_{name}", "custom_id": name, "response": response, "error": None}


def fault(name: str, message: str) -> dict[str, Any]:
    error = {"code": "batch_expired", "message": message}
    return {"id": "b", "custom_id": name, "response": None, "error": error}


def requested(folder: Path, rows: list[Any], provider: str = "openai", **more: Any) -> list[Any]:
    """The requests that rows become."""
    source, target = write(folder / "in.jsonl", rows), folder / "requests.jsonl"
    wanted = {"provider": provider, "model": "gpt-4o-mini"}
    batch(source, target, **{"pipeline": PLAIN, "requests": wanted, **more})
    return read(target)


def test_texts_become_requests(tmp_path: Path) -> None:
    rows = [{"docs": ["a", "b"], "q": "Which?"}, {"docs": "c"}]
    wanted = {"provider": "openai", "model": "m", "max_tokens": 5}
    made = requested(tmp_path, rows, field="docs", question_field="q", requests=wanted)
    assert [row["custom_id"] for row in made] == ["row-1", "row-2"]
    assert (made[0]["method"], made[0]["url"]) == ("POST", "/v1/chat/completions")
    messages = [{"role": "user", "content": "a\n\nb\n\nWhich?"}]
    assert made[0]["body"] == {"model": "m", "messages": messages, "max_completion_tokens": 5}
    told = read(tmp_path / "requests.jsonl.report.jsonl")
    assert [one["custom_id"] for one in told] == ["row-1", "row-2"]


SAID = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}]


def test_messages_become_requests(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    (made,) = requested(tmp_path, [{"messages": SAID, "tools": tools, "model": "other", "id": 7}])
    assert made["body"] == {"model": "gpt-4o-mini", "messages": SAID, "tools": tools}
    (made,) = requested(tmp_path, [{"messages": SAID}], "anthropic", resume=False)
    assert made == {
        "custom_id": "row-1",
        "params": {
            "model": "gpt-4o-mini",
            "max_tokens": 1024,
            "system": "Be brief.",
            "messages": SAID[1:],
        },
    }


def test_the_requests_are_the_compressed_ones(tmp_path: Path) -> None:
    pipeline = tersely.Pipeline("truncate", budget=0.5, model="gpt-4o")
    (made,) = requested(tmp_path, [{"text": TEXT}], pipeline=pipeline)
    said = made["body"]["messages"][0]["content"]
    assert said
    assert len(said) < len(TEXT)


def test_rows_that_can_not_be_asked_have_no_line(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": 5}, {"text": ""}, {"text": "b"}]
    made = requested(tmp_path, rows)
    assert [row["custom_id"] for row in made] == ["row-1", "row-4"]
    errors = read(tmp_path / "requests.jsonl.errors.jsonl")
    assert [error["line"] for error in errors] == [2, 3]
    assert "no request" in errors[1]["reason"]


def test_requests_are_split_as_the_provider_takes_them(tmp_path: Path) -> None:
    made = requested(tmp_path, [{"text": "a"}] * 5, split_rows=2, block=1)
    assert [row["custom_id"] for row in made] == ["row-1", "row-2"]
    assert [row["custom_id"] for row in read(tmp_path / "requests.3.jsonl")] == ["row-5"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"requests": "openai"}, "name a model"),
        ({"requests": "mistral"}, "provider"),
        ({"target": "out.csv"}, "JSONL"),
        ({"generate": ScriptedBackend([])}, "not both"),
    ],
)
def test_wishes_that_can_not_be_met(tmp_path: Path, wrong: Any, told: str) -> None:
    given = {"target": tmp_path / "out.jsonl", "requests": {"provider": "openai", "model": "m"}}
    with pytest.raises(ConfigError, match=told):
        BatchJob(source=write(tmp_path / "in.jsonl", [{"text": "a"}]), **given | wrong).run()


def test_requests_are_not_made_of_requests(tmp_path: Path) -> None:
    row = {"custom_id": "a", "url": "/v1/chat/completions", "body": {"messages": SAID}}
    with pytest.raises(ConfigError, match="already"):
        requested(tmp_path, [row])


def test_answers_come_back_in_any_order(tmp_path: Path) -> None:
    rows = [{"id": i, "text": f"{TEXT} {i}"} for i in range(7)]
    made = requested(tmp_path, rows)
    results = [openai_line(row["custom_id"], chat(row["custom_id"][4:])) for row in made]
    random.Random(1).shuffle(results)
    halves = [write(tmp_path / f"{i}.jsonl", results[i::2]) for i in range(2)]
    done = collect(tmp_path / "in.jsonl", halves, tmp_path / "out.jsonl")
    got = read(tmp_path / "out.jsonl")
    assert [row["id"] for row in got] == [*range(7)]
    assert [row["tersely_answer"]["text"] for row in got] == [str(i + 1) for i in range(7)]
    assert got[0]["tersely_answer"] == {
        "text": "1",
        "model": "gpt-4o-mini",
        "finish_reason": "stop",
        "prompt_tokens": 9,
        "cached_tokens": 4,
        "completion_tokens": 2,
    }
    assert (done.rows, done.answered, done.exit_code) == (7, 7, 0)
    assert (done.prompt_tokens, done.cached_tokens, done.completion_tokens) == (63, 28, 14)
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()


def test_what_is_missing_doubled_unknown_or_failed_is_told(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d", "d")
    rows = [{"custom_id": name, "body": {"messages": SAID}} for name in names]
    results = [
        openai_line("a", chat("first")),
        openai_line("a", chat("second")),
        fault("a", "later, and no answer"),
        fault("b", "expired"),
        openai_line("d", chat("d")),
        openai_line("z", chat("z")),
    ]
    source = write(tmp_path / "in.jsonl", rows)
    done = collect(source, write(tmp_path / "r.jsonl", results), tmp_path / "out.jsonl")
    told = [(row.get("tersely_answer") or {}).get("text") for row in read(tmp_path / "out.jsonl")]
    assert told == ["second", None, None, "d", "d"]
    assert (done.rows, done.answered, done.exit_code) == (5, 3, 1)
    assert (done.failed, done.missing, done.unknown, done.doubled) == (1, 1, 1, 3)
    assert done.names == {
        "failed": ("b",),
        "missing": ("c",),
        "unknown": ("z",),
        "doubled": ("a", "a", "d"),
    }
    errors = read(tmp_path / "out.jsonl.errors.jsonl")
    assert [(error["line"], "expired" in error["reason"]) for error in errors] == [
        (2, True),
        (3, False),
    ]
    for said in ("3 of 5 rows", "1 missing (c)", "1 unknown (z)"):
        assert said in done.message


def test_an_old_answer_does_not_stay_where_there_is_no_new_one(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "a", "tersely_answer": {"text": "old"}}])
    collect(source, write(tmp_path / "r.jsonl", []), tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == [{"text": "a", "tersely_answer": None}]


def message(*blocks: dict[str, Any]) -> dict[str, Any]:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 2}
    return {"model": "claude-a", "content": [*blocks], "stop_reason": "end_turn", "usage": usage}


RESPONSE = {
    "model": "gpt-5",
    "status": "completed",
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
    ],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 2,
    },
}


@pytest.mark.parametrize(
    "line",
    [
        openai_line("a", chat("Hi")),
        openai_line("a", RESPONSE),
        {
            "custom_id": "a",
            "result": {
                "type": "succeeded",
                "message": message({"type": "thinking"}, {"type": "text", "text": "Hi"}),
            },
        },
    ],
    ids=["chat", "responses", "anthropic"],
)
def test_what_providers_send(line: Any) -> None:
    name, outcome = outcome_of(line)
    assert (name, outcome.reason, outcome.more) == ("a", "", "")
    answer = outcome.answer
    assert answer["text"] == "Hi"
    used = [answer[f"{kind}_tokens"] for kind in ("prompt", "cached", "completion")]
    assert used == [9, 4, 2]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (openai_line("a", {"error": {"message": "too long"}}, 400), "HTTP 400.*too long"),
        (fault("a", "expired"), "expired"),
        (openai_line("a", {"choices": []}), "no answer"),
        ({"custom_id": "a", "result": {"type": "expired"}}, "expired"),
        (
            {
                "custom_id": "a",
                "result": {"type": "errored", "error": {"error": {"message": "overloaded"}}},
            },
            "overloaded",
        ),
    ],
)
def test_how_providers_refuse(line: Any, told: str) -> None:
    reason = outcome_of(line)[1].reason
    assert re.search(told, reason), reason


KEYS = ("body", "choices", "message", "content", "usage", "type", "output", "error", "text")
SHAPES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.just([]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
)


@settings(max_examples=200)
@given(st.sampled_from(("response", "result", "error")), SHAPES)
def test_results_of_no_providers_shape_have_a_reason(key: str, value: Any) -> None:
    name, outcome = outcome_of({"custom_id": "a", key: value})
    assert name == "a"
    assert outcome.reason or outcome.body is not None


def test_calls_of_tools_come_whole(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    results = write(tmp_path / "r.jsonl", [openai_line("row-1", chat(None, tool_calls=[call]))])
    source = write(tmp_path / "in.jsonl", [{"text": "a"}])
    collect(source, results, tmp_path / "out.jsonl")
    answer = read(tmp_path / "out.jsonl")[0]["tersely_answer"]
    assert answer["body"]["choices"][0]["message"]["tool_calls"] == [call]
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "in.parquet")
    done = collect(tmp_path / "in.parquet", results, tmp_path / "out.parquet")
    assert done.failed == 1
    assert "tool_calls" in read(tmp_path / "out.parquet.errors.jsonl")[0]["reason"]


def test_cells_and_tables_have_their_answers(tmp_path: Path) -> None:
    cells = tmp_path / "in.csv"
    cells.write_text('text,n\n"a, b",1\nc,2\n')
    table = pa.table({"text": ["a", "c"], "n": pa.array([1, 2], pa.int8())})
    pq.write_table(table, tmp_path / "in.parquet")
    for name, first in (("csv", 2), ("parquet", 1)):
        wanted = {"provider": "openai", "model": "m"}
        batch(tmp_path / f"in.{name}", tmp_path / f"{name}.jsonl", pipeline=PLAIN, requests=wanted)
        named = [row["custom_id"] for row in read(tmp_path / f"{name}.jsonl")]
        assert named == [f"row-{first}", f"row-{first + 1}"]
        results = write(tmp_path / "r.jsonl", [openai_line(one, chat(one)) for one in named[::-1]])
        assert collect(tmp_path / f"in.{name}", results, tmp_path / f"out.{name}").answered == 2
    made = [*csv.DictReader((tmp_path / "out.csv").read_text().splitlines())]
    assert [row["tersely_answer"] for row in made] == ["row-2", "row-3"]
    assert "tersely_status" not in made[0]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.names == ["text", "n", "tersely_answer"]
    assert table.schema.field("n").type == pa.int8()
    assert table.column("tersely_answer").to_pylist()[1]["text"] == "row-2"


def test_packed_files(tmp_path: Path) -> None:
    source, results = tmp_path / "in.jsonl.gz", tmp_path / "r.jsonl.gz"
    source.write_bytes(gzip.compress(b'{"custom_id": "a", "n": 1.10}\n'))
    results.write_bytes(gzip.compress(json.dumps(openai_line("a", chat("Hi"))).encode()))
    assert collect(source, results, tmp_path / "out.jsonl.gz").answered == 1
    assert b'"n": 1.10' in gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes())


def test_what_was_there_stays_until_all_is_done(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", [{"text": "a"}]), tmp_path / "out.jsonl"
    target.write_text("before")
    torn = tmp_path / "r.jsonl"
    for bad in ('{"custom_id": "a"}\n', "no JSON\n", '{"response": {}}\n', "[1]\n"):
        torn.write_text(json.dumps(openai_line("b", chat("Hi"))) + "\n" + bad)
        with pytest.raises(ConfigError, match=r"r\.jsonl is no file of results, at byte \d+"):
            collect(source, torn, target)
        assert target.read_text() == "before"
    for clash in (target, source):
        with pytest.raises(ConfigError, match="another file"):
            collect(source, clash, clash)
    with pytest.raises(ConfigError, match="can't read"):
        collect(source, tmp_path / "none.jsonl", target)


def test_our_own_results_are_collected_as_a_providers(tmp_path: Path) -> None:
    body = {"model": "m", "messages": SAID}
    rows = [
        {"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for i in range(3)
    ]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "asked.jsonl"
    who = ScriptedBackend(["a", "b", RuntimeError("odd")])
    batch(source, target, pipeline=PLAIN, generate=who)
    done = collect(source, f"{target}.results.jsonl", tmp_path / "out.jsonl")
    assert (done.answered, done.failed) == (2, 1)
    assert "odd" in read(tmp_path / "out.jsonl.errors.jsonl")[0]["reason"]


NAMES = st.lists(st.text(min_size=1, max_size=4), max_size=8)


@settings(max_examples=25)
@given(NAMES, NAMES, st.text(max_size=5))
def test_every_row_gets_its_own_answer(
    tmp_path_factory: pytest.TempPathFactory, asked: list[str], came: list[str], text: str
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [{"custom_id": name, "n": i, text: [text]} for i, name in enumerate(asked)]
    rows = [{**row, "custom_id": name} for row, name in zip(rows, asked, strict=True)]
    results = [openai_line(name, chat(f"{i}{name}")) for i, name in enumerate(came)]
    source = write(folder / "in.jsonl", rows)
    done = collect(source, write(folder / "r.jsonl", results), folder / "out.jsonl")
    last = {name: f"{i}{name}" for i, name in enumerate(came)}
    for row, made in zip(rows, read(folder / "out.jsonl"), strict=True):
        answer = made.pop("tersely_answer", None)
        assert (answer or {}).get("text") == last.get(row["custom_id"])
        assert made == row
    assert done.rows == len(asked)
    assert done.answered + done.missing == done.rows
    assert done.unknown == len(set(came) - set(asked))


def test_by_command(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": TEXT}])
    asked, out = tmp_path / "asked.jsonl", tmp_path / "out.jsonl"
    call = ["batch", str(source), "-o", str(asked), "--stage", "none", "--as", "openai"]
    done = CliRunner().invoke(app, [*call, "--model", "gpt-4o-mini", "--max-tokens", "7"])
    assert done.exit_code == 0
    (row,) = read(asked)
    assert (row["body"]["model"], row["body"]["max_completion_tokens"]) == ("gpt-4o-mini", 7)
    results = write(tmp_path / "r.jsonl", [openai_line("row-1", chat("Hi"))])
    call = ["collect", str(source), str(results), "-o", str(out)]
    done = CliRunner().invoke(app, [*call, "--json"])
    assert done.exit_code == 0
    assert Collected.model_validate_json(done.stdout).answered == 1
    results.write_text("")
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 1
    assert "1 missing (row-1)" in done.stderr
