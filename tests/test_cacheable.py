"""What a provider would have cached is not made too short for that."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from little_stages import Cut, Halve

from tersely.middleware.cacheable import enough
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.session import Session
from tersely.report import Cost

JSON = dict[str, Any]
KINDS = ("tool_output", "context", "history", "json", "log", "table", "code")
WORD = "alpha "


def conversation(sizes: list[int], model: str) -> list[JSON]:
    """The requests of an agent whose tool gave texts of so many words."""
    said: list[JSON] = [{"role": "user", "content": "What is there?"}]
    requests = []
    for t, size in enumerate(sizes):
        function = {"name": "look", "arguments": "{}"}
        call = {"id": f"c{t}", "type": "function", "function": function}
        said = [
            *said,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{t}", "content": f"{t}: {WORD * size}"},
        ]
        requests.append({"model": model, "messages": said})
    return requests


def through(requests: list[JSON], line: Pipeline, session: Session | None = None) -> list[Result]:
    session = session or Session()
    return [line.run(request, session=session) for request in requests]


def costs(results: list[Result]) -> list[Cost]:
    return [result.report.cost for result in results if result.report.cost]


HALVE = Pipeline(Halve(kinds=KINDS))


@given(
    st.lists(st.integers(1, 1500), min_size=1, max_size=7),
    st.sampled_from(["gpt-4o", "gpt-4.1", "gpt-5", "gpt-5.6-terra", "deepseek-chat"]),
    st.lists(st.sampled_from([1, 299, 4000]), min_size=7, max_size=7),
)
@settings(max_examples=40)
def test_at_no_turn_has_a_conversation_cost_more(
    sizes: list[int], model: str, gaps: list[int]
) -> None:
    now = [0.0]
    session = Session(clock=lambda: now[0])
    paid = spared = 0.0
    requests = conversation(sizes, model)
    asked = {"model": model, "messages": requests[0]["messages"][:1]}
    for request, gap in zip([asked, *requests], gaps, strict=False):
        (cost,) = costs([HALVE.run(request, session=session)])
        paid, spared = paid + cost.before, spared + cost.saved
        assert spared >= -1e-12 * paid
        now[0] += gap


def test_what_is_not_cached_yet_goes_out_whole_and_the_report_tells() -> None:
    first, second, *_, last = through(conversation([100, 400, 400, 3000], "gpt-4.1"), HALVE)
    assert first.report.saved > 0, "it may be the only request"
    assert second.output["messages"][-1]["content"].startswith("1: alpha alpha")
    (told,) = [d for d in second.report.decisions if d.path == "messages[4].content"]
    assert (told.action, told.before) == ("reverted", told.after)
    assert told.reason == "sent whole, since under 1024 tokens nothing is cached"
    assert last.report.saved > 1000, "beyond that length it is compressed"


def test_no_more_goes_out_whole_than_it_takes() -> None:
    requests = conversation([10, 700, 900], "gpt-4.1")
    *_, result = through([requests[0], requests[2]], HALVE)
    actions = [d.action for d in result.report.decisions if d.role == "tool"]
    assert sorted(actions) == ["compressed", "frozen", "reverted"]
    assert result.report.after >= 1024


def test_what_was_sent_stays_as_it_was() -> None:
    requests = conversation([100, 200, 300, 400, 500], "gpt-4.1")
    sent = [result.output["messages"] for result in through(requests, HALVE)]
    for earlier, later in pairwise(sent):
        assert later[: len(earlier)] == earlier


@pytest.mark.parametrize(("share", "is_whole"), [(0.5, False), (0.9, True)])
def test_a_first_question_is_not_made_too_short_for_little(share: float, is_whole: bool) -> None:
    line = Pipeline(Cut(kinds=("question",)), budget={"shares": {"question": share}})
    ask = {"model": "gpt-4.1", "messages": [{"role": "user", "content": WORD * 1100}]}
    (result,) = through([ask], line)
    assert (result.report.saved == 0) is is_whole
    assert result.report.met


@pytest.mark.parametrize("model", ["claude-sonnet-5", "mine"])
def test_where_nothing_is_cached_all_is_compressed(model: str) -> None:
    (result,) = through(conversation([200], model), HALVE)
    assert result.report.saved > 0


def test_a_budget_of_the_callers_goes_first() -> None:
    line = Pipeline(Halve(kinds=KINDS), budget=0.6)
    *_, result = through(conversation([10, 400], "gpt-4.1"), line)
    assert result.report.saved > 0 and result.report.met


def test_what_the_caller_dropped_stays_dropped() -> None:
    said = [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": f"Mind this. <drop>secret</drop> {WORD * 300}"},
    ]
    bodies = [{"model": "gpt-4.1", "messages": said[:until]} for until in (1, 3)]
    *_, result = through(bodies, Pipeline(Halve(kinds=(*KINDS, "question"))))
    assert "secret" not in json.dumps(result.output)


@given(st.dictionaries(st.integers(0, 9), st.integers(1, 99)), st.integers(1, 300))
def test_enough_is_enough(gains: dict[int, int], need: int) -> None:
    chosen = enough(gains, need)
    assert bool(chosen) == (sum(gains.values()) >= need)
    if chosen:
        total = sum(gains[i] for i in chosen)
        assert total >= need
        assert total - max(gains[i] for i in chosen) < need
