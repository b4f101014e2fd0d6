"""How the benchmark of agents tells facts, and whether a request is still valid."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.agents_facts import (
    Said,
    anthropic,
    broken_pairs,
    facts_of,
    holds,
    needed,
    spoilt,
    texts_of,
)
from benchmarks.agents_hostile import MALFORMED, NESTED, power, request
from benchmarks.agents_methods import by_pipeline, cases_of, in_sum, judged, turn_by_turn, within
from benchmarks.agents_sets import Talk, called
from benchmarks.agents_shop import exchange
from tersely.compressors.json_table import tabled
from tersely.compressors.json_tree import read, write
from tersely.middleware.pipeline import pipeline_of

ORDERS = json.dumps([{"id": f"ORD-{i}", "user": f"ann_{i}", "total": i * 7.5} for i in range(40)])


def called_for(name: str, number: int, given: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(given)}
    call = {"id": f"call_{number}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def talk() -> Talk:
    said = (
        {"role": "system", "content": "You help a shop."},
        {"role": "user", "content": "Refund ORD-17."},
        called_for("orders", 0, {"page": 1}),
        {"role": "tool", "tool_call_id": "call_0", "content": ORDERS},
        called_for("refund", 1, {"id": "ORD-17", "user": "ann_17", "path": "/tmp/a.txt"}),
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
        {"role": "assistant", "content": "It is done."},
    )
    return Talk("made", "one", said, called(said), held_out=False)


def test_facts_are_the_ids_numbers_paths_and_single_words_that_calls_are_made_of() -> None:
    given = {"id": "ORD-17", "n": 1250, "at": ["/tmp/a.txt", "JFK"], "why": "it is late", "x": 7}
    assert facts_of([json.dumps(given)]) == {"ORD-17", "1250", "/tmp/a.txt", "JFK"}
    assert facts_of(["cat src/app.py"]) == {"src/app.py"}


def test_a_fact_stands_as_a_whole_letter_by_letter() -> None:
    assert holds("see ORD-17.", "ORD-17") and holds('["ORD-17"]', "ORD-17")
    assert not holds("see ORD-171", "ORD-17") and not holds("see ord-17", "ORD-17")
    assert holds("171 and 17", "17")


@given(st.text(max_size=40), st.text(alphabet="ab1", min_size=1, max_size=3))
def test_what_is_held_is_there(text: str, fact: str) -> None:
    assert not holds(text, fact) or fact in text
    assert holds(f"{text} {fact} {text}", fact)


def test_a_fact_is_found_in_tables_as_we_write_them_and_in_json_in_json() -> None:
    table = write(tabled(read(ORDERS)))
    inner = json.dumps({"text": json.dumps({"path": 'C:\\x "1"', "id": "é-1"})})
    for text, fact in ((table, "ann_39"), (table, "292.5"), (inner, "é-1")):
        assert Said.by([{"role": "tool", "content": text}]).holds(fact)


def test_needed_is_what_later_calls_use_and_the_request_holds() -> None:
    facts, given = needed(talk(), 4)
    assert facts == {"ORD-17", "ann_17"}
    assert given == {"ann_17"}
    assert needed(talk(), 6) == (set(), set())


def test_pairs_that_are_broken_are_counted_in_both_formats() -> None:
    whole = talk().request(6)
    for form in (whole, anthropic(whole)):
        said = form["messages"]
        assert broken_pairs(said) == 0
    said = whole["messages"]
    assert broken_pairs(said[:3] + said[4:]) == 1
    assert broken_pairs(said[:4] + said[5:]) == 1
    assert broken_pairs(said[:3] + said[4:5] + said[3:4] + said[5:]) == 2
    blocks = anthropic(whole)["messages"]
    assert broken_pairs(blocks[:2] + blocks[3:]) == 1
    assert broken_pairs(blocks[:1] + blocks[2:]) == 1


def test_the_other_format_says_the_same() -> None:
    whole = talk().request(6)
    other = anthropic(whole)
    assert other["system"] == "You help a shop."
    said = [text for _, text in texts_of(other["messages"])]
    assert said == [text for _, text in texts_of(whole["messages"][1:]) if text]


def test_json_that_is_none_any_more_is_counted() -> None:
    before = talk().request(6)["messages"]
    for text, bad in ((ORDERS[:90], 1), ('"' + "x" * 90 + '"', 1), ("[]", 0)):
        after = [one | {"content": text} if one["role"] == "tool" else one for one in before]
        assert spoilt(before, after) == (bad, 1)
    assert spoilt(before, before[:3]) == (0, 0)


def test_requests_are_new_objects_each_time() -> None:
    one = talk()
    one.request(4)["messages"][3]["content"] = "gone"
    assert one.request(4)["messages"][3]["content"] == ORDERS


@pytest.mark.parametrize("form", ["openai", "anthropic"])
def test_ours_is_judged_with_nothing_lost_and_nothing_broken(form: str) -> None:
    cases = cases_of([talk()], form)
    assert judged(cases[0], cases[0].request["messages"], 0.0).lost == []
    (made, *_) = by_pipeline(cases, lambda _: pipeline_of("default"))
    assert made.facts == len(made.case.facts) == 2 and made.given == 1
    assert (made.broken, made.spoilt, made.shaped) == (0, 0, 1)
    assert (made.mutated, made.unstable, made.error) == (False, False, "")
    assert made.after < made.before


def test_turn_by_turn_a_text_goes_out_as_it_did() -> None:
    made = list(turn_by_turn(cases_of([talk()]), "bold"))
    assert [one.case.at for one in made] == [4, 6]
    assert all(one.facts == len(one.case.facts) for one in made)


def test_others_tokens_are_met_each_or_in_sum() -> None:
    cases = cases_of([talk()])
    theirs = [judged(case, case.request["messages"][:3], 0.0) for case in cases]
    theirs[0].after = theirs[0].before // 2
    ours = list(by_pipeline(cases, within(theirs)))
    assert ours[0].after <= theirs[0].after
    theirs[1].after = theirs[1].before
    assert list(in_sum(theirs, ours)) == ours
    theirs[1].after = 1
    lowered = list(in_sum(theirs, ours))
    assert sum(one.after for one in lowered) < sum(one.after for one in ours)


def test_what_a_visit_to_the_shop_uses_stands_in_what_its_tools_gave() -> None:
    items = {
        f"{i}": {"item_id": f"{i}", "available": True, "options": {"size": f"{i}"}}
        for i in (11, 12)
    }
    order = {"order_id": "#W1", "user_id": "ann_1", "status": "delivered"}
    order["items"] = [{"name": "Lamp", "product_id": "900", "item_id": "11"}]  # type: ignore[assignment]
    user = {
        "user_id": "ann_1",
        "name": {"first_name": "Ann", "last_name": "Lee"},
        "address": {"zip": "80298"},
        "payment_methods": {"paypal_1": {}},
    }
    tables = {"users": {"ann_1": user}, "products": {"900": {"variants": items}}}
    asked, *calls = exchange(tables, order, random.Random(1))
    assert "Lamp" in asked and "size 12" in asked
    given = "".join(answer for _, _, answer in calls[:-1])
    last = calls[-1][1]
    assert all(one in given for one in (last["new_item_ids"][0], last["payment_method_id"]))


def test_linear_time_has_the_power_one() -> None:
    assert power([1, 2, 4], [0.1, 0.2, 0.4]) == pytest.approx(1)
    assert power([1, 2, 4], [0.1, 0.4, 1.6]) == pytest.approx(2)


@pytest.mark.parametrize("name", ["default", "bold"])
@pytest.mark.parametrize(
    "text", [*MALFORMED.values(), *(make(3000) for make in NESTED.values())], ids=lambda _: ""
)
def test_hostile_answers_pass_and_pairs_stay(name: str, text: str) -> None:
    body = request(text)
    result = pipeline_of(name).run(body)
    assert not broken_pairs(result.output["messages"])
    assert body == request(text)
    assert not [note for note in result.report.notes if "failed" in note and "Time" not in note]
