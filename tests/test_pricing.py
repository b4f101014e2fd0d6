"""Every report tells what its prompt costs, with what the provider's cache reads and writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tersely.middleware import render
from tersely.middleware.audit import audited
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.scope import Override
from tersely.report import Report

JSON = dict[str, Any]
ROWS = json.dumps([{"id": i, "state": "sent", "on": True} for i in range(150)], indent=1)


def bodies(number: int, model: str = "gpt-4.1") -> list[JSON]:
    said: list[JSON] = [{"role": "user", "content": "Which orders are late?"}]
    made = []
    for t in range(number):
        function = {"name": "orders", "arguments": "{}"}
        call = {"id": f"c{t}", "type": "function", "function": function}
        said = [
            *said,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{t}", "content": ROWS.replace("sent", f"s{t}")},
        ]
        made.append({"model": model, "messages": said})
    return made


def reports(pipeline: Pipeline, number: int = 3, **how: Any) -> list[Report]:
    return [pipeline.run(body, **how).report for body in bodies(number)]


def test_costs_add_up_to_those_of_a_log() -> None:
    costs = [report.cost for report in reports(Pipeline("json"))]
    (one,) = audited(bodies(3), Pipeline("json")).models
    assert all(costs)
    assert sum(c.before for c in costs if c) == pytest.approx(one.plain.cost)
    assert sum(c.after for c in costs if c) == pytest.approx(one.tersely.cost)
    assert sum(c.listed_before for c in costs if c) == pytest.approx(one.plain.listed)
    assert sum(c.saved for c in costs if c) > 0


def test_the_first_request_finds_no_cache_and_later_ones_do() -> None:
    first, *later = (report.cost for report in reports(Pipeline("json")))
    assert first and first.before == first.listed_before
    assert all(cost and cost.before < cost.listed_before for cost in later)


def test_tokens_are_those_of_the_report() -> None:
    for report in reports(Pipeline("json")):
        assert report.cost is not None
        assert report.cost.listed_before == pytest.approx(report.before * 2 / 1e6)
        assert report.cost.listed_after == pytest.approx(report.after * 2 / 1e6)


def test_what_would_be_is_priced_as_well() -> None:
    told = reports(Pipeline("json"), wishes=Override(mode="audit"))
    assert all(report.cost and report.cost.saved > 0 for report in told)


def test_a_model_without_a_price_has_no_cost() -> None:
    (body,) = bodies(1, "mine")
    assert Pipeline("json").run(body).report.cost is None
    assert Pipeline([]).run("a text").report.cost is None


def test_the_table_shows_it() -> None:
    (report,) = reports(Pipeline("json"), 1)
    assert "with the prompt cache" in " ".join(render.text(report, width=300).split())
