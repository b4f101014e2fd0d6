"""Scores of several kinds become one row, by their size or by their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tersely.errors import ConfigError
from tersely.rag.fusion import min_max, reciprocal_ranks, weighted

ROWS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20).map(np.array)


@given(ROWS)
def test_scores_lie_between_nought_and_one_in_the_same_order(scores: np.ndarray) -> None:
    made = min_max(scores)
    assert ((made >= 0) & (made <= 1)).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(made[order]) >= 0).all()
    if np.ptp(scores) > 0:
        assert made.min() == 0
        assert made.max() == 1
    else:
        assert not made.any()


@given(ROWS, st.floats(0.1, 5), st.floats(-100, 100))
def test_neither_scale_nor_shift_of_a_scorer_matters(
    scores: np.ndarray, scale: float, shift: float
) -> None:
    assume(not 0 < np.ptp(scores) < 1e-3)  # a shift swallows what is smaller than its rounding
    other = np.arange(len(scores), dtype=np.float64)
    told = weighted([(1, scores), (2, other)])
    assert np.allclose(told, weighted([(0.5, scores * scale + shift), (1, other)]), atol=1e-5)


def test_a_weight_tells_who_decides() -> None:
    words, meaning = np.array([0.0, 5.0, 1.0]), np.array([0.9, 0.1, 0.2])
    assert weighted([(0.9, words), (0.1, meaning)]).argmax() == 1
    assert weighted([(0.1, words), (0.9, meaning)]).argmax() == 0
    assert weighted([(1, words), (1, meaning)])[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "lengths"),
        ([(1, np.zeros(2)), (1, np.zeros(3))], r"\[2, 3\]"),
        ([(-1, np.zeros(2)), (2, np.zeros(2))], "-1"),
        ([(0, np.zeros(2))], "0"),
    ],
)
def test_what_can_not_be_fused_is_told(rows: list[tuple[float, np.ndarray]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        weighted(rows)


def test_ranks_are_fused_by_their_reciprocals() -> None:
    made = reciprocal_ranks([["a", "b", "c"], ["b", "d"]], k=60)
    assert list(made) == ["b", "a", "d", "c"]
    assert made["b"] == pytest.approx(1 / 62 + 1 / 61)
    assert made["c"] == pytest.approx(1 / 63)


def test_an_id_counts_once_a_row() -> None:
    assert reciprocal_ranks([["a", "a", "b"]], k=0) == {"a": 1.0, "b": 0.5}
    with pytest.raises(ConfigError, match="-1"):
        reciprocal_ranks([], k=-1)
