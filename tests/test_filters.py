"""Filters: what they mean, and that SQLite's help never changes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from little_embedder import Hashing

from tersely.errors import RequestError
from tersely.rag import FaissStore
from tersely.rag.filters import ROOM, Filters, checked, matches

KEYS = st.sampled_from(["a", "b", "source", 'quo"te', "d.o.t", "é", "$"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**63 + 1, -(2**70), 0.5, 1.0, float("nan"), float("inf"), 1e-320]),
    st.sampled_from(["", "a", "b", "1", "A", "é", "\x00", "\ud800", "😀", 'x"y', "true"]),
    st.lists(st.integers(0, 2), max_size=2),
    st.fixed_dictionaries({"in": st.integers(0, 1)}),
)
METADATA = st.dictionaries(KEYS, VALUES, max_size=4)
CONDITIONS = st.one_of(
    VALUES,
    st.dictionaries(
        st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), VALUES, min_size=1
    ),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=3), min_size=1),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
FILTERS = st.recursive(
    st.dictionaries(KEYS.filter(lambda key: key != "$"), CONDITIONS, min_size=1, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=3,
)


@pytest.mark.parametrize(
    ("wanted", "is_so"),
    [
        ({"year": 2020}, True),
        ({"year": 2020.0}, True),
        ({"year": "2020"}, False),
        ({"draft": False}, True),
        ({"draft": 0}, False),
        ({"year": {"$gte": 2020}, "name": {"$lt": "b"}}, True),
        ({"year": {"$gt": 2020}}, False),
        ({"name": {"$gt": 1}}, False),
        ({"draft": {"$lt": 1}}, False),
        ({"year": {"$in": [1, 2020]}}, True),
        ({"year": {"$nin": [1, 2020]}}, False),
        ({"year": {"$ne": 1, "$lte": 2021}}, True),
        ({"nothing": None}, True),
        ({"missing": None}, True),
        ({"nothing": {"$exists": True}, "missing": {"$exists": False}}, True),
        ({"tags": ["x", "y"]}, True),
        ({"tags": ["x"]}, False),
        ({"inner": {"k": 1}}, True),
        ({"$or": [{"year": 1}, {"name": "a"}]}, True),
        ({"$and": [{"year": 1}, {"name": "a"}]}, False),
        ({"$not": {"year": 1}}, True),
        (lambda metadata: metadata["year"] > 2000, True),
    ],
)
def test_what_a_filter_means(wanted: Any, is_so: bool) -> None:
    metadata = {"year": 2020, "name": "a", "draft": False, "nothing": None}
    assert matches(wanted, {**metadata, "tags": ["x", "y"], "inner": {"k": 1}}) is is_so


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("year = 1", "a mapping or a function"),
        ({"$nor": []}, r"no operator '\$nor'"),
        ({"year": {"$like": 1}}, r"year: no operator '\$like'.*\$eq"),
        ({"year": {"$in": "2020"}}, r"\$in takes a list of values, was '2020'"),
        ({"$or": {}}, r"\$or takes a list"),
        ({"$or": []}, r"\$or takes a list"),
        ({"$and": [{"a": {"$x": 1}}]}, r"a: no operator"),
        ({"$not": 3}, "a mapping or a function"),
        ({3: 1}, "no operator 3"),
    ],
)
def test_a_filter_that_is_none(wanted: Any, told: str) -> None:
    with pytest.raises(RequestError, match=told):
        checked(wanted)


def test_no_filter() -> None:
    assert checked(None) is None and checked({}) is None


@settings(max_examples=40)
@given(st.lists(METADATA, min_size=1, max_size=8), st.lists(FILTERS, min_size=1, max_size=4))
def test_every_search_sees_what_the_filter_allows(
    metadatas: list[dict[str, Any]], filters: list[Mapping[str, Any]]
) -> None:
    store = FaissStore(embedder=Hashing(8))
    ids = [str(i) for i in range(len(metadatas))]
    store.add_texts([f"kettle {i}" for i in ids], metadatas, ids=ids)
    kept = {one.id: one.metadata for one in store.get_by_ids(ids)}
    for wanted in [*filters, *filters]:  # the second time it is remembered
        right = {name for name in ids if matches(wanted, kept[name])}
        vector = np.ones(8)
        assert {name for name, _ in store.dense(vector, 99, wanted)} == right
        assert {name for name, _ in store.lexical("kettle", 99, wanted)} == right
    more = [f"more {name}" for name in ids]
    store.add_texts([f"kettle {i}" for i in more], metadatas, ids=more)
    store.delete(ids[:1])
    right |= {f"more {name}" for name in right}
    assert {name for name, _ in store.dense(vector, 99, filters[-1])} == right - {ids[0]}


def test_only_new_rows_are_asked_again() -> None:
    store = FaissStore()
    store.add_texts([f"kettle {i}" for i in range(10)], [{"n": i} for i in range(10)])
    filters = Filters()
    with store.reading() as now:
        rows = filters.rows(now.connection, {"n": {"$gte": 7}})
        assert filters.rows(now.connection, {"n": {"$gte": 7}}) is rows
    assert len(rows) == 3


def test_functions_are_asked_every_time() -> None:
    store = FaissStore()
    store.add_texts(["kettle"], [{"n": 1}])
    limits = [0, 5]
    found = [store.lexical("kettle", 1, lambda metadata: metadata["n"] > limits[0])]
    limits[0] = 5
    found.append(store.lexical("kettle", 1, lambda metadata: metadata["n"] > limits[0]))
    assert [len(one) for one in found] == [1, 0]


def test_what_is_remembered_is_bounded() -> None:
    filters = Filters()
    for i in range(6):
        filters._remember(str(i), 1, np.zeros(ROOM // 4, np.int64))
    assert list(filters._known) == ["2", "3", "4", "5"]
