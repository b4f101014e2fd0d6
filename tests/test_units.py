"""Units cover the text, cut no character in half, and are found in linear time."""
# ruff: noqa: RUF001 - texts of many scripts

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tersely.clusters import MAY_GLUE
from tersely.render import render
from tersely.units import LONGEST_SENTENCE, Unit, blanks, split, united

UNITS = get_args(Unit)

ALPHABET = st.sampled_from(
    [
        *list("ab Z.?!,;:-'\"\n\t\r3 7()"),
        "日",
        "本",
        "。",
        "ア",
        "ไ",
        "ท",
        "́",
        "\u200d",
        "️",
        "👨",
        "👩",
        "🏽",
        "🇩",
        "🇪",
        "ش",
        "ل",
        "\x00",
        "�",
        "한",
        "ᄀ",
        "ᅡ",
        "\u3000",
        "…",
        "「",
        "」",
    ]
)
TEXTS = st.text(ALPHABET, max_size=120) | st.text(max_size=60)


@pytest.mark.parametrize("unit", UNITS)
@given(text=TEXTS)
def test_units_cover_all_but_white_space_in_order(unit: Unit, text: str) -> None:
    units = split(text, unit)
    covered = np.zeros(len(text), np.bool_)
    for start, end in zip(units.starts, units.ends, strict=True):
        assert start < end
        assert not covered[start:end].any()
        covered[start:end] = True
    assert list(units.starts) == sorted(units.starts)
    assert all(text[i].isspace() for i in np.flatnonzero(~covered))


@pytest.mark.parametrize("unit", UNITS)
@given(text=TEXTS)
def test_no_unit_begins_or_ends_inside_a_character_cluster(unit: Unit, text: str) -> None:
    clusters = [m.span() for m in regex.finditer(r"\X", text) if not m.group().isspace()]
    inside = {i for start, end in clusters for i in range(start + 1, end)}
    units = split(text, unit)
    assert inside.isdisjoint(units.starts.tolist())
    assert inside.isdisjoint(units.ends.tolist())


@given(text=TEXTS, spans=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=4))
def test_a_marked_span_is_a_unit_of_exactly_its_length(
    text: str, spans: list[tuple[int, int]]
) -> None:
    marked = united([(a, b) for a, b in spans if b <= len(text)])
    units = split(text, "word", marked=marked)
    found = set(zip(units.starts.tolist(), units.ends.tolist(), strict=True))
    assert found.issuperset(marked)
    assert units.touching(marked).sum() == len(marked)


@given(text=TEXTS, spans=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), max_size=4))
def test_an_atom_is_never_cut(text: str, spans: list[tuple[int, int]]) -> None:
    atoms = united([(a, min(b, len(text))) for a, b in spans])
    units = split(text, "token", atoms=atoms)
    for start, end in atoms:
        assert not ((units.starts > start) & (units.starts < end) & (units.starts > 0)).any() or (
            text[start:end].isspace()
            or all(
                text[i].isspace() for i in range(start, int(units.starts[units.starts > start][0]))
            )
        )


@given(text=TEXTS)
def test_white_space_is_what_python_takes_for_it(text: str) -> None:
    assert blanks(text).tolist() == [character.isspace() for character in text]


def test_sentences_end_where_a_reader_ends_them() -> None:
    text = (
        'Dr. Smith paid $3.50 to J. Doe, e.g. on Monday. He said: "No!" Then he left... slowly.\n'
        "1. The first step. The second\nis wrapped over two lines that are both long enough, "
        "so that they\nread as one.\n\n- an item\n- another\nAlice: hello\nBob: はい。次です！"
    )
    assert split(text, "sentence").texts == [
        "Dr. Smith paid $3.50 to J. Doe, e.g. on Monday.",
        'He said: "No!"',
        "Then he left... slowly.",
        "1. The first step.",
        "The second",
        "is wrapped over two lines that are both long enough, so that they\nread as one.",
        "- an item",
        "- another",
        "Alice: hello",
        "Bob: はい。",
        "次です！",
    ]


def test_json_that_was_cut_off_is_split_between_its_records() -> None:
    rows = [f'{{"id": {i}, "says": "all is well, [so] far", "at": [1, 2]}}' for i in range(60)]
    text = ("[" + ", ".join(rows))[:-20]
    units = split(text, "sentence").texts
    assert len(units) == 60
    assert units[7] == rows[7] + ","
    long = text.replace("so far", "so " * 900)
    assert max(map(len, split(long, "sentence").texts)) <= 1000
    assert len(split(", ".join(rows[:5]), "sentence")) == 1


def test_an_overlong_sentence_is_split_at_spaces() -> None:
    units = split("word " * 1000, "sentence")
    assert (units.ends - units.starts).max() <= LONGEST_SENTENCE
    assert all(text.startswith("word") and text.endswith("word") for text in units.texts)


def test_lines_and_paragraphs() -> None:
    assert split("a\nb\r\nc\rd\n\n e", "line").texts == ["a", "b", "c", "d", "e"]
    assert split("a\nb\n \n\nc\n\n", "paragraph").texts == ["a\nb", "c"]


def test_words_tokens_and_phrases() -> None:
    assert split("it's well-known, 漢字かな👍🏽!", "word").texts == [
        "it's", "well-known,", "漢字", "かな", "👍🏽", "!",
    ]  # fmt: skip
    assert split("don't, v2", "token").texts == ["don", "'", "t", ",", "v", "2"]
    assert split("The cat sat on the mat, and slept.", "phrase").texts == [
        "The cat sat", "on the mat,", "and slept.",
    ]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
@given(text=TEXTS)
def test_keeping_every_unit_keeps_the_text(unit: Unit, text: str) -> None:
    units = split(text, unit)
    assert render(units, np.ones(len(units), np.bool_)) == text


@pytest.mark.parametrize("unit", UNITS)
@given(text=TEXTS, seed=st.integers(0, 99))
def test_what_is_kept_stands_in_the_result_in_order(unit: Unit, text: str, seed: int) -> None:
    units = split(text, unit)
    kept = np.random.default_rng(seed).random(len(units)) < 0.5
    rendered = render(units, kept)
    at = 0
    for piece, keep in zip(units.texts, kept, strict=True):
        if keep:
            at = rendered.index(piece, at) + len(piece)
    solid = sum(not c.isspace() for c in rendered)
    assert solid == sum(
        not c.isspace() for p, k in zip(units.texts, kept, strict=True) if k for c in p
    )


@pytest.mark.parametrize(
    ("text", "dropped", "left"),
    [
        ("one two three", {1}, "one three"),
        ("one\ntwo\nthree", {1}, "one\nthree"),
        ("one\n\ntwo three", {1}, "one\n\nthree"),
        ("one two", {0}, "two"),
        ("one two ", {1}, "one "),
        ("if a:\n    b c\n    d", {2, 3}, "if a:\n    d"),
        ("日本語です", {1}, "日本す"),
        ("3日4", {1}, "3 4"),
    ],
)
def test_the_strongest_white_space_of_a_gap_is_left(
    text: str, dropped: set[int], left: str
) -> None:
    units = split(text, "word")
    kept = np.array([i not in dropped for i in range(len(units))])
    assert render(units, kept) == left


HOSTILE = {
    "one word": "a",
    "words": "word ",
    "dots": ".",
    "dots and spaces": ". ",
    "line breaks": "\n",
    "spaces": " ",
    "quotes": '"',
    "brackets": "[{",
    "fences": "```\n",
    "colons": "a:",
    "at signs": "a@",
    "slashes": "/a",
    "tags": "<a ",
    "dashes": "a-1-",
    "digits": "1,",
    "ideographs": "日本語",
    "combining": "\u0301",
    "family": "👨‍👩‍👧",
    "flags": "🇩🇪",
    "surrogates": "\ud800",
    "nul": "\x00",
    "right to left": "שלום ",
}
"""Texts that make careless patterns slow or wrong, to be repeated."""


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_split_whole(name: str, unit: Unit) -> None:
    text = HOSTILE[name] * 5000
    units = split(text, unit)
    solid = sum(not c.isspace() for c in text)
    assert sum(not c.isspace() for piece in units.texts for c in piece) == solid


def test_no_character_that_glues_is_overlooked() -> None:
    """The quick look lets through all that can be part of a cluster."""
    glues = r"[\p{GCB=EX}\p{GCB=SM}\p{GCB=ZWJ}\p{GCB=V}\p{GCB=T}\p{GCB=PP}\p{GCB=L}\p{GCB=RI}]"
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    found = regex.findall(glues, every)
    assert len(found) > 1000
    assert all(MAY_GLUE.match(one) for one in found)
