"""Rows of a block are read together, and come out as if each had been alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_batch import Foreseeing

from tersely.ahead import can_read_ahead
from tersely.compressors import cached, chances, self_information, sentences
from tersely.compressors.paced import FINEST, STEPS, width_of
from tersely.middleware import rows as rows_module
from tersely.middleware.batch import BatchJob, batch
from tersely.middleware.batch_map import MapRows
from tersely.middleware.batch_sample import estimate
from tersely.middleware.batch_share import shared
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.row_shapes import Text
from tersely.middleware.rows import RowOptimizer, Treated
from tersely.registry import as_stage

STORY = """
The harbour of Lisbon was rebuilt after 1755 by engineers who had never seen the sea.
They laid the stones in rows, and each row was measured twice before the next began.
A clerk wrote down what it cost: 4,210 reals a day, wine and bread not counted.
When the king came to look, he asked who had paid for the wine.
"""
WORDS = STORY.split()


def text(words: int, at: int = 0) -> str:
    """So many words of a story, from one of them on."""
    return " ".join(WORDS[(at + i) % len(WORDS)] for i in range(words))


ROWS: list[dict[str, Any]] = [
    {"text": text(12 + 9 * i, at=5 * i), "question": f"Who paid for day {i % 3}?"} for i in range(8)
]
LONG = {"text": "\n\n".join(text(60, at) for at in (0, 7, 15)), "question": "Who had paid?"}


def forget() -> None:
    """Have everything read anew."""
    self_information.MEMORY.clear()
    chances.MEMORY.clear()
    sentences.MEMORY.clear()
    cached.MEMORY.clear()


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Every test reads for itself."""
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def tiny(tiny_llama: Path) -> str:
    return str(tiny_llama)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many windows each call of a model reads."""
    seen: list[int] = []
    score, classify = self_information._Prefix.score, chances._read

    def scored(self: Any, windows: Sequence[Any], width: int) -> Any:
        seen.append(len(windows))
        return score(self, windows, width)

    def classified(windows: Sequence[Any], classifier: Any) -> Any:
        seen.append(len(windows))
        return classify(windows, classifier)

    monkeypatch.setattr(self_information._Prefix, "score", scored)
    monkeypatch.setattr(chances, "_read", classified)
    return seen


Settings = Mapping[str, str]

WAYS: Mapping[str, Callable[[Settings, Settings], Any]] = {
    "selective_context": lambda lm, _: {"selective_context": lm},
    "llmlingua": lambda lm, _: {"llmlingua": lm},
    "longllmlingua": lambda lm, _: {"longllmlingua": lm},
    "llmlingua2": lambda _, trained: {"llmlingua2": trained},
    "ensemble": lambda lm, trained: {
        "ensemble": {"recipes": [{"selective_context": lm}, {"llmlingua2": trained}]}
    },
    "cached": lambda lm, _: {"cached": {"recipe": {"selective_context": lm}, "megabytes": 0}},
    "pipeline": lambda _, trained: [Pipeline({"llmlingua2": trained}, budget=0.6)],
    "two in turn": lambda lm, trained: [{"llmlingua2": trained}, {"selective_context": lm}],
    "recomp": lambda *_: "recomp",
    "query": lambda *_: {"query": {"encoder": "minilm"}},
    "extractive": lambda *_: {"extractive": {"encoder": "minilm"}},
}
"""Every way in which a stage reads ahead; the last three by an encoder."""


def stages(way: str, tiny: str, classifier: Path) -> Any:
    return WAYS[way]({"model": tiny}, {"model": str(classifier)})


def optimizer(made: Any, **settings: Any) -> RowOptimizer:
    """Compresses rows of a text and a question to half."""
    pipeline = Pipeline(made, **{"budget": 0.5, "model": "gpt-4o"} | settings)
    return RowOptimizer(pipeline=pipeline, format=Text(("text",)), question=("question",))


def accounts(treated: Iterable[Treated]) -> list[tuple[Mapping[Any, str], Any]]:
    """What counts of rows: their texts and their accounts."""
    return [(one.edits, one.account) for one in treated]


def alone(made: RowOptimizer, rows: Iterable[Any]) -> list[tuple[Mapping[Any, str], Any]]:
    """The same, each row by itself and with nothing remembered."""
    found = []
    for row in rows:
        forget()
        found += accounts([made(row)])
    forget()
    return found


@pytest.mark.parametrize("way", WAYS)
def test_a_row_comes_out_as_if_it_were_alone(way: str, tiny: str, tiny_classifier: Path) -> None:
    made = optimizer(stages(way, tiny, tiny_classifier))
    rows = [*ROWS, LONG]
    assert made.reads_ahead
    by_themselves = alone(made, rows)
    assert sum(bool(edits) for edits, _ in by_themselves) >= len(ROWS)
    assert accounts(made.each(rows)) == by_themselves
    forget()
    assert accounts(made.each(rows[::-1])) == by_themselves[::-1]


@pytest.mark.parametrize("way", [*WAYS][:8])
def test_rows_are_read_together_and_once(
    way: str, tiny: str, tiny_classifier: Path, read: list[int]
) -> None:
    made = optimizer(stages(way, tiny, tiny_classifier))
    rows = [{"text": text(40, i), "question": "Who paid?"} for i in range(6)]
    alone(made, rows)
    windows, calls = sum(read), len(read)
    read.clear()
    [*made.each(rows)]
    assert sum(read) <= windows
    assert len(read) < calls


def test_texts_that_are_shared_are_read_together(tiny: str, read: list[int]) -> None:
    pipeline = shared(Pipeline({"selective_context": {"model": tiny}}, budget=0.5), None)
    made = RowOptimizer(pipeline=pipeline, format=Text(("text",)))
    rows = [{"text": [text(40, i), text(40, 2)]} for i in range(4)]
    by_themselves = alone(made, rows)
    read.clear()
    assert accounts(made.each(rows)) == by_themselves
    once = sum(read)
    assert len(read) < once
    assert accounts(made.each(rows)) == by_themselves
    assert sum(read) == once


def test_what_scores_nothing_reads_nothing_ahead() -> None:
    plain = ("default", "lexical", "truncate", {"query": {"encoder": ""}}, {"ensemble": {}})
    assert not any(
        can_read_ahead([as_stage(one) if one != "default" else Pipeline("auto")]) for one in plain
    )
    assert not optimizer([{"cached": {"recipe": "lexical", "megabytes": 0}}]).reads_ahead
    assert not optimizer(Pipeline("lexical")).reads_ahead


def test_no_more_is_read_together_than_can_be_remembered(
    tiny: str, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = optimizer({"selective_context": {"model": tiny}})
    rows = [{"text": text(40, i)} for i in range(6)]
    whole = accounts(made.each(rows))
    many, windows = max(read), sum(read)
    forget()
    read.clear()
    monkeypatch.setattr(rows_module, "TOGETHER", 2 * len(rows[0]["text"]) + 20)
    assert accounts(made.each(rows)) == whole
    assert max(read) < many
    assert sum(read) == windows


def test_rows_are_held_only_as_long_as_one_waits() -> None:
    given: list[int] = []

    def rows() -> Iterator[dict[str, str]]:
        for i in range(4):
            given.append(i)
            yield {"text": text(30, i)}

    each = optimizer("lexical").each(rows())
    assert next(each).status == "compressed"
    assert given == [0]


def test_a_row_that_the_model_fails_on_fails_alone() -> None:
    stage = Foreseeing()
    texts = [text(8, i) for i in range(5)]
    texts[2] += " explode"
    treated = [*optimizer([stage]).each({"text": one} for one in texts)]
    assert [one.status for one in treated] == [*["compressed"] * 2, "failed", *["compressed"] * 2]
    assert "exploded at" in treated[2].reason
    assert all(one.edits for i, one in enumerate(treated) if i != 2)


def test_what_a_row_holds_is_its_own_matter_in_step_too(tiny: str, read: list[int]) -> None:
    made = optimizer({"selective_context": {"model": tiny}})
    rows = [ROWS[0], {"text": None}, 7, {"text": ""}, {"text": "short", "question": 3}, ROWS[1]]
    assert accounts(made.each(rows)) == alone(made, rows)
    assert [one.status for one in made.each(rows)] == [
        "compressed",
        "failed",
        "failed",
        "unchanged",
        "failed",
        "compressed",
    ]


def test_a_time_budget_is_for_a_rows_own_reading() -> None:
    stage = Foreseeing()
    timed = optimizer([stage], budget={"ratio": 0.5, "ms": 60_000})
    Foreseeing.seen.clear()
    assert [one.status for one in timed.each(ROWS)] == ["compressed"] * len(ROWS)
    assert Foreseeing.seen == []
    assert [one.status for one in optimizer([stage]).each(ROWS)] == ["compressed"] * len(ROWS)
    assert Foreseeing.seen == [len(ROWS)]


def test_one_row_is_not_read_twice() -> None:
    Foreseeing.seen.clear()
    assert optimizer([Foreseeing()])(ROWS[0]).status == "compressed"
    assert Foreseeing.seen == []


def test_the_time_of_reading_is_shared_among_the_rows() -> None:
    stage = Foreseeing(seconds=0.4)
    treated = [*optimizer([stage]).each(ROWS)]
    longest, shortest = treated[-1], treated[0]
    assert longest.ms > shortest.ms
    assert sum(one.ms for one in treated) >= 400
    assert longest.ms < 400
    assert all(decision.ms < 200 for one in treated for decision in one.decisions)


def test_mapped_rows_are_read_together(tiny: str, read: list[int]) -> None:
    stage = {"selective_context": {"model": tiny}}
    pipeline = Pipeline([stage], budget=0.5, model="gpt-4o")
    shorter = MapRows(pipeline=pipeline, field="text")
    texts = [text(40, i) for i in range(6)]
    made = shorter({"text": texts})["text"]
    assert len(read) < len(texts)
    forget()
    assert [shorter.row({"text": one})["text"] for one in texts] == made
    assert shorter.texts(texts) == made


# the job


def written(folder: Path) -> Path:
    """A file in which a line is no row and one is empty."""
    lines = [json.dumps(row) for row in [*ROWS, LONG, *ROWS[::-1]]]
    lines[3:3] = ["{broken", ""]
    path = folder / "in.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def outcome(target: Path) -> list[bytes]:
    return [target.read_bytes(), target.with_name(f"{target.name}.errors.jsonl").read_bytes()]


@pytest.mark.parametrize("way", ["selective_context", "llmlingua", "llmlingua2"])
def test_the_job_is_the_same_however_its_rows_lie_in_blocks(
    way: str, tmp_path: Path, tiny: str, tiny_classifier: Path
) -> None:
    source = written(tmp_path)
    pipeline = Pipeline(stages(way, tiny, tiny_classifier), budget=0.5, model="gpt-4o")
    settings: dict[str, Any] = {"pipeline": pipeline, "question_field": "question"}
    made = []
    for size in (1, 3, 32):
        forget()
        batch(source, target := tmp_path / f"{size}.jsonl", block=size, **settings)
        made.append(outcome(target))
    target = tmp_path / "stopped.jsonl"
    for limit in (2, 7, 13, None):  # each time another row begins a block
        forget()
        batch(source, target, block=4, limit=limit, **settings)
    assert made == [outcome(target)] * 3
    assert b"line" in made[0][1]


def test_the_job_is_the_same_with_workers(tmp_path: Path, tiny: str) -> None:
    source = written(tmp_path)
    pipeline = Pipeline({"selective_context": {"model": tiny}}, budget=0.5, model="gpt-4o")
    for workers in (1, 2):
        batch(source, tmp_path / f"{workers}.jsonl", pipeline=pipeline, workers=workers, block=4)
    assert outcome(tmp_path / "1.jsonl") == outcome(tmp_path / "2.jsonl")


@pytest.mark.parametrize(
    ("words", "stage", "rows"),
    [
        (3, "selective_context", 512),
        (40, "selective_context", 200),
        (400, "selective_context", 32),
        (3, "lexical", 32),
    ],
)
def test_a_block_of_short_rows_has_more_of_them(
    words: int, stage: str, rows: int, tiny: str, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(f"{json.dumps({'text': text(words)})}\n" * 20)
    pipeline = Pipeline(
        {stage: {"model": tiny} if stage == "selective_context" else {}}, budget=0.5
    )
    settings: dict[str, Any] = {"source": source, "target": tmp_path / "o", "pipeline": pipeline}
    assert rows * 0.5 <= BatchJob(**settings).at_once <= rows * 2
    assert BatchJob(**settings, block=7).at_once == 7


def test_an_estimate_reads_rows_together_as_the_job_does(
    tmp_path: Path, tiny: str, read: list[int]
) -> None:
    source = written(tmp_path)
    settings: dict[str, Any] = {
        "pipeline": Pipeline({"selective_context": {"model": tiny}}, budget=0.5, model="gpt-4o"),
        "question_field": "question",
    }
    guessed = estimate(source, tmp_path / "never.jsonl", **settings)
    assert len(read) < sum(read)
    done = batch(source, tmp_path / "made.jsonl", **settings)
    assert (guessed.rows, guessed.tried, guessed.failed) == (done.rows, done.rows, done.failed)
    assert (guessed.before.value, guessed.after.value) == (done.before, done.after)
    assert guessed.seconds.value > 0
    assert not (tmp_path / "never.jsonl").exists()


# widths


@given(size=st.integers(1, 5000), more=st.integers(0, 5000))
def test_a_width_follows_from_a_pieces_own_size(size: int, more: int) -> None:
    most = size + more
    width = width_of(size, most)
    assert size <= width <= most
    assert width - size < max(FINEST, size / STEPS * 2)
    assert width_of(width, most) == width
    assert width_of(size, 10_000) <= width_of(size + 1, 10_000)
