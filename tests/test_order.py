"""Documents in another order: only when asked for, only within one text, and none torn apart."""

from __future__ import annotations

import re
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tersely
from tersely.contracts import Context
from tersely.errors import ConfigError
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline
from tersely.order import Order, documents_to_move, seats
from tersely.prompt import Prompt, Segment
from tersely.registry import stage
from tersely.tokens import counter
from tersely.units import split

ORDERS: tuple[Order, ...] = ("kept", "best_first", "best_last", "edges")
MOVING = pytest.mark.parametrize("order", [order for order in ORDERS if order != "kept"])

QUESTION = "How many litres does the green kettle hold?"
DOCUMENTS = [
    "The red bicycle stands in the hall. It was never sold to anyone in town.",
    "The green teapot is of clay. It was bought in a small shop in Graz.",
    "The green kettle is new. It holds 1.7 litres when it is filled to the brim.",
    "The garden lies behind the house. Nobody has been there for many years now.",
]
BY_WORTH = [2, 1, 0, 3]

WORDS = [
    *("The kettle holds 1.7 litres.", "It is blue.", "Who asked?", "東京の天気は晴れです。"),
    *("שלום עולם.", "👍🏽", "e\u0301", "word", "\n", "\n\n", "\n\n    ", " \n \n", "a\r\n\r\nb"),
    *("```\nx = 1\n\ny = 2\n```", "# Head", "\n\n# Head\n\n", "Title\n\n", "- item\n", "```"),
]
LONG = st.lists(st.sampled_from(WORDS), min_size=15, max_size=60).map(" ".join)


def pruned(text: Any, order: str, budget: float = 0.8, **more: Any) -> Result:
    recipe = stage("lexical", order=order, fill=None, **more)
    return Pipeline([recipe], budget=budget, strict=True).run(text, question=QUESTION)


def found(text: str) -> list[int]:
    """Which documents a text holds something of, in its order."""
    keys = ("bicycle", "teapot", "kettle", "garden")
    places = {text.find(key): i for i, key in enumerate(keys) if key in text}
    return [places[at] for at in sorted(places)]


def test_seats() -> None:
    worth = np.array([1.0, 5.0, 3.0, 4.0, 2.0])
    free = np.zeros(5, np.bool_)
    assert seats(worth, free, "kept").tolist() == [0, 1, 2, 3, 4]
    assert seats(worth, free, "best_first").tolist() == [1, 3, 2, 4, 0]
    assert seats(worth, free, "best_last").tolist() == [0, 4, 2, 3, 1]
    assert seats(worth, free, "edges").tolist() == [1, 2, 0, 4, 3]


def test_equals_stay_in_order_and_the_fixed_at_their_places() -> None:
    free = np.array([False, True, False, False])
    assert seats(np.ones(4), free, "best_first").tolist() == [0, 1, 2, 3]
    assert seats(np.ones(4), free, "best_last").tolist() == [0, 1, 2, 3]
    assert seats(np.array([1.0, 9.0, 2.0, 3.0]), free, "best_first").tolist() == [3, 1, 2, 0]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12), st.sampled_from(ORDERS))
def test_every_document_has_one_seat(rows: list[tuple[int, bool]], order: Order) -> None:
    worth = np.array([worth for worth, _ in rows], np.float64)
    stays = np.array([stay for _, stay in rows], np.bool_)
    taken = seats(worth, stays, order)
    assert sorted(taken.tolist()) == list(range(len(rows)))
    assert (taken[stays] == np.flatnonzero(stays)).all()
    if order == "edges":  # from both ends inward it only gets worse
        there = worth[taken[~stays]].tolist()
        for i in range((len(there) - 1) // 2):
            assert min(there[i], there[-1 - i]) >= max(there[i + 1 : -1 - i], default=-1)


@pytest.mark.parametrize("places", list(permutations(range(4)))[::5])
def test_the_best_document_goes_where_it_was_asked_for(places: tuple[int, ...]) -> None:
    text = "\n\n".join(DOCUMENTS[i] for i in places)
    kept = [i for i in places if i in found(pruned(text, "kept").output)]
    assert found(pruned(text, "kept").output) == kept
    best_first = found(pruned(text, "best_first").output)
    assert sorted(best_first) == sorted(kept)
    assert best_first[0] == BY_WORTH[0]
    assert found(pruned(text, "best_last").output)[-1] == BY_WORTH[0]
    edges = found(pruned(text, "edges").output)
    assert edges[0] == best_first[0]
    assert edges[-1] == best_first[1]


@MOVING
def test_blank_lines_and_indentation(order: str) -> None:
    one, two, three, four = DOCUMENTS
    text = f"  {one}\n\n\n{two}\n \n    {three}\n\n{four}\n"
    made = pruned(text, order, 0.85).output
    assert made != pruned(text, "kept", 0.85).output
    assert re.search(r"^    The green kettle", made, re.MULTILINE)
    gaps = re.compile(r"\n\s*\n")
    kept = pruned(text, "kept", 0.85).output
    assert sorted(map(str.strip, gaps.split(made))) == sorted(map(str.strip, gaps.split(kept)))
    blank = [gap.rstrip(" ") for gap in gaps.findall(kept)]
    assert [gap.rstrip(" ") for gap in gaps.findall(made)] == blank
    assert made.endswith("\n")


@MOVING
def test_marked_documents_stay(order: str) -> None:
    texts = [f"<keep>{DOCUMENTS[0]}</keep>", *DOCUMENTS[1:3], f"<keep>{DOCUMENTS[3]}</keep>"]
    made = pruned("\n\n".join(texts), order, 0.9).output
    assert made.startswith(DOCUMENTS[0])
    assert made.endswith(DOCUMENTS[3])


@MOVING
def test_nothing_leaves_its_text(order: str) -> None:
    texts = ["\n\n".join(DOCUMENTS[:2]), "\n\n".join(DOCUMENTS[2:])]
    made = pruned(texts, order, 0.8)
    assert [set(found(text)) <= {0, 1} for text in made.output] == [True, False]
    assert set(found(made.output[1])) <= {2, 3}


@MOVING
def test_within_the_budget_nothing_moves(order: str) -> None:
    text = "\n\n".join(DOCUMENTS)
    assert pruned(text, order, 1.0).output == text


def documents(text: str) -> list[str]:
    return documents_to_move(split(text, "sentence")).texts


def test_what_is_moved_as_one() -> None:
    code = "```py\nx = 1\n\ny = 2\n```"
    assert documents(f"One.\n\n{code}\n\nTwo.") == ["One.", code, "Two."]
    assert documents("The kettle\n\nIt is blue.\n\nIt is new.") == [
        "The kettle\n\nIt is blue.",
        "It is new.",
    ]
    assert documents("# A\n\nOne.\n\nTwo.\n\n# B\nThree.") == ["# A\n\nOne.\n\nTwo.", "# B\nThree."]
    assert documents("Title\nIt is blue.\n\nNo.") == ["Title\nIt is blue.", "No."]
    assert documents("apple\n\npear\n\nplum") == ["apple", "pear", "plum"]
    assert documents("") == []
    phrases = split("one two\n\nthree four\n\nfive. Six", "phrase")
    assert len(documents_to_move(phrases)) < 3


@given(text=LONG, order=st.sampled_from(ORDERS), ratio=st.sampled_from([0.3, 0.6, 0.9]))
@settings(max_examples=40)
def test_what_is_written_is_what_would_be_in_order(text: str, order: Order, ratio: float) -> None:
    prompt = Prompt((Segment(text=text),), question=QUESTION)
    context = Context(count=counter("gpt-4o"))
    context = context.within(int(context.tokens(prompt) * ratio))
    for unit in ("sentence", "phrase"):
        made = stage("lexical", unit=unit, order=order)(prompt, context)
        assert context.tokens(made) <= (context.limit or 0) or made == prompt
        segment = made.segments[0]
        if made == prompt:
            continue
        assert segment.origins is not None
        pieces = [text[start : start + n] for _, start, n in segment.origins]
        there = [segment.text[at : at + n] for at, _, n in segment.origins]
        assert pieces == there
        ordered = sorted(segment.origins, key=lambda run: run[1])
        assert all(a[1] + a[2] <= b[1] for a, b in pairwise(ordered))
        assert order != "kept" or ordered == list(segment.origins)
        solid = "".join(segment.text.split())
        assert len(solid) == sum(len("".join(piece.split())) for piece in pieces) or solid == "…"


@given(text=LONG, order=st.sampled_from(ORDERS[1:]))
@settings(max_examples=40)
def test_code_blocks_stay_whole(text: str, order: Order) -> None:
    block = "```py\nvalue = 1\n\n\nother = value\n```"
    text = f"{text.replace('```', '')}\n\n{block}\n\n{DOCUMENTS[1]}\n\n{DOCUMENTS[2]}"
    made = pruned(text, order, 0.7).output
    assert block in made or "other = value" not in made


@MOVING
def test_the_page_is_drawn(order: str) -> None:
    page = pruned("\n\n".join(DOCUMENTS[::-1]), order).html()
    assert "<del>" in page
    assert "1.7 litres" in page


@MOVING
def test_a_second_stage_reads_the_new_order(order: str) -> None:
    text = "\n\n".join(DOCUMENTS)
    stages = [stage("lexical", order=order), stage("random", unit="token")]
    result = Pipeline(stages, budget=0.6).run(text, question=QUESTION)
    for origin in result.provenance:
        assert result.output[slice(*origin.output)] == text[slice(*origin.source)]


def test_an_order_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="order"):
        stage("lexical", order="best")


def test_it_can_be_written_as_yaml() -> None:
    pipeline = tersely.Pipeline([{"truncate": {"order": "edges"}}])
    assert Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
