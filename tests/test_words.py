"""A question's words are counted once, and scored as BM25 scores them at any grain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.lexical import relevance, terms_of
from tersely.rag.words import words_of

TEXTS = st.lists(
    st.lists(
        st.sampled_from(["kettle", "Kettles", "blue", "the", "holds", "日本", "tea"]), max_size=8
    )
    .map(" ".join)
    .filter(lambda text: bool(terms_of(text))),
    min_size=1,
    max_size=12,
)
ASKED = "Which kettles are blue? 日"


@given(TEXTS)
def test_it_is_the_relevance_that_is_known(texts: list[str]) -> None:
    found = words_of(texts, terms_of(ASKED)).relevance()
    assert np.allclose(found, relevance(texts, ASKED), atol=1e-5)


@given(TEXTS, st.data())
def test_a_group_scores_as_its_text_would(texts: list[str], data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.integers(0, 1), min_size=len(texts), max_size=len(texts)))
    groups = np.cumsum(steps) - steps[0]
    joined = [
        " ".join(text for text, group in zip(texts, groups, strict=True) if group == number)
        for number in range(groups[-1] + 1)
    ]
    grouped = words_of(texts, terms_of(ASKED)).grouped(groups)
    whole = words_of(joined, terms_of(ASKED))
    assert (grouped.counts == whole.counts).all()
    assert grouped.relevance() == pytest.approx(whole.relevance())


def test_coverage_is_half_the_best_text_and_half_any() -> None:
    told = words_of(["the blue one", "a kettle holds water", "tea"], ["kettle", "blue", "steel"])
    assert told.coverage() == pytest.approx((6 + 10) / 2 / 15)
    assert words_of([], ["kettle"]).coverage() == 0
    assert words_of(["kettle"], []).coverage() == 0
