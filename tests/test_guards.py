"""Nothing gets worse: what a stage breaks is undone for that text, with the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_stages import Misuse, Rewrite
from strategies import any_request, prose
from trees import differences

from tersely.kinds import json_shape
from tersely.middleware.guards import lost_span
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt, Segment
from tersely.report import Report

PROSE = "many words that could go and some that could not go at all"
DEEP = "[" * 3000 + "]" * 3000


def fate(request: Any, stage: Any) -> tuple[Any, dict[str, str], Report]:
    """The output, the reason for each text that was put back, and the report."""
    result = Pipeline(stage).run(request)
    reverted = {d.path: d.reason for d in result.report.decisions if d.action == "reverted"}
    return result.output, reverted, result.report


def test_a_text_that_grows_goes_back() -> None:
    output, reverted, _ = fate(["a b c", PROSE], Rewrite(how=lambda t: "x y z w " * 2))
    assert output == ["a b c", "x y z w " * 2]
    assert reverted["[0]"].startswith("tokens would go up from 3 to ")


@pytest.mark.parametrize("nothing", ["", " ", "\n\t"])
def test_an_emptied_text_goes_back(nothing: str) -> None:
    output, reverted, _ = fate([PROSE], Rewrite(how=lambda text: nothing))
    assert output == [PROSE]
    assert reverted == {"[0]": "nothing would be left"}


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        ('{"a":1}', True),
        ('{"a":1', False),
        ("[1]", False),
        ("a is 1", False),
        ('"a"', False),
    ],
)
def test_json_stays_json_of_its_type(made: str, kept: bool) -> None:
    request = [json.dumps({"a": 1, "b": [2, 3]}), PROSE]
    output, reverted, _ = fate(request, Rewrite(how=lambda text: made if "{" in text else text))
    assert (output[0] == made) is kept
    assert reverted == ({} if kept else {"[0]": "it would no longer be a JSON object"})


def test_json_too_deep_to_parse_is_not_trusted_to_a_stage() -> None:
    output, reverted, _ = fate([DEEP], Rewrite(how=lambda text: text[1:]))
    assert output == [DEEP]
    assert "[0]" in reverted


def test_a_lost_span_goes_back() -> None:
    request = f"<keep>never lose this</keep> {PROSE}"
    output, reverted, _ = fate(request, Rewrite(how=lambda text: text.replace("never", "")))
    assert output == request
    assert "a kept span would be lost" in reverted["text"]


@given(st.lists(st.tuples(prose(3), prose(3)), max_size=4))
def test_spans_are_found_in_order(parts: list[tuple[str, str]]) -> None:
    text, spans, made = "", [], ""
    for free, kept in parts:
        spans.append((len(text + free), len(text + free + kept)))
        text += free + kept
        made += kept
    assert lost_span(Segment(text=text, spans=tuple(spans)), made) == ""


def test_spans_in_another_order_are_lost() -> None:
    segment = Segment(text="ab cd", spans=((0, 2), (3, 5)))
    assert lost_span(segment, "cd ab") == "cd"


def with_text(prompt: Prompt, at: int, text: Any) -> Prompt:
    segments = list(prompt.segments)
    segments[at] = replace(segments[at], text=text)
    return replace(prompt, segments=tuple(segments))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda p: replace(p, segments=p.segments[1:]), "2 segments became 1"),
        (lambda p: replace(p, segments=p.segments[::-1]), "moved or changed its kind"),
        (lambda p: replace(p, segments=(*p.segments, p.segments[0])), "2 segments became 3"),
        (lambda p: replace(p, question="what?"), "the question, the tools"),
        (lambda p: replace(p, tools="x"), "the question, the tools"),
        (lambda p: with_text(p, 0, None), "a text became None"),
        (lambda p: None, "no prompt but NoneType"),
        (lambda p: "text", "no prompt but str"),
    ],
)
def test_another_prompt_than_was_given_is_not_used(how: Any, said: str) -> None:
    request = [PROSE, PROSE + "!"]
    result = Pipeline(Misuse(how=how)).run(request)
    assert result.output is request
    assert {d.action for d in result.report.decisions} == {"skipped"}
    assert said in result.report.notes[0]


def test_a_changed_locked_text_goes_back_and_is_told() -> None:
    request = {"messages": [{"role": "user", "content": PROSE}, {"role": "tool", "content": PROSE}]}
    stage = Misuse(
        how=lambda p: with_text(with_text(p, 0, "hacked"), 1, "fewer words"),
        kinds=("tool_output",),
    )
    result = Pipeline(stage).run(request)
    assert [m["content"] for m in result.output["messages"]] == [PROSE, "fewer words"]
    assert result.report.notes == ("misuse changed locked messages[0].content: put back",)


def test_a_changed_locked_part_takes_its_whole_text_back() -> None:
    content = f"Look at this:\n\n{(PROSE + '. ') * 200}\n\nWhat may go?"
    request = {"messages": [{"role": "user", "content": content}]}
    stage = Misuse(
        how=lambda p: with_text(with_text(p, 1, "less"), 2, "\n\nNo?"), kinds=("context",)
    )
    output, reverted, _ = fate(request, stage)
    assert output is request
    assert reverted == {"messages[0].content": "a locked text in it would change"}


ATTACKS = (
    lambda text: text[: len(text) // 2],
    lambda text: text + text + " and more",
    lambda text: "",
    lambda text: "short",
    lambda text: text.replace("{", "").replace("keep", ""),
)


@given(any_request(), st.sampled_from(ATTACKS))
def test_no_request_gets_worse(request: Any, attack: Any) -> None:
    result = Pipeline(Rewrite(how=attack)).run(request)
    if result.trace is None or not result.trace.before.segments:
        return
    assert result.report.after <= result.report.before
    moved = set(differences(request, result.output))
    for old, new in zip(result.trace.before.leaves, result.trace.after.leaves, strict=True):
        if old.path in moved:
            assert new.text.strip()
            assert json_shape(old.text) in (None, json_shape(new.text))
            assert not any(segment.locked for segment in old.segments)
        else:
            assert new.text == old.text
