"""Packing is exact: never over the limit, near it, forced units kept, and the same every time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.contracts import Context
from tersely.prompt import Prompt, Segment
from tersely.select import FORCED, MARK, Part, pack
from tersely.tokens import Counter, counter
from tersely.units import Unit, split

WORDS = st.lists(st.sampled_from(["alpha", "be", "gamma!", "1,000", "日本", "x"]), max_size=40)


def by_word(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


PLAIN = Counter("words", True, 0, by_word)
"""A counter under which costs add up, so that what must come out is known."""


def weighed(
    text: str, unit: Unit = "word", *, values: Sequence[float] = (), forced: Sequence[int] = ()
) -> Part:
    units = split(text, unit)
    ranks = np.zeros(len(units), np.int64)
    ranks[list(forced)] = FORCED
    worth = np.array(values or -np.arange(len(units)), np.float64)
    return Part(units=units, values=worth, ranks=ranks)


def packed(texts: Sequence[str], limit: int, **parts: Part) -> list[str]:
    prompt = Prompt(tuple(Segment(text=text, path=(i,)) for i, text in enumerate(texts)))
    chosen = {int(name[1:]): part for name, part in parts.items()}
    made = pack(prompt, chosen, Context(count=PLAIN, limit=limit))
    return [segment.text for segment in made.segments]


def test_the_best_units_are_kept() -> None:
    text = "a b c d e"
    assert packed([text], 2, p0=weighed(text, values=[1, 5, 2, 4, 3])) == ["b d"]


def test_texts_compete_for_one_budget() -> None:
    first, second = weighed("a b", values=[1, 4]), weighed("c d", values=[3, 2])
    assert packed(["a b", "c d"], 3, p0=first, p1=second) == ["b", "c d"]


def test_forced_units_go_before_better_ones() -> None:
    part = weighed("a b c d", values=[9, 8, 7, 0], forced=[3])
    assert packed(["a b c d"], 2, p0=part) == ["a d"]


def test_forced_units_are_kept_even_over_budget() -> None:
    part = weighed("a b c", forced=[0, 1, 2])
    assert packed(["a b c", "d"], 1, p0=part, p1=weighed("d")) == ["a b c", "d"]


def test_a_unit_that_does_not_fit_is_passed_over() -> None:
    text = "one. two three four. five."
    part = weighed("One. Two three four. Five.", "sentence", values=[3, 2, 1])
    assert packed([text.title()], 2, p0=part) == ["One. Five."]


def test_what_is_left_holds_the_beginning_of_the_next_best() -> None:
    text = "One. Two three four five. Six seven eight nine ten."
    prompt = Prompt((Segment(text=text),))
    part = weighed(text, "sentence", values=[3, 1, 2])
    made = pack(prompt, {0: part}, Context(count=PLAIN, limit=3), finer="word")
    assert made.text == "One. Six seven"


def test_a_text_that_loses_everything_is_marked() -> None:
    first, second = weighed("a b", values=[9, 9]), weighed("c d", values=[1, 1])
    assert packed(["a b", "c d"], 3, p0=first, p1=second) == ["a b", MARK]


def test_without_a_limit_nothing_is_dropped() -> None:
    prompt = Prompt((Segment(text="a b"),))
    assert pack(prompt, {0: weighed("a b")}, Context(count=PLAIN)) is prompt


@given(words=WORDS, limit=st.integers(1, 40), data=st.data())
def test_never_over_and_never_far_below(words: list[str], limit: int, data: st.DataObject) -> None:
    text = " ".join(words)
    values = data.draw(st.lists(st.floats(-5, 5), min_size=len(words), max_size=len(words)))
    units = split(text, "word")
    part = Part(
        units=units,
        values=np.resize(np.array(values or [0.0]), len(units)),
        ranks=np.zeros(len(units), np.int64),
    )
    context = Context(count=counter("gpt-4o"), limit=limit)
    prompt = Prompt((Segment(text=text),))
    made = pack(prompt, {0: part}, context)
    full, left = context.tokens(prompt), context.tokens(made)
    assert left <= limit or (left == full and full <= 1)
    dearest = max(context.tokens_of([f" {word}" for word in units.texts]), default=0)
    assert left >= min(limit, full) - 2 * dearest


@given(values=st.lists(st.integers(0, 5), min_size=1), smaller=st.integers(1), more=st.integers(0))
def test_a_larger_budget_keeps_what_a_smaller_one_kept(
    values: list[int], smaller: int, more: int
) -> None:
    text = " ".join(f"w{i}" for i in range(len(values)))
    part = weighed(text, values=values)
    few, many = (packed([text], limit, p0=part)[0] for limit in (smaller, smaller + more))
    assert set(few.replace(MARK, "").split()) <= set(many.split())


@pytest.mark.parametrize("limit", [50, 400, 3000])
def test_a_real_text_is_used_to_its_limit(limit: int) -> None:
    import pydoc_data.topics as topics

    text = topics.topics["compound"]
    units = split(text, "word")
    values = np.random.default_rng(1).random(len(units))
    context = Context(count=counter("gpt-4o"), limit=limit)
    part = Part(units=units, values=values, ranks=np.zeros(len(units), np.int64))
    prompt = Prompt((Segment(text=text),))
    size = context.tokens(pack(prompt, {0: part}, context))
    assert 0.98 * limit <= size <= limit
    assert pack(prompt, {0: part}, context) == pack(prompt, {0: part}, context)


def test_few_counts_are_asked_for() -> None:
    import pydoc_data.topics as topics

    exact = counter("gpt-4o")
    counted: list[int] = []

    def watched(texts: Sequence[str]) -> list[int]:
        counted.append(sum(map(len, texts)))
        return exact.many(texts)

    text = topics.topics["compound"]
    context = Context(count=Counter("watched", True, 0, watched), limit=2000)
    units = split(text, "word")
    part = Part(
        units=units,
        values=np.random.default_rng(1).random(len(units)),
        ranks=np.zeros(len(units), np.int64),
    )
    pack(Prompt((Segment(text=text),)), {0: part}, context)
    assert sum(counted) < 8 * len(text)
