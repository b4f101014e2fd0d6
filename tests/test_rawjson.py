"""JSON texts in which single values change and every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.errors import RequestError
from tersely.middleware.rawjson import differences, parse, patched
from tersely.prompt import Path

NUMBERS = st.sampled_from(
    ["1.10", "1e400", "-0", "1E+2", "0.1e-7", "9" * 5000, "12", "true", "null"]
)
SPACE = st.text(" \t\r\n", max_size=2)
STRINGS = st.builds(
    lambda text, ascii: json.dumps(text, ensure_ascii=ascii),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.booleans(),
) | st.sampled_from([r'"\ud800"', r'"\u00e9\/"', '"\u2028"', '"a\u0085b"'])


def padded(inner: str, before: str, after: str) -> str:
    return before + inner + after


def containers(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    values = st.builds(padded, children, SPACE, SPACE)
    keys = st.builds(padded, STRINGS, SPACE, SPACE)
    members = st.builds("{}:{}".format, keys, values)
    arrays = st.lists(values, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
    return arrays | st.lists(members, max_size=3).map(lambda parts: f"{{{','.join(parts)}}}")


TEXTS = st.builds(padded, st.recursive(NUMBERS | STRINGS, containers, max_leaves=8), SPACE, SPACE)
"""JSON as others spell it: any spacing and escapes, equal keys, numbers of every kind."""


def literal(text: str) -> Any:
    """A JSON text with its numbers as spelled and its equal keys side by side."""
    return json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=tuple)


def strings(tree: Any, path: Path = ()) -> list[tuple[Path, str]]:
    """Every string in a tree and where it lies."""
    if isinstance(tree, str):
        return [(path, tree)]
    inner = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    return [found for step, value in inner for found in strings(value, (*path, step))]


@given(TEXTS)
def test_nothing_to_change_changes_nothing(text: str) -> None:
    assert patched(text, {}) == text


@given(TEXTS, st.data())
def test_only_the_values_named_change(text: str, data: st.DataObject) -> None:
    found = strings(parse(text))
    chosen = data.draw(st.lists(st.sampled_from(found), max_size=3)) if found else []
    edits = {path: data.draw(st.text(max_size=6)) for path, _ in chosen}
    made = patched(text, edits)
    assert dict(strings(parse(made))) == dict(found) | edits
    assert made.encode()
    back = patched(made, dict(chosen))
    assert literal(back) == literal(text)


@given(TEXTS.filter(lambda text: text.strip().startswith("{")))
def test_a_column_is_added_once(text: str) -> None:
    made = patched(text, {("tersely",): {"before": 1}})
    end = len(text.rstrip()) - 1
    assert made.startswith(text[:end])
    assert made.endswith(text[end:])
    assert literal(made)[:-1] == literal(text)
    assert parse(made)["tersely"] == {"before": 1}
    assert parse(patched(made, {("tersely",): 2})) == parse(text) | {"tersely": 2}


@pytest.mark.parametrize(
    ("text", "edits", "made"),
    [
        ('{"a": 1.10, "b": "x"}', {("b",): "y"}, '{"a": 1.10, "b": "y"}'),
        ('{"b":"x","b":"z"}', {("b",): "y"}, '{"b":"x","b":"y"}'),
        ('{"b": "x"}', {("b",): "é"}, '{"b": "\\u00e9"}'),
        ('{"b": "ü"}', {("b",): "é"}, '{"b": "é"}'),
        ('{"b": "ü"}', {("b",): "\ud800"}, '{"b": "\\ud800"}'),
        ('{"m": [{"c": "x"}, {"c": "y"}]}', {("m", 1, "c"): ""}, '{"m": [{"c": "x"}, {"c": ""}]}'),
        ("{ }\t", {("a",): 1}, '{ "a": 1}\t'),
        ('{"\\u0061": "x"}', {("a",): "y"}, '{"\\u0061": "y"}'),
        ('"x"', {(): "y"}, '"y"'),
    ],
)
def test_single_edits(text: str, edits: dict[Path, Any], made: str) -> None:
    assert patched(text, edits) == made


def test_what_differs_between_two_trees() -> None:
    before = {"a": "x", "m": [{"c": "y", "n": 1}, "z"]}
    after = {"a": "x", "m": [{"c": "", "n": 1}, "w"]}
    assert dict(differences(before, after)) == {("m", 0, "c"): "", ("m", 1): "w"}


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", '"a" "b"', "\ufeff{}", "{}\x00", "[1,]"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(RequestError, match="not JSON"):
        parse(text)


def test_nesting_beyond_all_measure() -> None:
    with pytest.raises(RequestError, match="nested too deep"):
        parse("[" * 100_000 + "]" * 100_000)


rows = st.lists(st.integers() | st.floats(allow_nan=False) | st.text(max_size=5), max_size=6)


@given(rows, st.data())
def test_a_list_with_other_rows_keeps_the_bytes_of_those_that_stay(
    before: list[Any], data: st.DataObject
) -> None:
    boxed = [[row] for row in before]
    places = data.draw(st.lists(st.integers(0, max(len(before) - 1, 0)), max_size=4))
    after = [*(boxed[i] for i in places if boxed), ["new é"]]
    text = json.dumps({"a": 1, "rows": boxed}, indent=1)
    edits = dict(differences({"a": 1, "rows": boxed}, {"a": 1, "rows": after}))
    assert json.loads(patched(text, edits)) == {"a": 1, "rows": after}


def test_rows_that_stay_are_not_respelled() -> None:
    text = '{"rows": [ {"n": 1.10}, {"n":  2e0}, {"n": 3} ], "x": 1.0}'
    before = parse(text)
    after = {**before, "rows": [before["rows"][1], {"n": "new"}]}
    edits = dict(differences(before, after))
    assert patched(text, edits) == '{"rows": [{"n":  2e0}, {"n": "new"}], "x": 1.0}'


def test_an_object_with_other_keys_is_written_anew() -> None:
    text = '{"rows": [{"a": 1.10}, {"b": 2.0}]}'
    before = parse(text)
    after = {"rows": [before["rows"][0], {"c": 3}]}
    edits = dict(differences(before, after))
    assert patched(text, edits) == '{"rows": [{"a": 1.10}, {"c": 3}]}'
