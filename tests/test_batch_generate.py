"""Rows of a batch job that a backend answers: each once, whatever happens."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from anthropic.types import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from little_batch import Half
from loopback import Loopback
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from typer.testing import CliRunner

import tersely
from tersely.backends.http import HttpBackend
from tersely.backends.local import LocalBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Completion, Request
from tersely.errors import BackendError, ConfigError, ContextLengthError
from tersely.middleware.batch import BatchJob, batch
from tersely.middleware.batch_asking import Generation
from tersely.middleware.batch_generate import FIRST, OUTAGE
from tersely.middleware.batch_run import Running
from tersely.middleware.batch_sample import estimate
from tersely.middleware.batch_summary import BatchSummary
from tersely.middleware.cli import app
from tersely.prompt import messages_of

HALVE = tersely.Pipeline(Half(), model="gpt-4o")
TEXT = "one two three four five six seven eight nine ten"
SHORT = TEXT[:24]


def echo(request: Request) -> str:
    """Says what it was asked, so that a test sees it."""
    return json.dumps(messages_of(request.prompt))


def run(folder: Path, rows: list[Any], who: Any = None, **more: Any) -> BatchSummary:
    source = folder / "in.jsonl"
    data = "".join(json.dumps(row) + "\n" for row in rows)
    if not source.exists() or source.read_text() != data:  # a source that changed is another job
        source.write_text(data)
    who = ScriptedBackend(echo) if who is None else who
    given = {"pipeline": HALVE, "generate": who, **more}
    return batch(source, folder / "out.jsonl", **given)


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cells(path: Path) -> list[dict[str, str]]:
    return [*csv.DictReader(path.read_text().splitlines())]


def said(row: Any) -> Any:
    return json.loads(row["tersely_answer"]["text"])


def test_the_compressed_row_is_asked_and_the_answer_stands_in_it(tmp_path: Path) -> None:
    summary = run(tmp_path, [{"id": 1, "text": TEXT}, {"id": 2, "text": "two words"}])
    first, second = read(tmp_path / "out.jsonl")
    assert list(first) == ["id", "text", "tersely", "tersely_answer"]
    assert said(first) == [{"role": "user", "content": SHORT}]
    assert said(second) == [{"role": "user", "content": second["text"]}]
    answer = first["tersely_answer"]
    assert answer["finish_reason"] == "stop"
    assert answer["model"] == "scripted"
    assert (summary.answered, summary.failed) == (2, 0)
    assert summary.prompt_tokens == sum(
        row["tersely_answer"]["prompt_tokens"] for row in (first, second)
    )
    assert summary.completion_tokens > 0
    assert "2 answers" in summary.message
    assert {path.name for path in tmp_path.iterdir()} == {
        *("in.jsonl", "out.jsonl", "out.jsonl.journal")
    }


def test_what_rows_ask(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    rows = [{"messages": [system, {"role": "user", "content": "How are you?"}]}]
    pipeline = tersely.Pipeline("none")
    run(tmp_path, rows, pipeline=pipeline)
    assert said(read(tmp_path / "out.jsonl")[0]) == rows[0]["messages"]
    run(
        tmp_path,
        [{"docs": ["a", "b"], "ask": {"q": "Which?"}}, {"docs": ["c"]}],
        pipeline=pipeline,
        field="docs",
        question_field="ask.q",
        resume=False,
    )
    asked = [said(row)[0]["content"] for row in read(tmp_path / "out.jsonl")]
    assert asked == ["a\n\nb\n\nWhich?", "c"]


def test_settings_of_the_requests(tmp_path: Path) -> None:
    who = ScriptedBackend(["a"])
    run(tmp_path, [{"text": TEXT}], {"backend": who, "max_tokens": 7, "temperature": 0.5})
    (asked,) = who.requests
    assert (asked.max_tokens, asked.temperature) == (7, 0.5)


CHAT = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": TEXT}],
    "max_tokens": 5,
    "stop": ["x"],
}


def test_lines_for_openai_have_results_as_openai_writes_them(tmp_path: Path) -> None:
    head = {"method": "POST", "url": "/v1/chat/completions"}
    who = ScriptedBackend([Completion(text="Hi", prompt_tokens=9, cached_tokens=4, model="m")] * 2)
    rows = [{"custom_id": f"r{i}", **head, "body": CHAT} for i in range(2)]
    summary = run(tmp_path, rows, who)
    assert who.requests[0].max_tokens == 5
    assert who.requests[0].stop == ("x",)
    assert messages_of(who.requests[0].prompt) == [{"role": "user", "content": SHORT}]
    made = read(tmp_path / "out.jsonl")
    assert [list(row) for row in made] == [["custom_id", "method", "url", "body"]] * 2
    results = read(tmp_path / "out.jsonl.results.jsonl")
    assert [one["custom_id"] for one in results] == ["r0", "r1"]
    assert list(results[0]) == ["id", "custom_id", "response", "error"]
    assert results[0]["response"]["status_code"] == 200
    body = ChatCompletion.model_validate(results[0]["response"]["body"])
    assert body.choices[0].message.content == "Hi"
    assert body.usage is not None
    assert (body.usage.prompt_tokens, body.model) == (9, "m")
    assert (summary.prompt_tokens, summary.cached_tokens) == (18, 8)


def test_lines_for_responses(tmp_path: Path) -> None:
    body = {"model": "m", "input": TEXT, "instructions": "Be brief.", "max_output_tokens": 3}
    row = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    who = ScriptedBackend([Completion(text="Hi", finish_reason="length", completion_tokens=3)])
    run(tmp_path, [row], who, pipeline="none")
    assert [one["role"] for one in messages_of(who.requests[0].prompt)] == ["system", "user"]
    (result,) = read(tmp_path / "out.jsonl.results.jsonl")
    told = Response.model_validate(result["response"]["body"])
    assert told.output_text == "Hi"
    assert told.incomplete_details is not None
    assert told.incomplete_details.reason == "max_output_tokens"


def test_lines_for_anthropic(tmp_path: Path) -> None:
    params = {"model": "claude-a", "max_tokens": 9, "messages": CHAT["messages"], "system": "Hm."}
    rows = [{"custom_id": "a", "params": params}]
    who = ScriptedBackend([Completion(text="Hi", prompt_tokens=9, cached_tokens=4, model="m")])
    run(tmp_path, rows, who)
    (result,) = read(tmp_path / "out.jsonl.results.jsonl")
    assert (result["custom_id"], result["result"]["type"]) == ("a", "succeeded")
    message = Message.model_validate(result["result"]["message"])
    assert message.content[0].model_dump()["text"] == "Hi"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (5, 4)
    assert who.requests[0].temperature == 1.0


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "tools"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
        ({"nonsense": 1}, "nonsense"),
        ({"logprobs": True}, "logprobs"),
        ({"sot": True}, "sot"),
    ],
)
def test_what_no_backend_is_asked_is_told(tmp_path: Path, body: Any, why: str) -> None:
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT | body}
    who = ScriptedBackend(echo)
    assert run(tmp_path, [row], who, pipeline="none").failed == 1
    assert who.requests == []
    (error,) = read(tmp_path / "out.jsonl.errors.jsonl")
    assert why in error["reason"]
    (result,) = read(tmp_path / "out.jsonl.results.jsonl")
    assert result["response"] is None
    assert why in result["error"]["message"]


def test_a_row_that_fails_goes_on_without_an_answer(tmp_path: Path) -> None:
    def answer(request: Request) -> str | Exception:
        if "long" in request.prompt.text:
            return ContextLengthError("too long by far")
        return RuntimeError("odd") if "odd" in request.prompt.text else "fine"

    rows = [{"text": text} for text in ("good", "long", "odd", "good")]
    rows.insert(2, {"text": 5})
    summary = run(tmp_path, rows, ScriptedBackend(answer), pipeline="none")
    made = read(tmp_path / "out.jsonl")
    assert ["tersely_answer" in row for row in made] == [True, False, False, False, True]
    assert (summary.done, summary.failed, summary.answered) == (2, 3, 2)
    errors = read(tmp_path / "out.jsonl.errors.jsonl")
    assert [error["line"] for error in errors] == [2, 3, 4]
    assert errors[0]["reason"] == "no answer: too long by far"
    assert errors[2]["reason"] == "no answer: RuntimeError: odd"
    assert made[1]["tersely"]["status"] == "failed"


def test_cells_have_columns_for_answers(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text('text,n\n"a, b",1\nx,2\n')

    def answer(request: Request) -> Completion | Exception:
        if request.prompt.text == "x":
            return ContextLengthError("too long")
        return Completion(text='say "a"', prompt_tokens=3, completion_tokens=2, model="m")

    batch(source, tmp_path / "out.csv", pipeline="none", generate=ScriptedBackend(answer))
    first, second = cells(tmp_path / "out.csv")
    assert (first["text"], first["n"], first["tersely_answer"]) == ("a, b", "1", 'say "a"')
    assert (first["tersely_answer_prompt_tokens"], first["tersely_answer_model"]) == ("3", "m")
    assert (second["tersely_answer"], second["tersely_status"]) == ("", "failed")
    again = tmp_path / "again.csv"
    batch(
        tmp_path / "out.csv",
        again,
        field="text",
        pipeline="none",
        generate=ScriptedBackend(["b"] * 2),
    )
    assert [row["tersely_answer"] for row in cells(again)] == ["b", "b"]


def test_typed_columns(tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"text": [TEXT, "x"], "n": pa.array([1, 2], pa.int8())}), source)

    def answer(request: Request) -> str | Exception:
        return ContextLengthError("too long") if request.prompt.text == "x" else "fine"

    batch(source, target, pipeline="none", generate=ScriptedBackend(answer))
    table = pq.read_table(target)
    assert table.schema.names == ["text", "n", "tersely", "tersely_answer"]
    assert table.schema.field("n").type == pa.int8()
    first, second = table.column("tersely_answer").to_pylist()
    assert (first["text"], second) == ("fine", None)


def test_a_dataset_tells_of_its_answers(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    features = {"text": {"dtype": "string", "_type": "Value"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"text": ["a", "b"]}).replace_schema_metadata(about)
    with pa.ipc.new_stream(tmp_path / "in" / "data.arrow", table.schema) as file:
        file.write_table(table)
    state = {"_data_files": [{"filename": "data.arrow"}]}
    (tmp_path / "in" / "state.json").write_text(json.dumps(state))
    (tmp_path / "in" / "dataset_info.json").write_text(json.dumps({"features": features}))
    who = ScriptedBackend(["c", "d"])
    batch(tmp_path / "in", tmp_path / "out", pipeline="none", generate=who)
    told = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["features"]
    assert list(told) == ["text", "tersely", "tersely_answer"]
    assert told["tersely_answer"]["prompt_tokens"] == {"dtype": "int64", "_type": "Value"}
    (name,) = (tmp_path / "out").glob("*.arrow")
    with pa.ipc.open_stream(name.read_bytes()) as stream:
        made = stream.read_all().column("tersely_answer").to_pylist()
    assert [one["text"] for one in made] == ["c", "d"]


def test_workers_compress_and_one_process_asks(tmp_path: Path) -> None:
    rows = [{"text": f"{i} {TEXT}"} for i in range(20)]
    summary = run(tmp_path, rows, workers=2, block=3)
    assert summary.answered == 20
    assert [said(row)[0]["content"][:2].strip() for row in read(tmp_path / "out.jsonl")] == [
        str(i) for i in range(20)
    ]


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)


@settings(max_examples=15)
@given(st.lists(st.dictionaries(st.text(max_size=4), TREES, max_size=3), max_size=4), st.text())
def test_everything_else_in_a_row_stays(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], text: str
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = [{**row, "text": TEXT} for row in rows]
    run(folder, rows, ScriptedBackend(lambda _: text), pipeline="none", field="text")
    for row, made in zip(rows, read(folder / "out.jsonl"), strict=True):
        assert made.pop("tersely_answer")["text"] == text
        assert made.pop("tersely")["status"] == "unchanged"
        row.pop("tersely", None), row.pop("tersely_answer", None)
        assert made == row


# The wire


def served(server: Loopback, **more: Any) -> HttpBackend:
    given: dict[str, Any] = {"base_url": f"{server.url}/v1", "model": "m", "pause": 0.0}
    return HttpBackend(**given | more)


def asked_of(server: Loopback) -> list[str]:
    """What rows asked; of a process that was killed a request may have no body."""
    return [body["messages"][0]["content"] for body in server.bodies if body]


def test_a_server_is_asked_so_many_at_once(tmp_path: Path, server: Loopback) -> None:
    server.gate.clear()
    rows = [{"text": f"row {i}"} for i in range(12)]
    who = {"backend": served(server), "at_once": 3}
    with ThreadPoolExecutor() as pool:
        job = pool.submit(run, tmp_path, rows, who, pipeline="none", block=2)
        while len(server.seen) < 3 and not job.done():
            time.sleep(0.01)
        time.sleep(0.3)
        assert len(server.seen) == 3 or job.result()
        server.gate.set()
        assert job.result().answered == 12
    assert sorted(asked_of(server)) == sorted(row["text"] for row in rows)


def test_a_slow_answer_holds_no_other_row_up(tmp_path: Path) -> None:
    done = asyncio.Event()

    class Slow(ScriptedBackend):
        async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
            if requests[0].prompt.text == "row 0":
                await asyncio.wait_for(done.wait(), 60)
            made = await super().acomplete(requests)
            if len(self.requests) == 39:
                done.set()
            return made

    rows = [{"text": f"row {i}"} for i in range(40)]
    who = {"backend": Slow(echo), "at_once": 2}
    assert run(tmp_path, rows, who, pipeline="none", block=2).answered == 40
    texts = [said(row)[0]["content"] for row in read(tmp_path / "out.jsonl")]
    assert texts == [row["text"] for row in rows]


def test_the_backends_retries_are_used(tmp_path: Path, server: Loopback) -> None:
    server.faults.extend([503, 429])
    summary = run(tmp_path, [{"text": "a"}], served(server), pipeline="none")
    assert (summary.answered, len(server.seen)) == (1, 3)


def test_one_row_is_refused_and_the_others_are_answered(tmp_path: Path, server: Loopback) -> None:
    server.faults.append(400)
    rows = [{"text": str(i)} for i in range(6)]
    summary = run(tmp_path, rows, {"backend": served(server), "at_once": 1}, pipeline="none")
    assert (summary.answered, summary.failed) == (5, 1)
    (error,) = read(tmp_path / "out.jsonl.errors.jsonl")
    assert "status 400" in error["reason"]


def test_a_job_that_nobody_answers_stops_at_once(tmp_path: Path, server: Loopback) -> None:
    server.faults.extend([401] * 100)
    rows = [{"text": str(i)} for i in range(60)]
    with pytest.raises(BackendError, match=f"{FIRST} rows one after the other.*api_key"):
        run(tmp_path, rows, {"backend": served(server), "at_once": 1}, pipeline="none", block=4)
    server.faults.clear()
    summary = run(tmp_path, rows, served(server), pipeline="none", block=4)
    assert summary.finished
    assert summary.answered >= 60 - FIRST


def test_an_outage_stops_the_job_and_it_goes_on_later(tmp_path: Path, server: Loopback) -> None:
    rows = [{"text": str(i)} for i in range(80)]
    who = {"backend": served(server, retries=0), "at_once": 1}
    run(tmp_path, rows, who, pipeline="none", limit=8, block=4)
    server.faults.extend([503] * 200)
    with pytest.raises(BackendError, match=f"{OUTAGE} rows") as caught:
        run(tmp_path, rows, who, pipeline="none", block=4)
    assert caught.value.retryable
    server.faults.clear()
    summary = run(tmp_path, rows, who, pipeline="none", block=4)
    assert summary.finished
    assert summary.answered >= 80 - OUTAGE


JOB = """
import sys
from tersely.backends.http import HttpBackend
from tersely.middleware.batch import batch

source, target, url = sys.argv[1:4]
who = {"backend": HttpBackend(base_url=url, model="m", retries=0), "at_once": 4}
batch(source, target, pipeline="none", generate=who, block=5)
"""


def test_kill_9_loses_no_answer_that_came(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    texts = [f"row {i}" for i in range(60)]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    asked: Counter[str] = Counter()
    with Loopback() as server:
        command = [sys.executable, "-c", JOB, str(source), str(target), f"{server.url}/v1"]
        process = subprocess.Popen(command)
        while len(server.seen) < 23 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        asked.update(asked_of(server))
        came = answered(target)
        server.take()
        assert subprocess.run(command, check=False).returncode == 0
        assert not came & set(asked_of(server))
        asked.update(asked_of(server))
    made = read(target)
    assert [row["text"] for row in made] == texts
    assert all(row["tersely_answer"]["text"] == "an answer" for row in made)
    assert set(asked) == set(texts)
    assert sum(asked.values()) <= len(texts) + 4


def answered(target: Path) -> set[str]:
    """The rows whose answers came: written and committed, or kept until they are."""
    mark = json.loads(target.with_name("out.jsonl.journal").read_text())
    written = target.read_bytes()[: mark["sizes"]["target"]].splitlines()
    came = {json.loads(line)["text"] for line in written}
    kept = target.with_name("out.jsonl.answers").read_bytes().splitlines(keepends=True)[1:]
    told = [json.loads(line) for line in kept if line.endswith(b"\n")]
    return came | {f"row {one['line'] + one['row']}" for one in told}


def test_kept_answers_are_those_of_their_rows_whatever_blocks_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = [{"text": f"row {i}"} for i in range(20)]
    rows[4] = {"text": 4}
    whole = Running._written

    def full(self: Any, block: Any, *rest: Any) -> Any:
        if block.end.line > 4:
            raise OSError("no space left")
        return whole(self, block, *rest)

    monkeypatch.setattr(Running, "_written", full)
    with pytest.raises(OSError, match="no space"):
        run(tmp_path, rows, pipeline="none", block=2)
    kept = read(tmp_path / "out.jsonl.answers")
    assert len(kept) > 3
    monkeypatch.setattr(Running, "_written", whole)
    who = ScriptedBackend(echo)
    summary = run(tmp_path, rows, who, pipeline="none", block=3)
    assert (summary.answered, summary.failed) == (19, 1)
    assert 0 < len(who.requests) < 19
    for row in read(tmp_path / "out.jsonl"):
        if row["text"] != 4:
            assert said(row) == [{"role": "user", "content": row["text"]}]


def test_answers_of_another_job_are_not_taken(tmp_path: Path) -> None:
    rows = [{"text": str(i)} for i in range(4)]
    run(tmp_path, rows, ScriptedBackend(["a"] * 4), pipeline="none", limit=2)
    kept = tmp_path / "out.jsonl.answers"
    kept.write_text('{"job": "another"}\n{"line": 2, "row": 0, "answers": []}\n')
    summary = run(tmp_path, rows, ScriptedBackend(["b"] * 4), pipeline="none")
    assert summary.answered == 4
    texts = [row["tersely_answer"]["text"] for row in read(tmp_path / "out.jsonl")]
    assert texts == ["a", "a", "b", "b"]
    assert not kept.exists()


def test_another_model_is_another_job(tmp_path: Path, server: Loopback) -> None:
    run(tmp_path, [{"text": "a"}], served(server), pipeline="none")
    with pytest.raises(ConfigError, match="generate changed"):
        run(tmp_path, [{"text": "a"}], served(server, model="n"), pipeline="none")
    run(tmp_path, [{"text": "a"}], served(server, retries=9), pipeline="none")


def test_progress_and_estimates_tell_of_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": TEXT}] * 3
    run(tmp_path, rows, pipeline="none", progress=True)
    shown = capsys.readouterr().err
    for told in ("3 rows", "rows/s", "0 tokens saved", "3 answered"):
        assert told in shown
    who = {"backend": ScriptedBackend([]), "max_tokens": 7}
    source, other = tmp_path / "in.jsonl", tmp_path / "other.jsonl"
    said = estimate(source, other, pipeline=HALVE, generate=who)
    assert said.answers == 21
    assert "answers: 21 tokens at most" in said.message
    assert not other.exists()


def test_settings_that_can_not_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="generate"):
        run(tmp_path, [{"text": "a"}], {"backend": ScriptedBackend([]), "at_once": 0})
    with pytest.raises(ConfigError, match="generate"):
        BatchJob(source="a", target="b", generate="smollm2")
    with pytest.raises(ConfigError, match="generate"):
        run(tmp_path, [{"text": "a"}], {"max_tokens": 3})


def test_a_backend_that_takes_one_at_a_time_is_asked_so() -> None:
    alone = HttpBackend(base_url="http://127.0.0.1:9/v1", model="m", engine="llama-cpp-python")
    assert Generation(backend=alone, at_once=9).together == 1
    assert Generation(backend=served_by(alone), at_once=9).together == 9


def served_by(backend: HttpBackend) -> HttpBackend:
    return backend.model_copy(update={"engine": "vllm"})


# Models and the command line


def test_a_model_on_this_machine(tmp_path: Path, backend: LocalBackend) -> None:
    rows = [{"text": text} for text in ("The quick brown fox", "over the lazy dog", "x" * 3000)]
    summary = run(tmp_path, rows, {"backend": backend, "max_tokens": 4}, pipeline="none")
    made = read(tmp_path / "out.jsonl")
    assert (summary.answered, summary.failed) == (2, 1)
    assert [row["tersely_answer"]["completion_tokens"] for row in made[:2]] == [4, 4]
    assert "exceed" in made[2]["tersely"]["reason"]


def test_by_command(tmp_path: Path, server: Loopback, smollm2: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"text": TEXT}) + "\n")
    call = ["batch", str(source), "-o", str(target), "--stage", "none", "--max-tokens", "3"]
    url = ["--generate", "m", "--base-url", f"{server.url}/v1", "--at-once", "2", "--json"]
    done = CliRunner().invoke(app, [*call, *url])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["answered"] == 1
    assert server.bodies[0]["max_tokens"] == 3
    here = tmp_path / "here.jsonl"
    call[3] = str(here)
    assert CliRunner().invoke(app, [*call, "--generate", "smollm2"]).exit_code == 0
    assert read(here)[0]["tersely_answer"]["completion_tokens"] == 3
    lacking = CliRunner().invoke(app, [*call, "--base-url", server.url])
    assert lacking.exit_code == 1
    assert "--generate" in lacking.stderr
