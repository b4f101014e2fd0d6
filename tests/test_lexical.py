"""Words tell which text answers a question, and what a text is about."""
# ruff: noqa: RUF001 - texts of many scripts

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tersely.lexical import best_of_group, centrality, relevance, standardised, terms_of

TEXTS = [
    "The Nile flows north through Egypt.",
    "Penguins live in the south.",
    "Egypt's rivers: the Nile is the longest river of Africa.",
    "尼罗河是非洲最长的河流。",
    "",
]


def test_the_text_that_answers_comes_first() -> None:
    scores = relevance(TEXTS, "What is the longest river in Africa?")
    assert scores.argmax() == 2
    assert scores[1] == scores[4] == 0


def test_it_works_without_spaces_between_words() -> None:
    assert relevance(TEXTS, "非洲最长的河流是什么？").argmax() == 3


def test_no_shared_word_scores_nothing() -> None:
    assert not relevance(TEXTS, "quantum chromodynamics").any()
    assert not relevance(TEXTS, "").any()
    assert relevance([], "anything").shape == (0,)


def test_central_texts_share_words_with_the_others() -> None:
    scores = centrality(["the river Nile", "the Nile in Egypt", "a recipe for soup", ""])
    assert scores[:2].min() > scores[2] > scores[3] == 0


def test_terms_leave_out_what_says_nothing() -> None:
    assert terms_of("The rivers were flowing, and it's 12 km") == ["river", "flow", "12", "km"]


@given(st.lists(st.text(max_size=30), max_size=12), st.text(max_size=30))
def test_scores_are_finite_and_one_for_each_text(texts: list[str], question: str) -> None:
    for scores in (relevance(texts, question), centrality(texts)):
        assert scores.shape == (len(texts),)
        assert np.isfinite(scores).all()
        assert np.isfinite(standardised(scores)).all()


def test_the_best_of_a_group_stands_for_all_of_it() -> None:
    scores = best_of_group(np.array([1.0, 3.0, 2.0]), np.array([0, 0, 1]))
    assert scores.tolist() == [3.0, 3.0, 2.0]
