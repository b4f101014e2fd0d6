"""JSON written shorter: what comes back, what stays, and what is left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_output import prompt_of, written

from tersely.compressors.json_stage import Json
from tersely.compressors.json_table import tabled, untabled
from tersely.compressors.json_tree import AGAIN, BEGIN, END, number, read, squeezed, write
from tersely.contracts import Context
from tersely.kinds import json_shape
from tersely.middleware.pipeline import compress
from tersely.tokens import counter

NUMBERS = st.sampled_from(("0", "-0", "1", "1.10", "1e400", "-1E+2", "12345678901234567890", "NaN"))
KEYS = st.sampled_from(("id", "name", "a", "b", "é", "", "*", "#", "#absent", "x y", '"', "\\"))
STRINGS = st.one_of(st.text(max_size=8), KEYS, st.just("\ud800"), st.just("left"))

some = settings(max_examples=70)
"""Each text is large: fewer of them."""


class Spelled(str):
    """A JSON text that stands for itself."""


def spelled(value: Any, space: str) -> str:
    """A value as JSON, of pairs instead of objects so that keys may be equal."""
    if isinstance(value, Spelled):
        return value
    if isinstance(value, list):
        return f"[{space}" + f",{space}".join(spelled(one, space) for one in value) + f"{space}]"
    if isinstance(value, tuple):
        pairs = (f"{json.dumps(key)}:{space}{spelled(one, space)}" for key, one in value)
        return "{" + space + f"{space},".join(pairs) + "}"
    return json.dumps(value)


def like(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects of about the same keys, in an array or under keys of their own."""

    def of(names: list[str]) -> st.SearchStrategy[Any]:
        rows = st.tuples(*(st.tuples(st.just(name), inner) for name in names))
        some = rows.flatmap(lambda row: st.sampled_from((row, row, row, row[1:], row[::-1])))
        listed = st.lists(some, min_size=2, max_size=6)
        keyed = st.lists(st.tuples(STRINGS, some), min_size=3, max_size=6).map(tuple)
        return listed | keyed

    return st.lists(KEYS, min_size=1, max_size=4).flatmap(of)


LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS.map(Spelled), STRINGS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(st.tuples(STRINGS, inner), max_size=4).map(tuple),
        like(inner),
    ),
    max_leaves=24,
)
TEXTS = st.tuples(VALUES, st.sampled_from(("", " ", "\n  ", "\r\n\t"))).map(lambda v: spelled(*v))


def exactly(text: str) -> Any:
    """All that a JSON text says: numbers as they are spelled, objects as their pairs."""
    hook = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), lambda t: ("number", t))
    return json.loads(text, object_pairs_hook=lambda pairs: ("object", pairs), **hook)


shrunk = partial(written, Json())


@some
@given(TEXTS)
def test_what_was_read_is_written_as_it_was(text: str) -> None:
    if any(sign in text for sign in (BEGIN, END, AGAIN, "\\ue00")):
        return
    written = write(read(text))
    assert exactly(written) == exactly(text)
    assert len(written) <= len(text)
    written.encode()


@some
@given(TEXTS)
def test_a_table_is_read_back_as_what_it_was_made_of(text: str) -> None:
    value = read(text) if "\\ue00" not in text else None
    table = write(tabled(value))
    back = write(untabled(read(table)))
    assert exactly(back) == exactly(write(value))
    assert json_shape(table) == json_shape(write(value))


@some
@given(TEXTS)
def test_without_a_budget_nothing_is_lost(text: str) -> None:
    made = shrunk(text, None)
    plain = "" if "\\ue00" in text else write(read(text))
    signed = not plain or '"#columns"' in plain or '"#absent"' in plain
    told = made if signed else write(untabled(read(made)))
    assert exactly(told) == exactly(text)
    assert shrunk(made, None) == made


@some
@given(TEXTS, st.sampled_from((0.9, 0.5, 0.1)))
def test_it_stays_json_of_its_type_and_a_second_pass_changes_nothing(
    text: str, share: float
) -> None:
    made = shrunk(text, share)
    assert json_shape(made) == json_shape(text)
    prompt = prompt_of(text)
    context = Context(count=counter("gpt-4o"))
    limited = context.within(int(context.tokens(prompt) * share))
    once = Json()(prompt, limited)
    assert Json()(once, limited) == once
    assert context.tokens(once) <= context.tokens(prompt)


@given(st.text(alphabet='[]{}":,\\ \n1e.-ntx', max_size=60))
def test_what_is_no_json_stays_as_it_is(text: str) -> None:
    made = shrunk(text, 0.3)
    try:
        json.loads(text)
    except ValueError:
        lines = [line for line in text.split("\n") if line.strip()]
        assert made == text or len(lines) > 1
    else:
        assert json_shape(made) == json_shape(text)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('[{"id": 1}, {"id": 2}]', '[{"id":1},{"id":2}]'),
        (
            json.dumps([{"number": i, "status": True} for i in range(4)]),
            '[{"#columns":["number","status"]},[0,true],[1,true],[2,true],[3,true]]',
        ),
        (
            json.dumps({f"k{i}": {"number": i, "status": None} for i in range(4)}),
            '{"#columns":["number","status"],'
            '"k0":[0,null],"k1":[1,null],"k2":[2,null],"k3":[3,null]}',
        ),
        (
            json.dumps([{"name": str(i), "place": {"city": "B", "zip": 1.10}} for i in range(9)]),
            '[{"#columns":["name",{"place":["city","zip"]}]},'
            + ",".join(f'["{i}",["B",1.1]]' for i in range(9))
            + "]",
        ),
        (
            json.dumps([{"order": i, "items": [{"price": 1, "count": 2}] * 2} for i in range(9)]),
            '[{"#columns":["order",{"items":[["price","count"]]}]},'
            + ",".join(f"[{i},[[1,2],[1,2]]]" for i in range(9))
            + "]",
        ),
        (
            '[{"number":1,"status":2}, {"number":1}]',
            '[{"number":1,"status":2},{"number":1}]',
        ),
        ('{"a" : [1.10 , 1e400,-0],"a":"\\u00e9\\ud800"}', '{"a":[1.10,1e400,-0],"a":"é\\ud800"}'),
    ],
)
def test_how_it_is_written(text: str, made: str) -> None:
    assert shrunk(text, None) == made


def test_a_key_that_a_row_lacks_is_told_absent() -> None:
    rows = [{"number": i, "customer_name": "x", "status": "y"} for i in range(20)]
    del rows[7]["customer_name"]
    made = shrunk(json.dumps(rows), None)
    assert '[7,"#absent","y"]' in made
    assert untabled(read(made)) == read(json.dumps(rows))


def test_a_text_with_the_sign_of_a_table_is_not_taken_for_one() -> None:
    text = json.dumps([{"#columns": [1], "other": i} for i in range(9)])
    assert shrunk(text, None) == write(read(text))
    assert shrunk(text, 0.3) == write(read(text))


def orders(many: int) -> list[dict[str, Any]]:
    names = ("Ann Lee", "Bob Ray", "Cy Dow")
    return [
        {"id": f"ORD-{7000 + i}", "customer": names[i % 3], "total": 20.10 + i % 9, "note": None}
        for i in range(many)
    ]


def report(rows: list[Mapping[str, Any]]) -> str:
    return json.dumps({"total": len(rows), "results": rows})


@pytest.mark.parametrize("share", [0.3, 0.05, 0.01])
def test_what_is_named_stays_and_counts_stay_true(share: float) -> None:
    rows = orders(400)
    rows[123]["total"] = 99_000.5
    rows[222]["note"] = "payment refused"
    made = shrunk(report(rows), share, "Where is ORD-7301?", '{"customer_id": "ORD-7055"}')
    told = json.loads(made)
    ids = {row[0] for row in told["results"] if isinstance(row, list)}
    assert {"ORD-7301", "ORD-7055", "ORD-7123", "ORD-7222", "ORD-7000", "ORD-7399"} <= ids
    assert told["total"] == 400
    (mark,) = (row for row in told["results"] if isinstance(row, str))
    assert mark == f"{400 - len(ids)} of 400 left out from here on"


def test_a_name_of_two_words_is_found_in_its_row() -> None:
    rows = [{"id": i, "name": f"person {i}", "city": "Zürich"} for i in range(300)]
    rows[150]["name"] = "Yusuf Rossi"
    assert "Yusuf Rossi" in shrunk(report(rows), 0.05, "Which city does Yusuf Rossi live in?")


def test_a_string_that_is_asked_for_stays_among_hundreds() -> None:
    names = [f"feature-flag-{i:03d}" for i in range(400)]
    made = shrunk(json.dumps(names), 0.05, "Is feature-flag-233 on?")
    kept = json.loads(made)
    assert "feature-flag-233" in kept
    assert f"{401 - len(kept)} of 400 left out from here on" in kept


def test_keyed_objects_lose_entries_and_tell_how_many() -> None:
    items = {f"{9_000_000 + i}": {"price": 12.5, "colour": "red"} for i in range(200)}
    made = json.loads(shrunk(json.dumps(items), 0.1, "What is 9000077?"))
    assert made["9000077"] == [12.5, "red"]
    assert made["#left out"] == f"{200 - (len(made) - 2)} of 200 left out from here on"


def test_settings_of_different_make_lose_none() -> None:
    config = {name: {name: name * 40, "port": i} for i, name in enumerate("abcdefgh")}
    assert json.loads(shrunk(json.dumps(config), 0.1)) == config


def test_long_strings_lose_their_middle_but_not_what_is_asked() -> None:
    page = "All is as ever. " * 50 + "The password of the vault is swordfish. " + "So it is. " * 50
    made = json.loads(shrunk(json.dumps({"page": page, "id": 7}), 0.3, "vault password?"))
    assert "swordfish" in made["page"]
    assert "characters left out]" in made["page"]
    assert made["id"] == 7


def test_lines_of_json_are_a_table_too() -> None:
    rows = orders(50)
    text = "\n".join(map(json.dumps, rows)) + "\n"
    made = shrunk(text, None)
    head, *rest = made.split("\n")
    assert json.loads(head) == {"#columns": ["id", "customer", "total", "note"]}
    assert [dict(zip(rows[0], json.loads(line), strict=True)) for line in rest] == rows
    less = shrunk(text, 0.2, "And ORD-7033?").split("\n")
    assert any("ORD-7033" in line for line in less)
    assert f'"{52 - len(less)} of 50 left out from here on"' in less


def test_lossless_means_it() -> None:
    text = report(orders(100))
    prompt = prompt_of(text)
    context = Context(count=counter("gpt-4o"), limit=10)
    made = Json(lossless=True)(prompt, context).segments[1].text
    assert untabled(read(made)) == read(text)


def test_objects_stay_objects_without_tables() -> None:
    rows = orders(20)
    prompt = prompt_of(json.dumps(rows, indent=2))
    made = Json(tables=False)(prompt, Context(count=counter("gpt-4o"))).segments[1].text
    assert made == json.dumps(rows, separators=(",", ":"))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 3000 + "]" * 3000,
        "[" * 3000,
        ('{"a": [' * 3000) + "1" + ("] }" * 3000),
        "[" * 3000 + '"' + '\\"' * 50_000,
        '{"a": "' + "x y " * 250_000 + '"}',
        "[" + "1, " * 50_000 + "1]",
        "[" * 3000 + " " * 200_000 + "]" * 3000,
        json.dumps([{f"k{i}": i for i in range(20_000)}] * 2),
        json.dumps([{f"k{i}": i for i in range(9000)}] * 2 + [{f"x{i}": 1} for i in range(9000)]),
        '{"a":1}\n{"b":',
        '{"a": 1}}',
        '{"a": \ue000}',
        '{"a": "\\uE001"}',
        "{'a': None}",
        "[1 2]",
        '{"n": ' + "9" * 5000 + "}",
    ],
    ids=range(16),
)
def test_hostile_json_passes(text: str) -> None:
    made = shrunk(text, 0.5)
    assert json_shape(made) == json_shape(text)
    assert len(made) <= len(text)


def test_white_space_in_strings_stays_at_any_depth() -> None:
    text = "[ " * 2000 + '"a  b \\" [ ] "' + " ]" * 2000
    assert squeezed(text) == "[" * 2000 + '"a  b \\" [ ] "' + "]" * 2000


def test_a_number_knows_its_text() -> None:
    assert number(read("1e400")) == "1e400"
    assert number(read('"1e400"')) is None


def test_a_pipeline_with_it_keeps_the_request_whole() -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "orders", "arguments": '{"of": "ORD-7042"}'},
    }
    request = {
        "model": "gpt-4o",
        "messages": [
            {"role": "user", "content": "Check this order, please."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": report(orders(200))},
        ],
    }
    before = json.dumps(request)
    result = compress(request, "json", budget=0.1)
    assert json.dumps(request) == before
    assert result.output["messages"][:2] == request["messages"][:2]
    assert "ORD-7042" in result.output["messages"][2]["content"]
    assert json.loads(result.output["messages"][2]["content"])["total"] == 200
    (decision,) = (one for one in result.report.decisions if one.stage == "json")
    assert decision.action == "compressed"
