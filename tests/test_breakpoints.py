"""Cache breakpoints lie where a provider's cache serves the next request and conversation."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from little_stages import AboutTheQuestion, Halve

from tersely.middleware.breakpoints import FIELD, breakpoints, marked
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.session import Session
from tersely.prices import Price

JSON = dict[str, Any]
SMALL = Price(minimum=0)
EPHEMERAL = {"type": "ephemeral"}
LONG = "The rules are many and each of them is to be minded. " * 150
KINDS = ("tool_output", "context", "log", "json", "table", "code")


def claude(turns: int, *, words: int = 600, **more: Any) -> JSON:
    """The request of an agent after so many results of its tool."""
    said: list[JSON] = [{"role": "user", "content": "What is there?"}]
    for t in range(turns):
        use = {"type": "tool_use", "id": f"c{t}", "name": "look", "input": {"at": t}}
        found = {"type": "tool_result", "tool_use_id": f"c{t}", "content": f"{t} " * words}
        said += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [found]}]
    tools = [{"name": "look", "description": LONG, "input_schema": {"type": "object"}}]
    return {
        "model": "claude-sonnet-5",
        "max_tokens": 9,
        "system": LONG,
        "tools": tools,
        "messages": said,
    } | more


def test_they_lie_behind_tools_and_system_where_the_last_one_ended_and_at_the_end() -> None:
    body = claude(3)
    before = copy.deepcopy(body)
    placed = breakpoints(body)
    assert body == before
    assert [one.path for one in placed.places] == [
        ("tools", 0),
        ("system",),
        ("messages", 4, "content", 0),
        ("messages", 6, "content", 0),
    ]
    assert placed.request["system"] == [{"type": "text", "text": LONG, FIELD: EPHEMERAL}]
    assert list(marked(placed.request)) == [
        ("tools", 0),
        ("system", 0),
        ("messages", 4, "content", 0),
        ("messages", 6, "content", 0),
    ]
    tokens = [one.tokens for one in placed.places]
    assert tokens == sorted(tokens) and tokens[0] > 1024
    assert placed.notes[2] == (
        f"breakpoint behind messages[4].content[0] ({tokens[2]} tokens): the request before ended"
        " here"
    )


def test_what_is_too_short_to_be_cached_gets_none_and_the_report_tells() -> None:
    body = claude(1, words=10, system="Be brief.", tools=[])
    placed = breakpoints(body)
    assert placed.request is body and placed.places == ()
    assert all("under 1024 tokens nothing is cached" in note for note in placed.notes)
    assert len(placed.notes) == 3
    assert len(breakpoints(body, price=SMALL).places) == 3


def test_the_model_tells_how_long_a_prompt_has_to_be() -> None:
    body = claude(0, system="Be brief.")
    names = ("claude-opus-5", "claude-haiku-4-5")
    assert [len(breakpoints(body, model=name).places) for name in names] == [3, 0]


def test_the_callers_own_stay_and_better_places_are_told() -> None:
    body = claude(3)
    body["messages"][2]["content"][0][FIELD] = EPHEMERAL
    placed = breakpoints(body)
    assert placed.request is body and placed.places == ()
    first, *told = placed.notes
    assert first == "breakpoint: the caller's own stay as they are"
    assert len(told) == 4 and "one behind tools[0]" in told[0]
    whole = breakpoints(claude(3, cache_control=EPHEMERAL))
    assert list(marked(whole.request)) == [()]
    assert not any("messages[6]" in note for note in whole.notes), "it moves with the end"


def test_blocks_that_take_none_are_passed_over() -> None:
    body = claude(1)
    body["messages"][-1]["content"] += [{"type": "text", "text": " "}]
    body["messages"].append(
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]}
    )
    (*_, last) = breakpoints(body).places
    assert last.path == ("messages", 2, "content", 0)


@pytest.mark.parametrize(
    "request_", ["a text", [{"role": "user", "content": "x"}], {"messages": [{"role": "tool"}]}]
)
def test_other_requests_are_left_alone(request_: Any) -> None:
    placed = breakpoints(request_)
    assert placed.request is request_ and "Anthropic" in placed.notes[0]


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.sampled_from([0, 100, 1024]),
    st.booleans(),
)
@settings(max_examples=30)
def test_never_more_than_four_and_nothing_else_changes(
    sizes: list[int], minimum: int, texts: bool
) -> None:
    said: list[JSON] = []
    for i, size in enumerate(sizes):
        blocks = [{"type": "text", "text": f"{n} word"} for n in range(size)]
        role = "assistant" if i % 2 else "user"
        said.append({"role": role, "content": "word " * size if texts else blocks})
    body = {"model": "claude-opus-5", "system": "Be brief.", "messages": said}
    placed = breakpoints(body, price=Price(minimum=minimum))
    assert len(list(marked(placed.request))) == len(placed.places) <= 4
    assert _without(placed.request) == _without(body)
    assert all(one.tokens >= minimum for one in placed.places)


def _without(request: Any) -> Any:
    """A request without breakpoints, and texts as blocks."""
    if isinstance(request, dict):
        return {
            name: [{"type": "text", "text": value}]
            if name in ("content", "system") and isinstance(value, str)
            else _without(value)
            for name, value in request.items()
            if name != FIELD
        }
    return [_without(one) for one in request] if isinstance(request, list) else request


# in a pipeline


def test_a_pipeline_sets_them_only_when_asked_and_what_follows_is_read() -> None:
    plain, asked = Pipeline([]), Pipeline([], cache="breakpoints")
    assert plain.run(claude(2)).output == claude(2)
    session = Session()
    costs = [asked.run(claude(t), session=session).report.cost for t in range(1, 5)]
    first, *later = [cost for cost in costs if cost]
    assert first.after > first.before, "it is written, which costs more than no cache"
    assert all(cost.after < cost.before / 2 for cost in later)
    assert (
        asked.run(claude(2), model="gpt-5", surface="openai-chat")
        .report.notes[-1]
        .endswith("none for openai-chat")
    )


def test_auditing_tells_where_and_sets_none() -> None:
    body = claude(2)
    result = Pipeline([], cache="breakpoints", mode="audit").run(body)
    assert result.output is body
    assert any("breakpoint behind system" in note for note in result.report.notes)


def test_frozen_texts_are_the_same_whether_they_carry_one_or_not() -> None:
    line, session = Pipeline(Halve(kinds=KINDS), cache="breakpoints"), Session()
    sent = [line.run(claude(t), session=session).output["messages"] for t in range(1, 5)]
    for earlier, later in pairwise(sent):
        assert _without(later)[: len(earlier)] == _without(earlier)
    assert len(sent[-1][2]["content"][0]["content"]) < len("0 " * 600)


def test_what_lies_before_the_callers_breakpoint_stays_the_same_for_a_new_question() -> None:
    line, session = Pipeline(AboutTheQuestion()), Session()
    body = claude(2, words=4, system="Be brief.")
    body["messages"][0]["content"] = "which 0"
    first = line.run(body, session=session).output["messages"]
    body = copy.deepcopy(body)
    body["messages"][2]["content"][0][FIELD] = EPHEMERAL
    body["messages"] += [
        {"role": "assistant", "content": "That."},
        {"role": "user", "content": "which 1"},
    ]
    second = line.run(body, session=session).output["messages"]
    assert _without(second)[:5] == _without(first)
    assert second[2]["content"][0][FIELD] == EPHEMERAL


def test_it_is_written_as_yaml_and_read_back() -> None:
    line = Pipeline([], cache="breakpoints")
    assert "cache: breakpoints" in line.to_yaml()
    assert Pipeline.from_yaml(line.to_yaml()) == line
    assert "cache" not in Pipeline([]).to_yaml()
