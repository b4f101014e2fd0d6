from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tersely.middleware import render
from tersely.report import Decision, Report

COMPRESSED = Decision(
    path="messages[3].content",
    role="tool",
    kind="tool_output",
    stage="lexical",
    action="compressed",
    reason="600 tokens fewer",
    before=1000,
    after=400,
    ms=12.34,
)
LOCKED = Decision(
    path="system",
    role="system",
    kind="instruction",
    stage="-",
    action="locked",
    reason="it is an instruction",
    before=50,
    after=50,
)
REPORT = Report(
    mode="optimize",
    surface="openai-chat",
    counter="tiktoken o200k_base",
    exact=True,
    before=1050,
    after=450,
    limit=500,
    ms=20,
    decisions=(COMPRESSED, LOCKED),
    notes=("one thing to know",),
)


def words(report: Report) -> str:
    return " ".join(render.text(report, width=140).split())


def test_one_row_for_each_decision() -> None:
    told = words(REPORT)
    assert "messages[3].content tool_output lexical compressed 600 tokens fewer" in told
    assert "1,000 -> 400 12.3" in told
    assert "system instruction - locked it is an instruction 50 0.0" in told


def test_totals_and_notes() -> None:
    told = words(REPORT)
    assert "1,050 -> 450 tokens, 57% fewer in 20 ms; budget 500 met" in told
    assert "counted by tiktoken o200k_base" in told
    assert "estimate" not in told
    assert "note: one thing to know" in told


def test_a_missed_budget_and_an_audit_are_told() -> None:
    told = words(REPORT.model_copy(update={"met": False, "mode": "audit"}))
    assert "budget 500 missed" in told
    assert "audit, nothing was changed" in told


def test_an_estimate_is_labelled() -> None:
    guess = {"exact": False, "counter": "words"}
    assert "counted by words (an estimate)" in words(REPORT.model_copy(update=guess))
    named = {"exact": False, "counter": "estimate: o200k_base x 1.2"}
    assert words(REPORT.model_copy(update=named)).count("estimate") == 1


def test_more_rows_than_wanted_are_counted() -> None:
    many = REPORT.model_copy(update={"decisions": (COMPRESSED,) * 12})
    console = Console(width=140)
    with console.capture() as said:
        console.print(render.table(many, most=10))
    assert said.get().count("messages[3]") == 10
    assert "2 decisions more" in said.get()


def test_a_report_without_decisions_has_no_table() -> None:
    nothing = REPORT.model_copy(update={"decisions": (), "before": 0, "after": 0, "limit": None})
    assert render.text(nothing).startswith("0 tokens in 20 ms")


def test_a_report_prints_itself_as_the_table() -> None:
    console = Console(width=140)
    with console.capture() as said:
        console.print(REPORT)
    assert said.get() == render.text(REPORT, width=140)


@given(st.text(alphabet=st.characters()), st.sampled_from(["[red]", "\x1b[31m", "[/]", "\ud800"]))
def test_what_came_with_the_request_has_no_power_over_the_terminal(text: str, evil: str) -> None:
    row = COMPRESSED.model_copy(update={"path": evil, "reason": text + evil})
    told = render.text(REPORT.model_copy(update={"decisions": (row,), "notes": (evil,)}))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", told)
    if evil.startswith("[r"):
        assert "note: [red]" in told
