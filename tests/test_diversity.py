"""What is said twice is dropped, and what is new goes before more of the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tersely.diversity import mmr, near_duplicates

SAID = "The kettle on the second shelf holds nearly two litres of water and is blue."


def unit(*rows: tuple[float, ...]) -> np.ndarray:
    made = np.array(rows, np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def by_hand(vectors: np.ndarray, relevance: np.ndarray, k: int, weight: float) -> list[int]:
    """The definition, one step after the other."""
    chosen: list[int] = []
    while len(chosen) < min(k, len(relevance)):
        worths = {}
        for i in range(len(relevance)):
            if i not in chosen:
                near = max((float(vectors[i] @ vectors[j]) for j in chosen), default=0.0)
                worths[i] = weight * relevance[i] - (1 - weight) * near
        chosen.append(max(worths, key=lambda i: (round(worths[i], 5), -i)))
    return chosen


@given(st.integers(1, 12), st.integers(0, 14), st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.data())
def test_mmr_is_what_its_definition_says(
    n: int, k: int, weight: float, data: st.DataObject
) -> None:
    draw = np.random.default_rng(data.draw(st.integers(0, 999)))
    vectors = unit(*draw.normal(size=(n, 4)).tolist())
    relevance = draw.permutation(np.linspace(0, 1, n))
    assert mmr(vectors, relevance, k, weight).tolist() == by_hand(vectors, relevance, k, weight)


def test_mmr_goes_round_what_is_there_already() -> None:
    vectors = unit((1, 0), (1, 0.01), (0, 1))
    relevance = np.array([1.0, 0.99, 0.5])
    assert mmr(vectors, relevance, 2, 0.5).tolist() == [0, 2]
    assert mmr(vectors, relevance, 2, 1.0).tolist() == [0, 1]


def test_mmr_of_nothing() -> None:
    assert mmr(np.zeros((0, 3), np.float32), np.zeros(0), 5, 0.5).tolist() == []
    assert mmr(unit((1, 0)), np.ones(1), -1, 0.5).tolist() == []


def test_the_same_words_again() -> None:
    texts = [SAID, "Something else is said here, of bread and tea.", SAID.upper(), SAID + " Yes."]
    assert_array_equal(near_duplicates(texts), [False, False, True, True])


def test_the_same_direction_again() -> None:
    vectors = unit((1, 0), (0, 1), (1, 0.05), (0.7, 0.7))
    assert_array_equal(near_duplicates(["a", "b", "c", "d"], vectors), [False, False, True, False])
    assert near_duplicates(["a", "b", "c", "d"], vectors, 0.6).sum() == 2


@pytest.mark.parametrize("vectors", [None, unit((1, 0), (1, 0))])
def test_other_numbers_are_another_fact(vectors: np.ndarray | None) -> None:
    texts = [f"{SAID} It was bought in {year} at the market by the river." for year in (2021, 2022)]
    assert_array_equal(near_duplicates(texts, vectors), [False, False])


def test_a_chain_does_not_fall_with_its_middle() -> None:
    """The third is like the second, which is gone, and not like the first: it stays."""
    step = np.deg2rad(12)
    vectors = unit(*((np.cos(i * step), np.sin(i * step)) for i in range(3)))
    assert_array_equal(near_duplicates(["", "", ""], vectors), [False, True, False])


@given(st.lists(st.text("abc 12", max_size=40), max_size=12))
def test_the_first_of_equals_stays(texts: list[str]) -> None:
    repeated = near_duplicates(texts)
    assert len(repeated) == len(texts)
    kept = [text for text, again in zip(texts, repeated, strict=True) if not again]
    assert not near_duplicates(kept).any()
    worded = [text for text in texts if text.strip()]
    assert {t.split()[0] for t in worded[:1]} <= {t.split()[0] for t in kept if t.strip()}


def test_texts_without_words_are_not_alike() -> None:
    assert not near_duplicates(["", "", "!!!"]).any()
