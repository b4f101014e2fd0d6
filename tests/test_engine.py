"""What the pipeline does around its stages: budgets, time, failures, modes, the account."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_stages import AboutTheQuestion, Cut, Halve, Misuse, Rewrite
from strategies import any_request
from trees import differences

from tersely.budget import Budget
from tersely.contracts import Context
from tersely.errors import BudgetError, MissingExtra, ModelError, StageError, UnknownName
from tersely.middleware import adapters
from tersely.middleware.adapter_text import TEXT
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.scope import Override
from tersely.report import Report, spell
from tersely.tokens import counter

WORDS = "The quick brown fox jumps over the lazy dog and then it sleeps all day . " * 20
MODEL = "gpt-4o"


def chat(*contents: str, role: str = "tool") -> dict[str, Any]:
    """A request whose messages but the first are of one role."""
    said = [{"role": role, "content": text, "tool_call_id": "1"} for text in contents]
    return {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}, *said]}


def texts(request: dict[str, Any]) -> list[str]:
    return [message["content"] for message in request["messages"]]


def of(report: Report, path: str) -> list[tuple[str, str, str]]:
    return [(d.stage, d.action, d.reason) for d in report.decisions if d.path == path]


def size(request: Any) -> int:
    prompt = next(a for a in [adapters.find(request)] if a is not None).read(request)
    return Context(count=counter(MODEL)).tokens(prompt)


# -- the account ----------------------------------------------------------------------------


@given(
    any_request(),
    st.sampled_from((None, 30, 0.5, {"shares": {"context": 0.5, "log": 0.9}})),
    st.lists(
        st.sampled_from(
            (
                Cut(),
                Halve(kinds=("context",)),
                AboutTheQuestion(),
                Rewrite(how=str.upper),
                Rewrite(how=lambda text: 1 / 0),
                Misuse(how=lambda prompt: None),
            )
        ),
        max_size=3,
    ),
    st.sampled_from((0, 5)),
)
def test_every_text_has_a_decision(request: Any, budget: Any, stages: Any, floor: int) -> None:
    before = copy.deepcopy(request)
    pipeline = Pipeline(stages, budget=budget, floor=floor, fallback=Cut())
    result = pipeline.run(request, model=MODEL)
    assert not list(differences(before, request))
    if result.trace is None or not result.trace.before.segments:
        assert result.output is request
        assert result.report.notes
        return
    read = result.trace.before
    told = {(d.path, d.kind) for d in result.report.decisions}
    assert {(spell(s.path), s.kind) for s in read.segments} == told
    assert all(d.reason for d in result.report.decisions)
    changed = {leaf.path for leaf in read.leaves if not all(s.locked for s in leaf.segments)}
    assert set(differences(request, result.output)) <= changed
    assert result.report.after <= result.report.before
    assert result.report.after == Context(count=counter(MODEL)).tokens(result.trace.after)


def test_a_text_that_no_stage_takes_is_told_so() -> None:
    report = Pipeline(Halve(kinds=("log",))).run(chat(WORDS)).report
    assert of(report, "messages[1].content") == [("-", "locked", "no stage takes tool_output")]


def test_a_short_text_is_told_so() -> None:
    report = Pipeline(Halve(), floor=10_000).run(chat(WORDS)).report
    assert of(report, "messages[1].content")[0][2] == "shorter than 10000 tokens"


def test_the_numbers_are_those_of_the_output() -> None:
    request = chat(WORDS, WORDS + "more")
    result = Pipeline(Halve()).run(request)
    assert result.report.before == size(request)
    assert result.report.after == size(result.output)
    assert sum(d.before - d.after for d in result.report.decisions) == result.report.saved


def test_each_text_is_counted_once() -> None:
    """What the run costs grows with the request, not with its square."""
    counted: list[str] = []
    real = counter(MODEL)

    class Spy:
        name, exact, framing = real.name, True, 0

        def __call__(self, text: str, /) -> int:
            return self.many([text])[0]

        def many(self, texts: Sequence[str], /) -> list[int]:
            counted.extend(texts)
            return real.many(texts)

    request = chat(*(f"{i} {WORDS}" for i in range(200)))
    read = adapters.adapter("openai-chat").read(request)
    pipeline = Pipeline([Rewrite(how=lambda text: text), Halve(kinds=("tool_output",))])
    run = pipeline.through(read, Context(count=Spy(), budget=Budget(ratio=0.5)))
    run.settle()
    assert len(counted) == len(set(counted)) == 2 * 200 + 1


# -- budgets --------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [60, 150, 300])
def test_a_budget_in_tokens_bounds_the_whole_prompt(tokens: int) -> None:
    result = Pipeline(Cut(kinds=("tool_output",)), budget=tokens).run(chat(WORDS, WORDS + "!"))
    assert size(result.output) <= tokens
    assert result.report.limit == tokens
    assert result.report.met


def test_a_ratio_is_of_what_may_change() -> None:
    request = chat(WORDS, role="tool")
    request["messages"].append({"role": "assistant", "content": WORDS * 3})
    result = Pipeline(Cut(kinds=("tool_output",)), budget=0.5).run(request)
    (cut,) = [d for d in result.report.decisions if d.stage == "cut"]
    assert 0.2 * cut.before < cut.after <= 0.5 * cut.before
    assert result.report.met
    assert texts(result.output)[2] == texts(request)[2]


def test_kinds_with_a_share_have_a_budget_of_their_own() -> None:
    log = "2026-11-23 10:00:00 INFO all is well today \n" * 60
    shares = {"log": 0.25, "tool_output": 0.75}
    result = Pipeline(Cut(), budget={"shares": shares}).run(chat(log, WORDS))
    kept = {"log": 0, "tool_output": 0}
    for before, after in zip(texts(chat(log, WORDS))[1:], texts(result.output)[1:], strict=True):
        kind = "log" if "INFO" in before else "tool_output"
        kept[kind] = counter(MODEL)(after)
        assert kept[kind] <= shares[kind] * counter(MODEL)(before)
    assert all(kept.values())
    assert result.report.met
    assert of(result.report, "messages[0].content") == [
        ("cut", "unchanged", "the prompt is within its budget")
    ]


@pytest.mark.parametrize("ceiling", [None, 10_000])
def test_what_one_kind_cannot_give_is_not_taken_from_another(ceiling: int | None) -> None:
    rows = json.dumps([{"id": i, "name": f"name {i}"} for i in range(90)])
    said = ". ".join(f"Room {i} costs {i * 37 % 91} dollars" for i in range(60))
    request = chat(rows)
    request["messages"] += [{"role": "assistant", "content": said}, request["messages"][0]]
    kinds = ("json", "history")
    cut = {"query": {"kinds": kinds, "encoder": ""}}
    budget = Budget(tokens=ceiling, shares=dict.fromkeys(kinds, 0.5))
    result = Pipeline(cut, budget=budget).run(request)
    assert result.output["messages"][1] == request["messages"][1] and not result.report.met
    share = counter(MODEL)(result.output["messages"][2]["content"]) / counter(MODEL)(said)
    assert 0.4 < share <= 0.5 if ceiling is None else share < 0.1


def test_within_the_budget_no_stage_runs() -> None:
    request = chat(WORDS)
    result = Pipeline(Rewrite(how=lambda text: 1 / 0), budget=10_000).run(request)
    assert result.output is request
    assert not result.report.notes


def test_a_budget_that_cannot_be_met_names_what_is_in_the_way() -> None:
    request = chat(WORDS, role="assistant")
    pipeline = Pipeline(Cut(kinds=("tool_output",)), budget=20)
    result = pipeline.run(request)
    assert result.output is request
    assert not result.report.met
    assert "messages[1].content" in result.report.notes[0]
    with pytest.raises(BudgetError, match="may not change"):
        pipeline.run(request, wishes=Override(strict=True))


# -- failures and time ----------------------------------------------------------------------


def boom(text: str) -> str:
    raise RuntimeError("it broke")


def test_a_failing_stage_leaves_the_text_to_the_others() -> None:
    result = Pipeline([Rewrite(how=boom), Halve()]).run(chat(WORDS))
    first, second = of(result.report, "messages[1].content")
    assert first == ("rewrite", "skipped", "failed: RuntimeError: it broke")
    assert second[:2] == ("halve", "compressed")
    assert "it broke" in result.report.notes[0]


def test_a_failing_stage_raises_when_strict() -> None:
    with pytest.raises(StageError, match="it broke"):
        Pipeline(Rewrite(how=boom), strict=True).run(chat(WORDS))


def test_the_fallback_serves_where_a_stage_failed() -> None:
    result = Pipeline(Rewrite(how=boom), budget=80, fallback=Cut(kinds=("tool_output",))).run(
        chat(WORDS)
    )
    assert size(result.output) <= 80
    assert "cut took over" in " ".join(result.report.notes)


def test_a_spent_time_budget_skips_the_stage_and_calls_the_fallback() -> None:
    pipeline = Pipeline(Halve(), budget={"tokens": 80, "ms": 1e-6}, fallback=Cut())
    result = pipeline.run(chat(WORDS))
    assert ("halve", "skipped") in {d[:2] for d in of(result.report, "messages[1].content")}
    assert "OutOfTime" in result.report.notes[0]
    assert size(result.output) <= 80


def test_the_pace_gives_a_long_prompt_the_time_that_it_needs() -> None:
    budget = {"tokens": 80, "ms": 1e-6, "pace": 1e6}
    assert size(Pipeline(Halve(), budget=budget).run(chat(WORDS)).output) < size(chat(WORDS))


def test_a_spent_time_budget_without_a_fallback_changes_nothing() -> None:
    request = chat(WORDS)
    result = Pipeline(Halve(), budget={"tokens": 80, "ms": 1e-6}).run(request)
    assert result.output is request
    assert not result.report.met


def test_a_stage_that_needs_a_question_waits_for_one() -> None:
    request = ["the ship left", "a night in Bridge"]
    pipeline = Pipeline(AboutTheQuestion())
    without = pipeline.run(request)
    assert without.output is request
    assert of(without.report, "[0]")[0][2] == "it needs a question and none is known"
    assert pipeline.run(request, question="which ship").output == ["ship", "nothing"]


# -- modes ----------------------------------------------------------------------------------


def test_off_passes_through() -> None:
    request = chat(WORDS)
    result = Pipeline(Rewrite(how=boom), mode="off", strict=True).run(request)
    assert result.output is request
    assert result.report.notes == ("the mode is off",)


def test_audit_tells_what_optimize_would_do() -> None:
    request = chat(WORDS)
    pipeline = Pipeline(Halve())
    audit = pipeline.run(request, wishes=Override(mode="audit"))
    done = pipeline.run(request)
    assert audit.output is request
    assert audit.report.saved == done.report.saved > 0
    assert [d.action for d in audit.report.decisions] == [d.action for d in done.report.decisions]


def test_audit_freezes_nothing() -> None:
    pipeline = Pipeline(AboutTheQuestion())
    first = pipeline.run(chat("why Why? not"), wishes=Override(mode="audit"), question="not")
    assert first.report.saved > 0
    assert texts(pipeline.run(chat("why Why? not")).output)[1] == "Why?"


@pytest.mark.parametrize("request_", [None, 7, [], {}, [[1]], {"messages": 3}])
def test_what_nobody_can_read_passes_with_the_reason(request_: Any) -> None:
    result = Pipeline(Halve()).run(request_)
    assert result.output is request_
    assert result.report.notes[0]


# -- nesting --------------------------------------------------------------------------------


def test_a_pipeline_is_a_stage() -> None:
    inner = Pipeline(Cut(kinds=("tool_output",)), budget=100)
    result = Pipeline([Halve(kinds=("log",)), inner]).run(chat(WORDS))
    assert size(result.output) <= 100


def test_the_tighter_budget_holds() -> None:
    inner = Pipeline(Cut(kinds=("tool_output",)), budget=200)
    assert size(Pipeline(inner, budget=100).run(chat(WORDS)).output) <= 100
    assert 100 < size(Pipeline(inner, budget=250).run(chat(WORDS)).output) <= 200


def test_an_inner_failure_is_the_inner_pipelines_own() -> None:
    inner = Pipeline([Halve(), Rewrite(how=boom)])
    request = chat(WORDS)
    result = Pipeline([inner]).run(request)
    assert result.output is request
    assert "it broke" in result.report.notes[0]


# -- what flows on --------------------------------------------------------------------------


def test_kept_spans_hold_through_all_stages() -> None:
    def drop_late_words(text: str) -> str:
        return text.replace(" and keep me", "")

    request = f"{WORDS}<keep>stay and keep me</keep>{WORDS}"
    result = Pipeline([Halve(), Rewrite(how=drop_late_words)]).run(request)
    assert "stay and keep me" in result.output
    assert "<keep>" not in result.output
    assert [d.action for d in result.report.decisions] == ["compressed", "reverted"]


def test_tags_stay_where_nothing_was_compressed() -> None:
    request = {"context": ["<keep>a</keep> b", f"<keep>a</keep> {WORDS}"], "question": "why"}
    result = Pipeline(Halve(), floor=20).run(request)
    assert result.output["context"][0] == "<keep>a</keep> b"
    assert result.output["context"][1].startswith("a ")
    assert result.report.saved > 0
    assert result.report.after == Context(count=counter()).tokens(TEXT.read(result.output))


def test_an_override_chooses_another_pipeline() -> None:
    request = chat(WORDS)
    other = Pipeline(Halve(), mode="audit")
    result = Pipeline(Rewrite(how=boom)).run(request, wishes=Override(pipeline=other))
    assert result.output is request
    assert result.report.saved > 0


def test_a_prompt_without_open_text_passes() -> None:
    prompt = adapters.adapter("text").read("abc")
    shut = replace(prompt, segments=tuple(replace(s, locked=True) for s in prompt.segments))
    run = Pipeline(Halve(), budget=0.5).through(shut, Context(count=counter()))
    assert run.prompt == shut
    assert run.settle()


def test_a_missing_model_is_told_when_the_pipeline_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="tersely models pull smollm2"):
        Pipeline("llmlingua")
    with pytest.raises(UnknownName, match="nearest: smollm2"):
        Pipeline({"selective_context": {"model": "smollm"}})


def test_a_missing_extra_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tersely.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'tersely\[local\]'"):
        Pipeline("llmlingua")
