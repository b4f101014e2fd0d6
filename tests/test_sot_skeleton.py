"""Skeletons: read whatever models write, line by line, and cut what was written to a point."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.sot.cutting import body, joined, run_on, sure, whole
from tersely.sot.items import items_of
from tersely.sot.shares import LEAST, Shares, most_points
from tersely.sot.skeleton import Point, Skeleton, acyclic, parsed


def lines(text: str) -> list[str]:
    return [f"{point.number} {point.text}" for point in parsed(text)]


PLAIN = ["1 Food", "2 Drink well"]


@pytest.mark.parametrize(
    "text",
    [
        "1. Food\n2. Drink well",
        "1) Food\r\n2) Drink well\r\n",
        "(1) Food\n(2) Drink well",
        "1: Food\n2: Drink well",
        "- Food\n- Drink well",
        "* **Food**\n* **Drink well**",
        "**1. Food**\n**2. Drink well**",
        "**1.** Food:\n**2.** Drink well:",
        "### 1. Food\n### 2. Drink well",
        "Point 1: Food\nPoint 2: Drink well",
        "Sure, here are the points:\n\n1. Food\n\n2. Drink well\n\nI hope this helps!",
        "```\n1. Food\n2. Drink well\n```",
        "1. 1. Food\n2. 2. Drink well",
        "1. Food\n1. Drink well",
        "1. Food\n   - bread\n   - cheese\n2. Drink well\n   1. water",
        "1. Food\n- bread\n2. Drink well",
        "> 1. Food\n> 2. Drink well",
        "1. Food\n2. Drink well\n1. Food\n2. Drink well",
        "1. Food\n2. Drink well\n3. the food!",
    ],
)
def test_lists_of_all_looks(text: str) -> None:
    assert lines(text) == PLAIN


@pytest.mark.parametrize(
    "text",
    ["", "There is nothing to list.", "In 1999. Or 2.5 of it.", "1.\n2.\n", "---\n***", "12"],
)
def test_what_is_no_list(text: str) -> None:
    assert parsed(text) == []


def test_nested_lines_are_details() -> None:
    (point,) = parsed("1. Food\n   - bread\n   - **cheese**")
    assert point.details == ("bread", "cheese")


def test_no_more_points_than_wanted() -> None:
    skeleton = Skeleton(3)
    skeleton.end("\n".join(f"{i}. Line number {i}" for i in range(1, 9)))
    assert [point.number for point in skeleton.points] == [1, 2, 3]
    assert skeleton.full


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("1. a b\n2. c d <- 1", {2: (1,)}),
        ("1. a b\n2. c d ← 1\n3. e f <- 1, 2", {2: (1,), 3: (1, 2)}),
        ("1. a b <- none\n2. c d (needs 1 and 7)", {2: (1,)}),
        ("1. a b <- 2\n2. c d <- 1", {1: (2,)}),
        ("1. a b <- 1, 3\n2. c d <- 1\n3. e f <- 2", {1: (3,), 2: (1,)}),
        ("1. a b\n2. b a\n3. e f <- 2", {3: (1,)}),
        ("1. Look after\n2. What it requires", {}),
    ],
)
def test_what_points_build_on(text: str, needs: dict[int, tuple[int, ...]]) -> None:
    assert {one.number: one.needs for one in parsed(text) if one.needs} == needs


def test_a_line_is_closed_when_the_next_begins() -> None:
    text = "1. Food\n   - bread\n2. Drink\n"
    skeleton, seen = Skeleton(), {}
    for i in range(len(text) + 1):
        for point in skeleton.read(text[:i]):
            seen[point.text] = text[:i]
    assert seen == {"Food": "1. Food\n   - bread\n2. D"}
    assert [point.text for point in skeleton.end(text)] == ["Drink"]


SCRAPS = st.sampled_from(
    [
        *("1. ", "2) ", "- ", "* ", "**", "3. ", "10. ", "   ", "\n", "\n\n", " <- 1", " <- 2, 9"),
        *("food", "drink", "sleep", "Here:", "1.", "```", "#", "é", "東京", "\r\n", "("),
    ]
)
WRITTEN = st.lists(SCRAPS, max_size=24).map("".join) | st.text(max_size=40)


@given(WRITTEN, st.lists(st.integers(0, 120), max_size=8))
def test_reading_by_pieces_finds_what_reading_at_once_does(text: str, cuts: list[int]) -> None:
    skeleton = Skeleton()
    found: list[Point] = []
    for cut in sorted(cuts):
        found += skeleton.read(text[:cut])
    found += skeleton.end(text)
    assert found == skeleton.points
    assert skeleton.resolved == parsed(text)


@given(WRITTEN)
def test_points_are_few_short_and_apart(text: str) -> None:
    points = parsed(text, 5)
    numbers = [point.number for point in points]
    assert len(points) <= 5 and len(set(numbers)) == len(numbers)
    assert all(point.text and "\n" not in point.text for point in points)
    assert all(set(point.needs) <= set(numbers) - {point.number} for point in points)


@given(st.lists(st.lists(st.integers(1, 9), max_size=4), max_size=9))
def test_no_point_builds_on_itself(needs: list[list[int]]) -> None:
    points = acyclic(
        Point(number=i, text=f"p{i}", needs=tuple(own)) for i, own in enumerate(needs, 1)
    )
    done: set[int] = set()
    for _ in points:
        done |= {one.number for one in points if set(one.needs) <= done}
    assert done == {one.number for one in points}


# Cutting.

TALK = st.lists(
    st.sampled_from(
        ["It is so. ", "And more ", "2. ", "\n", "\n\n", "3) ", "Dr. Who ", "No! ", "x"]
    ),
    max_size=16,
).map("".join)


@given(TALK, st.integers(1, 4))
def test_a_body_holds_no_other_point(text: str, number: int) -> None:
    found = body(text, number, "Food")
    assert found in text
    assert run_on(found, number) == len(found.rstrip()) or run_on(found, number) == len(found)


@given(TALK)
def test_what_is_whole_and_what_is_sure_begin_the_text(text: str) -> None:
    assert text.startswith(whole(text)) and text.startswith(sure(text))
    assert len(sure(text)) <= len(whole(text)) or not whole(text).strip()


@given(TALK, st.integers(0, 60))
def test_what_was_sure_stays(text: str, at: int) -> None:
    """What was shown of a text that still grows is the beginning of what it becomes."""
    early = sure(body(text[:at], 1, "Food"))
    assert body(text, 1, "Food").startswith(early)


def test_parts_do_not_fuse() -> None:
    assert joined("one", "two") == "one two"
    assert joined("one", "\ntwo") == "one\ntwo"
    assert joined("", "two") == "two"


# Items and shares.


@pytest.mark.parametrize(
    ("question", "items"),
    [
        ("Translate each of the following into French:\n1. I am.\n2. You are.", 2),
        ("Define these terms:\n- entropy\n- enthalpy\n- work\n\nKeep it simple.", 3),
        ("Write a slogan for each of these products: tea, coffee and milk", 3),
        ("Compare each of the following:\n- tea\n- coffee", 0),
        ("Rank each of the following: tea, coffee", 0),
        ("Explain each of the following:\n- tea", 0),
        ("Explain each of the following:\n- tea\n- tea", 0),
        ("Explain each:\n- tea\nand then\n- coffee", 0),
        ("Here is my list:\n- tea\n- coffee", 0),
        ("What is good for each of us?", 0),
    ],
)
def test_items_that_a_question_gives(question: str, items: int) -> None:
    assert len(items_of(question)) == items


@given(st.integers(1, 4000), st.floats(0, 0.9), st.integers(2, 20), st.data())
def test_shares_are_never_more_than_the_whole(
    tokens: int, reserve: float, wanted: int, data: st.DataObject
) -> None:
    shares, most, given_ = Shares.of(tokens, reserve), most_points(tokens, wanted), []
    for left in range(most, 0, -1):
        given_.append(shares.grant(data.draw(st.integers(1, left)), left))
    assert sum(given_) <= tokens
    assert min(given_) >= min(LEAST, tokens)
