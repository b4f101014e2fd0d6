"""What is protected, and what is not."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.protect import fences, protected
from tersely.units import split

FACTS = [
    "$1,234.56",
    "12.5 %",
    "3 million",
    "20 km/h",
    "2025-03-14T10:20:30Z",
    "March 5th, 2024",
    "5 March 2024",
    "14/03/2025",
    "10:30 p.m.",
    "https://example.org/a?b=1&c=2",
    "first.last+tag@example.co.uk",
    "123e4567-e89b-12d3-a456-426614174000",
    "deadbeef12345",
    "ord_00012",
    "ABC-123",
    "v1.2.3",
    "snake_case_name",
    "/usr/local/bin/python",
    "C:\\Users\\me",
    "./src/main.c",
    "{name}",
    "{{ user.name }}",
    "${HOME}",
    "%(count)d",
    '<b class="x">',
    "</b>",
    "<|im_end|>",
    '"a short quote"',
    "「短い引用」",
    "never again",
    "don't go",
    "2024年3月5日",
]


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_is_found_whole(fact: str) -> None:
    text = f"so we saw {fact} and went home"
    at = text.index(fact)
    assert any(start <= at and at + len(fact) <= end for start, end in protected(text))


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_is_one_unit(fact: str) -> None:
    text = f"so we saw {fact} and went home"
    assert any(fact in piece for piece in split(text, "token", atoms=protected(text)).texts)


def test_plain_words_are_not_protected() -> None:
    assert protected("The quick brown fox jumps over the lazy dog, and sleeps well.") == []


def test_code_blocks() -> None:
    text = "see\n```python\nx = 1\n```\nand\n~~~~\n```\n~~~~\nthen\n```\nnever closed"
    assert [text[a:b] for a, b in fences(text)] == ["```python\nx = 1\n```", "~~~~\n```\n~~~~"]


@given(st.text(max_size=200) | st.text("ab1.-_/\\@:{}<>\"'`$% \n", max_size=200))
def test_spans_are_in_order_and_apart(text: str) -> None:
    spans = protected(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
