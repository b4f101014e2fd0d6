"""Answers are checked against what they cite."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.contracts import Context
from tersely.rag.citations import MARK, check, cited
from tersely.rag.evidence import Evidence
from tersely.retrieval import Passage
from tersely.tokens import counter

CONTEXT = Context(count=counter("gpt-4o"))
KETTLE = (
    "The kettle holds 1.7 litres. Anna Meier painted it blue in Ulm, in 1931. It cost 1,200 marks."
)
BRIDGE = "The bridge over the Limmat was built by Otto Frei. It is 30 metres long."
PASSAGES = [Passage(text=KETTLE, source="k"), Passage(text=BRIDGE, source="b")]
BUNDLE = Evidence().bundle(PASSAGES, "", CONTEXT)

PIECES = st.sampled_from(
    [
        *("[1]", "[2]", "[9]", "[1, 2]", "[1-2]", "[0]", "[3-1]", "【1】", "[", "]", ". ", "! "),
        *("\n", " ", "- ", "The kettle holds 1.7 litres", "Anna", "Limmat", "1931", "é", "東京。"),
        *("No", "[1][2]", "..."),
    ]
)


@pytest.mark.parametrize(
    ("sentence", "by", "lacking"),
    [
        ("The kettle holds 1.7 litres [1].", (1,), ()),
        ("Anna Meier painted the kettle blue in 1931 [1].", (1,), ()),
        ("It cost 1200 marks [1].", (1,), ()),
        ("The kettle holds 1.8 litres [1].", (), ("1.8",)),
        ("Otto Frei painted the kettle blue in 1931 [1].", (), ("Frei",)),
        ("Otto Frei built the bridge over the Limmat [1].", (), ("Frei", "Limmat")),
        ("Otto Frei built the bridge over the Limmat.", (2,), ()),
        ("Penguins swim faster than they walk [2].", (), ()),
    ],
)
def test_what_a_passage_says_is_supported(
    sentence: str, by: tuple[int, ...], lacking: tuple[str, ...]
) -> None:
    (one,) = check(sentence, BUNDLE)
    assert one.by == by
    assert one.supported is bool(by)
    assert one.lacking == lacking


def test_passages_support_together_what_none_says_alone() -> None:
    (one,) = check("The kettle holds 1.7 litres and the bridge is 30 metres long [1, 2].", BUNDLE)
    assert one.supported and one.by == ()


def test_a_citation_of_no_passage_is_told() -> None:
    (one,) = check("The kettle holds 1.7 litres [7][1].", BUNDLE)
    assert (one.cited, one.unknown, one.by) == ((7, 1), (7,), (1,))
    (alone,) = check("The kettle holds 1.7 litres [7].", BUNDLE)
    assert alone.unknown == (7,) and not alone.supported


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It is blue [1]. It is long [2].", [("It is blue [1].", (1,)), ("It is long [2].", (2,))]),
        ("It is blue. [1] It is long.[2]", [("It is blue. [1]", (1,)), ("It is long.[2]", (2,))]),
        (
            "- [1] It is blue\n- [2] It is long",
            [("- [1] It is blue", (1,)), ("- [2] It is long", (2,))],
        ),
        ("It is blue.\n[1]\n\nIt is long.", [("It is blue.\n[1]", (1,)), ("It is long.", ())]),
        ("[1] It is blue.", [("[1] It is blue.", (1,))]),
        ("It is so [1, 2], or [1-2] so.", [("It is so [1, 2], or [1-2] so.", (1, 2))]),
        ("[2]", [("[2]", (2,))]),
        ("", []),
    ],
)
def test_a_citation_belongs_to_its_sentence(
    answer: str, expected: list[tuple[str, tuple[int, ...]]]
) -> None:
    assert [(one.text, one.cited) for one in check(answer, BUNDLE)] == expected


@given(st.lists(PIECES | st.text(max_size=3), max_size=14).map("".join))
def test_any_answer_is_read_with_exact_offsets(answer: str) -> None:
    found = check(answer, BUNDLE)
    at = 0
    for one in found:
        assert one.text == answer[one.start : one.end]
        assert at <= one.start < one.end
        assert not MARK.sub("", answer[at : one.start]).strip()
        assert set(one.unknown) <= set(one.cited) and 0 <= one.support <= 1
        at = one.end
    assert not answer[at:].strip()
    numbers = {n for one in found for n in one.cited}
    assert {1} <= numbers or "[1]" not in answer
    flat = cited(answer, PASSAGES)
    assert [(one.start, one.end, one.supported) for one in flat] == [
        (one.start, one.end, one.supported) for one in found
    ]


def test_citations_of_bare_passages() -> None:
    one, other = cited("It holds 1.7 litres [1][8]. The bridge is 30 metres long.", PASSAGES)
    assert one.numbers == (1,) and other.numbers == (2,)
    assert other.supported and other.support > 0.9
