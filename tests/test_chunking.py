"""Chunks hold whole sentences, leave out white space only, and never have too many tokens."""

from __future__ import annotations

import pydoc_data.topics as topics

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tersely.errors import ConfigError
from tersely.rag.chunking import chunks, packed
from tersely.tokens import counter
from tersely.units import blanks, split

COUNT = counter("gpt-4o")

PIECES = st.sampled_from(
    [
        *"ab .,!?\n\t",
        "\n\n",
        "The kettle is blue. ",
        "日本語",
        "。",
        "👨‍👩‍👧",
        "e\u0301",
        "x" * 90,
        "```\n",
    ]
)
TEXTS = st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=80)


@given(TEXTS, st.integers(1, 40))
def test_nothing_but_white_space_is_left_out_and_the_cap_holds(text: str, size: int) -> None:
    made = chunks(text, size=size, count=COUNT)
    held = np.zeros(len(text), np.bool_)
    for start, end in zip(made.starts.tolist(), made.ends.tolist(), strict=True):
        assert not held[start:end].any()
        held[start:end] = True
    assert (held | blanks(text)).all()
    assert made.starts.tolist() == sorted(made.starts.tolist())
    for one in made.texts:
        assert COUNT(one) <= size or len(regex.findall(r"\X", one)) == 1


def test_chunks_end_where_sentences_end_and_are_filled() -> None:
    text = topics.topics["with"]
    made = chunks(text, size=128, count=COUNT)
    ends = set(split(text, "sentence").ends.tolist())
    assert set(made.ends.tolist()) <= ends
    sizes = COUNT.many(made.texts)
    assert max(sizes) <= 128
    together = [
        COUNT(text[a:b])
        for a, b in zip(made.starts[:-1].tolist(), made.ends[1:].tolist(), strict=True)
    ]
    assert min(together) > 128


def test_an_overlong_sentence_is_cut_between_words() -> None:
    text = "kettle " * 200
    made = chunks(text, size=16, count=COUNT)
    assert {word for one in made.texts for word in one.split()} == {"kettle"}
    assert sum(len(one.split()) for one in made.texts) == 200


def test_pieces_of_different_groups_share_no_chunk() -> None:
    sizes = np.array([3, 3, 3, 9, 1, 1])
    assert packed(sizes, 6).tolist() == [0, 0, 1, 2, 3, 3]
    assert packed(sizes, 6, np.array([0, 1, 1, 1, 1, 2])).tolist() == [0, 1, 1, 2, 3, 4]


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 token, size was 0"):
        chunks("a", size=0, count=COUNT)
