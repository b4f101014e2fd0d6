"""A data set through a batch job: no row lost, none written twice, whatever happens."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tersely
from tersely.contracts import Context, StageModel
from tersely.errors import ConfigError, UnknownName
from tersely.middleware import batch_run as batch_module
from tersely.middleware.batch import BatchJob, batch
from tersely.middleware.batch_summary import BatchSummary
from tersely.middleware.row_shapes import Text
from tersely.middleware.rows import RowOptimizer
from tersely.prompt import KINDS, Kind, Prompt


class Halve(StageModel):
    """Keeps the first half of every open text's words; fails where it is told to."""

    name = "halve"
    kinds: tuple[Kind, ...] = KINDS

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        texts = {i: prompt.segments[i].text for i in prompt.open}
        if any("explode" in text for text in texts.values()):
            raise RuntimeError("exploded")
        return prompt.with_texts({i: text[: (len(text) + 1) // 2] for i, text in texts.items()})


HALVE = tersely.Pipeline(Halve(), model="gpt-4o")

SLOW = '''
import sys, time
from pathlib import Path
import tersely
from tersely.contracts import StageModel
from tersely.middleware.batch import BatchJob
from tersely.prompt import KINDS

class Slow(StageModel):
    """Takes its time, and tells of every row."""
    name = "slow"
    kinds: tuple = KINDS

    def __call__(self, prompt, context):
        time.sleep(0.02)
        print(flush=True)
        return prompt.with_texts({i: prompt.segments[i].text[:30] for i in prompt.open})

if len(sys.argv) > 3:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
pipeline = tersely.Pipeline(Slow(), model="gpt-4o")
source, target = sys.argv[1:3]
done = BatchJob(source=source, target=target, pipeline=pipeline, block=4).run()
print(done.message, file=sys.stderr)
sys.exit(done.exit_code)
'''
"""A job in a process of its own, which can be killed."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def job(folder: Path, data: bytes | str | None = None, **wanted: Any) -> BatchJob:
    """A job from `in.jsonl`, which is written first, to `out.jsonl`."""
    source = folder / "in.jsonl"
    if data is not None:
        source.write_bytes(data.encode() if isinstance(data, str) else data)
    given = {"source": source, "target": folder / "out.jsonl", "pipeline": HALVE} | wanted
    return BatchJob(**given)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def out(folder: Path) -> list[Any]:
    return read(folder / "out.jsonl")


def outputs(folder: Path) -> dict[str, bytes]:
    """All that a job wrote but its journal, which tells the time of the source."""
    names = ("out.jsonl", "out.jsonl.errors.jsonl", "out.jsonl.report.jsonl")
    return {n: (folder / n).read_bytes() for n in names if (folder / n).exists()}


TEXT = "one two three four five six seven eight nine ten"


def test_a_text_field(folder: Path) -> None:
    rows = [{"id": 1, "text": TEXT, "tags": ["a"]}, {"id": 2, "text": "", "tags": []}]
    summary = job(folder, lines(*rows)).run()
    first, second = out(folder)
    assert list(first) == ["id", "text", "tags", "tersely"]
    assert first["text"] == TEXT[:24]
    assert first["tersely"]["status"] == "compressed"
    assert 0 < first["tersely"]["after"] < first["tersely"]["before"]
    assert second["text"] == ""
    assert second["tersely"]["status"] == "unchanged"
    assert (summary.rows, summary.done, summary.failed, summary.skipped) == (2, 2, 0, 0)
    assert summary.before - summary.after == first["tersely"]["before"] - first["tersely"]["after"]
    assert summary.exit_code == 0
    assert not (folder / "out.jsonl.errors.jsonl").exists()


def test_a_named_field_inside_others(folder: Path) -> None:
    row = {"text": "stays as it is", "doc": {"parts": [{"body": TEXT}]}}
    job(folder, lines(row), field="doc.parts.0.body").run()
    (made,) = out(folder)
    assert made["doc"]["parts"][0]["body"] == TEXT[:24]
    assert made["text"] == "stays as it is"


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ([TEXT, TEXT], [TEXT[:24], TEXT[:24]]),
        ([{"role": "user", "content": TEXT}], [{"role": "user", "content": TEXT[:24]}]),
    ],
    ids=["texts", "messages"],
)
def test_a_list_in_a_field(folder: Path, value: Any, made: Any) -> None:
    job(folder, lines({"prompt": value})).run()
    assert out(folder)[0]["prompt"] == made


def test_rows_of_messages(folder: Path) -> None:
    messages = [{"role": "system", "content": TEXT, "name": "a"}, {"role": "user", "content": TEXT}]
    job(folder, lines({"id": 7, "messages": messages, "model": "gpt-4o"})).run()
    (made,) = out(folder)
    assert [message["content"] for message in made["messages"]] == [TEXT[:24], TEXT[:24]]
    assert made["messages"][0]["name"] == "a"
    assert list(made) == ["id", "messages", "model", "tersely"]


PROVIDERS = {
    "chat": (
        {
            "url": "/v1/chat/completions",
            "body": {"model": "gpt-4o", "messages": [{"role": "user", "content": TEXT}]},
        },
        lambda row: row["body"]["messages"][0]["content"],
    ),
    "responses": (
        {"url": "/v1/responses", "body": {"model": "gpt-4o", "input": TEXT}},
        lambda row: row["body"]["input"],
    ),
    "anthropic": (
        {
            "params": {
                "model": "claude-a",
                "max_tokens": 9,
                "messages": [{"role": "user", "content": TEXT}],
            }
        },
        lambda row: row["params"]["messages"][0]["content"],
    ),
}


@pytest.mark.parametrize("kind", PROVIDERS)
def test_lines_of_batch_files_get_no_column(folder: Path, kind: str) -> None:
    line, text_of = PROVIDERS[kind]
    row = {"custom_id": "a-1", "method": "POST"} | line
    job(folder, lines(row)).run()
    (made,) = out(folder)
    assert text_of(made) == TEXT[:24]
    assert list(made) == list(row)
    (told,) = read(folder / "out.jsonl.report.jsonl")
    assert (told["line"], told["custom_id"], told["status"]) == (1, "a-1", "compressed")
    assert told["after"] < told["before"]


def test_another_url_is_told_and_the_line_goes_on(folder: Path) -> None:
    row = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": TEXT}}
    assert job(folder, lines(row)).run().failed == 1
    assert out(folder) == [row]
    (told,) = read(folder / "out.jsonl.errors.jsonl")
    assert "was '/v1/embeddings'" in told["reason"]


def test_the_question_comes_from_a_field(folder: Path) -> None:
    seen = []

    class Listening(Halve):
        name = "listening"

        def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
            seen.append(prompt.question)
            return prompt

    rows = [{"text": TEXT, "ask": {"q": "Where?"}}, {"text": TEXT}]
    pipeline = tersely.Pipeline(Listening())
    job(folder, lines(*rows), pipeline=pipeline, question_field="ask.q").run()
    assert seen == ["Where?", ""]


def test_the_budget_goes_before_the_pipelines_own(folder: Path) -> None:
    job(folder, lines({"text": TEXT}), budget=1000).run()
    (made,) = out(folder)
    assert made["text"] == TEXT
    assert made["tersely"]["reason"] == "the prompt is within its budget"


def test_no_row_changes_what_becomes_of_another(folder: Path) -> None:
    row = {"text": TEXT}
    job(folder, lines(row, row, row)).run()
    assert out(folder)[0] == out(folder)[1] == out(folder)[2]


def test_bad_rows_are_told_and_none_is_lost(folder: Path) -> None:
    rows = [
        b'{"text": "' + TEXT.encode() + b'"}',
        b'{"text": 12}',
        b'{"txt": "a"}',
        b"not json \xf0\x9f\x98\x80",
        b'{"text": "a\xff"}',
        b'["a"]',
        b'{"text": "explode now"}',
        b'{"text": ["a", 1]}',
        b"[" * 100_000,
    ]
    summary = job(folder, b"\n".join(rows), max_error_rate=0.5).run()
    assert (summary.rows, summary.done, summary.failed, summary.exit_code) == (9, 1, 8, 1)
    errors = read(folder / "out.jsonl.errors.jsonl")
    assert [error["line"] for error in errors] == [2, 3, 4, 5, 6, 7, 8, 9]
    told = "|".join(error["reason"] for error in errors)
    for reason in (
        "field 'text' holds no text but 12",
        "no field 'text'; the row has txt",
        "not JSON: Expecting value",
        "not UTF-8 at byte 11",
        "a row is a JSON object, was ['a']",
        "RuntimeError: exploded",
        "field 'text' holds other things than texts",
        "nested too deep",
    ):
        assert reason in told
    assert errors[2]["row"] == "not json \N{GRINNING FACE}"
    assert errors[3]["row"] == '{"text": "a\\xff"}'
    made = out(folder)
    assert [row["text"] if isinstance(row, dict) and "text" in row else row for row in made][
        1:
    ] == [
        12,
        made[2],
        ["a"],
        "explode now",
        ["a", 1],
    ]
    assert made[2]["txt"] == "a"
    assert made[2]["tersely"] == {
        "before": None,
        "after": None,
        "status": "failed",
        "reason": "no field 'text'; the row has txt",
    }


def test_a_few_bad_rows_are_within_the_rate(folder: Path) -> None:
    rows = [{"text": TEXT}] * 9 + [{"text": 1}]
    assert job(folder, lines(*rows), max_error_rate=0.1).run().exit_code == 0


def test_a_strict_pipeline_fails_the_row_only(folder: Path) -> None:
    pipeline = HALVE.but(strict=True)
    assert (
        job(folder, lines({"text": "explode"}, {"text": TEXT}), pipeline=pipeline).run().failed == 1
    )
    assert out(folder)[1]["text"] == TEXT[:24]


def test_endings_marks_blanks_and_separators(folder: Path) -> None:
    source = (
        b'\xef\xbb\xbf{"text": "aaaa\xe2\x80\xa8bb"}\r\n'
        b"\n  \t\r\n"
        b'{"text": "cccc\\u2029dd"}\n'
        b'{"text": "e\xc2\x85f", "n": 1.10}'
    )
    summary = job(folder, source).run()
    made = (folder / "out.jsonl").read_bytes()
    first, second, third = made.split(b"\n")
    assert summary.rows == 3
    assert first.startswith(b'{"text": "aaaa", "tersely": ')
    assert first.endswith(b"}\r")
    assert second.startswith(b'{"text": "cccc", "tersely": ')
    assert third.startswith(b'{"text": "e\xc2\x85", "n": 1.10, "tersely": ')


def test_a_line_of_megabytes(folder: Path) -> None:
    job(folder, lines({"text": "ab " * 300_000})).run()
    assert len(out(folder)[0]["text"]) == 450_000


ROWS = st.fixed_dictionaries(
    {"text": st.text(max_size=30)},
    optional={
        "id": st.integers(),
        "é": st.text(),
        "nested": st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_every_other_column_survives(rows: list[Any], ascii: bool, ending: str) -> None:
    spelled = [json.dumps(row, ensure_ascii=ascii) for row in rows]
    source = ending.join(spelled).encode(errors="replace")
    with TemporaryDirectory() as made:
        assert job(Path(made), source).run().rows == len(rows)
        written = out(Path(made))
    given = [json.loads(line) for line in source.decode().split("\n")]
    for before, after in zip(given, written, strict=True):
        assert after.pop("tersely")["status"] in {"compressed", "unchanged"}
        assert after["text"] in (before["text"], before["text"][: (len(before["text"]) + 1) // 2])
        assert list(after) == list(before)
        assert {**after, "text": ""} == {**before, "text": ""}


GOOD = {"text": TEXT, "price": 1.5}
MIXED = [GOOD, {"text": 3}, {"text": "short text of a row"}, GOOD, {"other": 1}, GOOD, GOOD]
BATCH = [
    {"custom_id": str(i), "method": "POST"} | line
    for i in range(3)
    for line, _ in [PROVIDERS["chat"]]
]
BATCH.insert(1, {"custom_id": "x", "url": "/v1/files", "body": {}})


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([MIXED, BATCH]), st.integers(0, 7), st.binary(max_size=80), st.booleans())
def test_what_was_not_committed_is_cut_off(
    rows: list[Any], stop: int, torn: bytes, more: bool
) -> None:
    """Files torn at any byte after any row give what an uninterrupted run gives."""
    with TemporaryDirectory() as made:
        tear(Path(made), rows, stop, lambda written: torn + written[: 50 if more else 0])


def tear(folder: Path, rows: list[Any], stop: int, torn: Callable[[bytes], bytes]) -> None:
    job(folder, lines(*rows) + "no json\n", resume=False).run()
    whole = outputs(folder)
    first = job(folder, limit=stop, resume=False).run()
    assert first.rows == min(stop, len(rows) + 1)
    if not first.finished:
        for name in whole:
            with (folder / name).open("ab") as file:
                file.write(torn(whole[name]))
    summary = job(folder).run()
    assert outputs(folder) == whole
    assert (summary.rows, summary.skipped) == (len(rows) + 1, first.rows)
    assert summary.done + summary.failed == summary.rows


def test_a_finished_job_does_nothing_again(folder: Path) -> None:
    first = job(folder, lines(GOOD, GOOD)).run()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    again = job(folder).run()
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()
    } == before
    assert first.message == f"2 rows, 0 failed; {first.before:,} tokens became {first.after:,}"
    assert again.message == "nothing to do: the job is finished (2 rows, 0 failed)"
    assert (again.rows, again.skipped, again.before) == (2, 2, first.before)


def test_the_limit_is_for_the_whole_job(folder: Path) -> None:
    assert job(folder, lines(*[GOOD] * 5), limit=2).run().rows == 2
    again = job(folder, limit=2).run()
    assert (again.rows, again.skipped, again.finished) == (2, 2, False)
    assert len(out(folder)) == 2
    assert "run the same job again" in again.message
    assert job(folder, limit=1).run().rows == 2
    assert job(folder, limit=4).run().rows == 4
    assert job(folder).run().finished


def test_without_resume_it_starts_anew(folder: Path) -> None:
    job(folder, lines(GOOD, GOOD), limit=1).run()
    summary = job(folder, lines(GOOD), resume=False).run()
    assert (summary.rows, summary.skipped, len(out(folder))) == (1, 0, 1)


def test_a_target_that_was_removed_is_made_anew(folder: Path) -> None:
    job(folder, lines(GOOD, {"text": 1})).run()
    whole = outputs(folder)
    (folder / "out.jsonl").unlink()
    assert job(folder).run().skipped == 0
    assert outputs(folder) == whole


def grown(folder: Path) -> BatchJob:
    return job(folder, lines(*[GOOD] * 4))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (grown, "source"),
        (lambda folder: job(folder, budget=0.3), "pipeline"),
        (
            lambda folder: job(folder, pipeline=tersely.Pipeline(Halve(kinds=("context",)))),
            "pipeline",
        ),
        (lambda folder: job(folder, field="text.a"), "format"),
        (lambda folder: job(folder, question_field="q"), "question_field"),
        (lambda folder: job(folder, errors=folder / "other"), "errors"),
    ],
)
def test_a_changed_job_is_refused(
    folder: Path, changed: Callable[[Path], BatchJob], what: str
) -> None:
    job(folder, lines(*[GOOD] * 3), limit=1).run()
    before = outputs(folder)
    with pytest.raises(ConfigError, match=rf"^{what} changed since .*resume=False"):
        changed(folder).run()
    assert outputs(folder) == before


def test_an_override_is_a_setting_too(folder: Path) -> None:
    job(folder, lines(GOOD, GOOD), limit=1).run()
    with tersely.override(mode="off"):
        with pytest.raises(ConfigError, match=r"^override changed"):
            job(folder).run()
        assert job(folder, resume=False).run().done == 2
    assert [row["text"] for row in out(folder)] == [TEXT, TEXT]


def test_files_that_are_not_ours_are_not_touched(folder: Path) -> None:
    (folder / "out.jsonl").write_text("precious")
    with pytest.raises(ConfigError, match=r"was not written by a job like this.*resume=False"):
        job(folder, lines(GOOD)).run()
    assert (folder / "out.jsonl").read_text() == "precious"
    assert job(folder, resume=False).run().rows == 1


def test_a_target_that_lost_rows_is_refused(folder: Path) -> None:
    job(folder, lines(GOOD, GOOD)).run()
    (folder / "out.jsonl").write_text("{")
    with pytest.raises(ConfigError, match="is shorter than when the job stopped"):
        job(folder).run()


def test_a_damaged_journal_is_told(folder: Path) -> None:
    job(folder, lines(GOOD, GOOD), limit=1).run()
    (folder / "out.jsonl.journal").write_text("{")
    with pytest.raises(ConfigError, match="can't be read"):
        job(folder).run()


def test_the_source_is_never_written(folder: Path) -> None:
    source = folder / "in.jsonl"
    source.write_text(lines(GOOD))
    os.link(source, folder / "same.jsonl")
    for target in (source, folder / "same.jsonl", folder / ".." / folder.name / "in.jsonl"):
        with pytest.raises(ConfigError, match="must be another file than the source"):
            job(folder, target=target, resume=False).run()
    with pytest.raises(ConfigError, match="errors must be another file than the source"):
        job(folder, errors=source, resume=False).run()
    with pytest.raises(ConfigError, match="another file than the target"):
        job(folder, errors=folder / "out.jsonl").run()
    assert source.read_text() == lines(GOOD)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("{}".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (b"\x1f\x8b\x08\x00", "can't be read after line 0: it ends in the middle"),
        (b"\x1f\x8b\x08" + b"\0" * 7 + b"\xff" * 9, "after line 0: it is damaged"),
        (b"PAR1....", "a parquet source can't be written as jsonl"),
    ],
)
def test_files_that_are_no_jsonl(folder: Path, head: bytes, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        job(folder, head).run()


def test_a_source_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"in\.jsonl is not there"):
        job(folder).run()
    with pytest.raises(ConfigError, match="is not a file"):
        job(folder, source=folder).run()


def test_no_field_that_could_be_meant(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"name the field .* first row has question, answer"):
        job(folder, "junk\n" + lines({"question": "a", "answer": "b"})).run()


def test_a_format_can_be_forced(folder: Path) -> None:
    row = {"text": TEXT, "messages": [{"role": "user", "content": TEXT}]}
    job(folder, lines(row), format="text").run()
    assert out(folder)[0]["text"] == TEXT[:24]
    assert out(folder)[0]["messages"] == row["messages"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"pipeline": "lexicall"}, "nearest: lexical"),
        ({"budget": 0}, "must be above 0, was 0"),
        ({"limit": -1}, "limit: .* -1"),
        ({"max_error_rate": 2}, "max_error_rate: .* 2"),
        ({"format": "csv"}, "format: .*'csv'"),
        ({"feild": "text"}, "feild"),
        ({"field": "a..b"}, r"was 'a\.\.b'"),
    ],
)
def test_settings_that_can_not_work(folder: Path, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        job(folder, lines(GOOD), **wrong).run()


def test_an_unknown_format_names_the_nearest() -> None:
    from tersely.middleware.row_shapes import format_of

    with pytest.raises(UnknownName, match="nearest: openai-batch"):
        format_of(iter(()), "openai")  # type: ignore[arg-type]


def test_nothing_in_nothing_out(folder: Path) -> None:
    summary = job(folder, b"").run()
    assert (summary.rows, summary.exit_code, summary.finished) == (0, 0, True)
    assert (folder / "out.jsonl").read_bytes() == b""


def test_as_a_function_into_a_new_folder(folder: Path) -> None:
    (folder / "in.jsonl").write_text(lines(GOOD))
    target = folder / "new" / "out.jsonl"
    assert batch(str(folder / "in.jsonl"), str(target), pipeline=HALVE).done == 1
    assert len(read(target)) == 1
    assert tersely.batch is batch


def test_progress_goes_to_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(folder, lines(GOOD, GOOD), progress=True).run()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "2 rows" in shown.err
    assert "tokens saved" in shown.err


def test_it_runs_outside_the_main_thread(folder: Path) -> None:
    done: list[BatchSummary] = []
    thread = threading.Thread(target=lambda: done.append(job(folder, lines(GOOD)).run()))
    thread.start()
    thread.join()
    assert done[0].finished


def test_memory_does_not_grow_with_the_rows(folder: Path) -> None:
    def peak(rows: int) -> int:
        it = job(folder, lines({"text": TEXT, "n": 1}) * rows, resume=False)
        tracemalloc.start()
        it.run()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(10)
    few, many = peak(100), peak(1000)
    assert many < 1.2 * few + 100_000


def test_one_row_at_a_time_without_files() -> None:
    optimizer = RowOptimizer(pipeline=HALVE, format=Text(("text",)))
    treated = optimizer({"text": TEXT})
    assert treated.edits == {("text",): TEXT[:24]}
    assert optimizer({"text": None}).status == "failed"


class Slowly:
    """The job in a process, row after row."""

    def __init__(self, folder: Path, *more: str) -> None:
        script = folder / "slow.py"
        script.write_text(SLOW)
        if not (folder / "in.jsonl").exists():
            (folder / "in.jsonl").write_text(SOURCE_TO_KILL)
        paths = [str(folder / "in.jsonl"), str(folder / "out.jsonl")]
        self.process = subprocess.Popen(
            [sys.executable, str(script), *paths, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def rows(self, count: int) -> bool:
        """Wait until so many rows were begun; False when the process ended before."""
        assert self.process.stdout is not None
        return all(self.process.stdout.readline() for _ in range(count))

    def end(self, sent: int | None = None) -> tuple[int, str]:
        """Send a signal, if any, and wait for the end. The exit code and what was said."""
        if sent is not None:
            self.process.send_signal(sent)
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said.decode()


ROWS_TO_KILL = [{"id": i, "text": f"{i} {TEXT}" if i % 7 else i} for i in range(40)]
SOURCE_TO_KILL = lines(*ROWS_TO_KILL) + "torn {"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the slow job gives when nothing stops it."""
    folder = tmp_path_factory.mktemp("whole")
    code, said = Slowly(folder).end()
    assert code == 0, said
    return outputs(folder)


def test_kill_9_at_any_moment(folder: Path, whole: dict[str, bytes]) -> None:
    """Killed again and again, the job ends with the very bytes of an undisturbed one."""
    chance = random.Random(7)
    kills = 0
    while True:
        running = Slowly(folder)
        if not running.rows(chance.randint(1, 20)):
            break
        running.end(signal.SIGKILL)
        kills += 1
    assert running.end()[0] == 0
    assert kills >= 2
    assert outputs(folder) == whole


def test_sigint_ends_after_the_block_in_hand(folder: Path, whole: dict[str, bytes]) -> None:
    running = Slowly(folder)
    assert running.rows(5)
    code, said = running.end(signal.SIGINT)
    assert code == 130
    assert "run the same job again to go on from there" in said
    assert "Traceback" not in said
    mark = json.loads((folder / "out.jsonl.journal").read_text())
    assert 5 <= mark["tally"]["done"] + mark["tally"]["failed"] < len(ROWS_TO_KILL)
    assert mark["sizes"]["target"] == (folder / "out.jsonl").stat().st_size
    assert Slowly(folder).end()[0] == 0
    assert outputs(folder) == whole


def test_a_full_disk_loses_nothing(folder: Path, whole: dict[str, bytes]) -> None:
    code, said = Slowly(folder, "3000").end()
    assert code == 1
    assert "File too large" in said
    assert Slowly(folder).end()[0] == 0
    assert outputs(folder) == whole


def test_commits_are_frequent() -> None:
    assert batch_module.COMMIT_SECONDS <= 1
