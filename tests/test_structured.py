"""What all stages share that take a text apart by its form."""

from __future__ import annotations

import json
from dataclasses import replace
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_output import prompt_of

from tersely.budget import Budget
from tersely.contracts import Context
from tersely.errors import OutOfTime
from tersely.middleware.pipeline import Pipeline, compress
from tersely.named import Lines, Named, named
from tersely.prompt import Prompt, Segment
from tersely.registry import stage
from tersely.tokens import counter

COUNT = counter("gpt-4o")
ROWS = json.dumps([{"number": i, "name": f"name {i}", "on": True} for i in range(200)], indent=1)
LOG = "\n".join(f"2026-11-23 10:00:{i % 60:02d} INFO job {i} is done" for i in range(300))


def made(prompt: Prompt, limit: int | None, *names: str) -> Prompt:
    context = Context(count=COUNT, limit=limit)
    for name in names:
        prompt = stage(name, kinds=("json", "log", "context"))(prompt, context)
    return prompt


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4, 0.2])
def test_budgets_are_kept_and_used_over_several_texts(share: float) -> None:
    prompt = prompt_of(ROWS)
    other = Segment(text=ROWS.replace("name", "title"), role="tool", kind="json", path=(3,), turn=3)
    prompt = replace(prompt, segments=(*prompt.segments, other), turns=4)
    context = Context(count=COUNT)
    limit = int(context.tokens(prompt) * share)
    size = context.tokens(made(prompt, limit, "json"))
    assert size <= limit
    if share < 0.3:
        assert size > 0.85 * limit


def test_each_stage_of_a_pipeline_takes_what_is_its_own() -> None:
    messages = [
        {"role": "user", "content": "What of job 217 and of name 123?"},
        {"role": "tool", "tool_call_id": "a", "content": ROWS},
        {"role": "tool", "tool_call_id": "b", "content": LOG},
        {"role": "tool", "tool_call_id": "c", "content": "No such thing was found anywhere."},
    ]
    tools = Pipeline(
        ["json", "diff", "search_hits", "rows", "logs", "html", "markdown", "code"], budget=0.1
    )
    result = tools.run({"model": "gpt-4o", "messages": messages})
    _, rows, log, rest = (message["content"] for message in result.output["messages"])
    assert '"name 123"' in rows and isinstance(json.loads(rows), list)
    assert "job 217 is done" in log and "left out]" in log
    assert rest == messages[3]["content"]


def test_a_kept_span_is_never_touched() -> None:
    start = ROWS.index('{\n  "number": 77')
    end = ROWS.index("}", start) + 1
    segment = Segment(text=ROWS, kind="json", spans=((start, end),))
    prompt = Prompt((segment,))
    after = made(prompt, 100, "json").segments[0]
    assert ROWS[start:end] in after.text


def test_a_json_text_in_parts_stays() -> None:
    parts = (
        Segment(text=ROWS[:900], kind="json", path=(1,)),
        Segment(text=ROWS[900:1800], kind="json", path=(1,), locked=True),
        Segment(text=ROWS[1800:], kind="json", path=(1,)),
    )
    prompt = Prompt(parts)
    assert made(prompt, 100, "json") == prompt


def test_time_that_is_spent_stops_it() -> None:
    context = Context(count=COUNT, budget=Budget(ms=5), limit=10, deadline=monotonic() - 1)
    with pytest.raises(OutOfTime):
        stage("json")(prompt_of(ROWS), context)


def test_what_is_handed_to_the_latest_call_names_too() -> None:
    def call(turn: int, text: str) -> Segment:
        path = ("messages", turn, "tool_calls", 0, "function", "arguments")
        return Segment(text=text, role="assistant", locked=True, turn=turn, path=path)

    calls = (call(1, '{"id": "A-111", "n": 12345}'), call(3, '{"ids": ["B-222", {"c": "D-333"}]}'))
    prompt = Prompt(calls, question="Where is order 98765, `x y`, and /etc/hosts?")
    assert {"98765", "x y", "/etc/hosts", "b-222", "d-333"} <= set(named(prompt, 4).literals)
    assert {"a-111", "12345"} <= set(named(prompt, 2).literals)
    assert "a-111" not in named(prompt, 4).literals


def test_an_output_is_for_the_turn_that_asked_and_for_what_the_calls_behind_it_use() -> None:
    def said(turn: int, text: str) -> Segment:
        return Segment(text=text, role="user", kind="history", turn=turn, path=(turn,))

    def call(turn: int, text: str) -> Segment:
        path = ("messages", turn, "tool_calls", 0, "function", "arguments")
        return Segment(text=text, role="assistant", locked=True, turn=turn, path=path)

    asked = replace(said(5, "And what does it cost?"), kind="question")
    prompt = Prompt(
        (
            said(0, "Find #W123 of the green kettle."),
            call(1, "{}"),
            call(3, '{"u": "ann_7"}'),
            asked,
        ),
        question="And what does it cost?",
    )
    first, last = named(prompt, 2), named(prompt, 6)
    assert {"w123", "ann_7"} <= set(first.literals) and {"kettle", "cost"} <= set(first.words)
    assert "w123" not in last.literals and "kettle" not in last.words
    assert "find" not in named(prompt, 6).words


def test_words_that_are_common_name_together_the_row_that_holds_them_all() -> None:
    colours, sizes = ("red", "blue", "green", "black"), ("small", "medium", "large")
    rows = [
        {"item": 1000 + i, "colour": colours[i % 4], "size": sizes[i // 4 % 3], "price": i % 9}
        for i in range(48)
    ]
    rows[30] |= {"style": "v-neck", "colour": "black", "size": "large"}
    for row in rows[::5]:
        row["style"] = "v-neck"
    prompt = prompt_of(json.dumps(rows), "Is there a black one, large, with a v-neck?")
    assert "1030" in made(prompt, 10, "json").segments[1].text


def test_literals_match_as_a_whole_and_words_by_their_beginning() -> None:
    lines = Lines("order A-12 is here\norder A-123 is there\nmy orders\nnothing\nreordered\n")
    found, held = Named(("a-12",), ("order",)).among(lines)
    assert found >= {0}
    assert 1 not in Named(("a-12",)).among(lines)[0]
    assert held == [1, 1, 1, 0, 0, 0]


def test_writing_without_spaces_names_too() -> None:
    texts = [f"都市{i}の天気は晴れです" for i in range(90)]
    texts[41] = "札幌市の天気は雪です"
    found, _ = Named.by("札幌の天気を教えてください").among(Lines("\n".join(texts)))
    assert found == {41}


def test_what_most_lines_hold_names_none_of_them() -> None:
    lines = Lines("\n".join(f"worker-1 did {i}" for i in range(100)))
    assert Named(("worker-1",), ("did",)).among(lines)[0] == set()


@given(st.text(max_size=80), st.text(min_size=1, max_size=4).map(str.lower))
def test_lines_are_found_where_they_are(text: str, term: str) -> None:
    if "\n" in term:
        return
    lines = text.lower().split("\n")
    assert list(Lines(text).holding(term)) == [i for i, line in enumerate(lines) if term in line]


def test_a_budget_that_what_is_named_does_not_fit_is_told() -> None:
    messages = [
        {"role": "user", "content": "Compare name 3, name 44 and name 155."},
        {"role": "tool", "tool_call_id": "a", "content": ROWS},
    ]
    result = compress({"model": "gpt-4o", "messages": messages}, "json", budget=60)
    rows = result.output["messages"][1]["content"]
    assert all(f'"name {i}"' in rows for i in (3, 44, 155))
    assert any("is missed by" in note for note in result.report.notes)
