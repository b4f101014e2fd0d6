"""Nothing that a source does not hold is left in its summary, and what it holds stays as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tersely.facts import facts_of
from tersely.faithful import Entailment, Faithful, faithful
from tersely.known import Known
from tersely.mending import mended
from tersely.units import split

SOURCE = """Alice Smith said the budget is 12.50 Euro. The team did not approve the new LCD screen
on 5 March 2024. Bob: We have two or three ideas, and about 25 % of the users like them. See
https://example.org/a?b=1 for the order ord_00012, or write to bob@example.org. Twenty five people
came to the meeting. The Project Manager wants voice recognition, but the designers refused to add
it. "It costs too much", said Johnston. The sales rose by 3,000,000 in the year after that."""


def lacking(sentence: str, source: str = SOURCE) -> list[str]:
    return [fact.text for fact in Known.of(source).lacks(sentence)]


def fate(sentence: str, source: str = SOURCE) -> tuple[str, str]:
    (one,) = faithful(sentence, source).sentences
    return one.fate, one.text


@pytest.mark.parametrize(
    "sentence",
    [
        "Alice Smith set the budget at 12.5 Euros.",
        "The team did not approve the screen on March 5, 2024.",
        "The screen came up in March 2024.",
        "That was in 2024.",
        "They never approved it.",
        "The designers did not add voice recognition.",
        "25 people came, with 2 or 3 ideas.",
        "About 25 percent of them like it.",
        "Sales rose by three million.",
        "Sales rose by 3 million.",
        "See https://example.org/a?b=1.",
        "Order ord_00012 is bob@example.org's.",
        "They found that “it costs too much”.",
        "Participants discussed ideas and/or users.",
        "1. The PROJECT MANAGER wants it.",
        "However, I don't approve it.",
        "Alice's budget is known.",
    ],
)
def test_what_the_source_holds_in_another_writing(sentence: str) -> None:
    assert lacking(sentence) == []
    assert fate(sentence) == ("kept", sentence)


@pytest.mark.parametrize(
    ("sentence", "what"),
    [
        ("The budget is 13 Euro.", "13"),
        ("The budget is 12.50 dollars.", "12.50 dollars"),
        ("Twenty six people came.", "Twenty six"),
        ("It rose by 3 thousand.", "3 thousand"),
        ("It fell by -25 %.", "-25 %"),
        ("On 6 March 2024 they met.", "6 March 2024"),
        ("On March 5, 2023 they met.", "March 5, 2023"),
        ("They met in May.", "May"),
        ("Then Carol spoke.", "Carol"),
        ("Zorg discussed it.", "Zorg"),
        ("Bob Smith spoke.", "Bob Smith"),
        ("See https://example.org/a for more.", "https://example.org/a"),
        ("It is order ord_0001.", "ord_0001"),
        ("Write to rob@example.org now.", "rob@example.org"),
        ("She said “it costs nothing” then.", "“it costs nothing”"),
        ("The users do not like them.", "not"),
        ("It lies in /usr/local/bin now.", "/usr/local/bin"),
    ],
)
def test_what_the_source_does_not_hold(sentence: str, what: str) -> None:
    assert what in lacking(sentence)
    assert what not in faithful(sentence, SOURCE).text.split() or what == "not"
    assert fate(sentence)[0] != "kept"


def test_a_negation_must_not_get_lost() -> None:
    told = faithful("The team approved the new LCD screen.", SOURCE).sentences[0]
    assert told.fate == "dropped"
    assert "negates 'approved'" in told.reason
    assert fate("The designers refused to add it.")[0] == "kept"
    both = SOURCE + " On Monday the team approved the new LCD screen after all."
    assert fate("The team approved the new LCD screen.", both)[0] == "kept"


@pytest.mark.parametrize(
    ("sentence", "mend"),
    [
        ("25 people came (from Zurich) to meet.", "25 people came to meet."),
        ("Alise Smith spoke of the budget.", "Alice Smith spoke of the budget."),
        ("Alice spoke of the budget, which was 13 Euro.", "Alice spoke of the budget."),
        ("In Berlin, the people came to the meeting.", "The people came to the meeting."),
        ("Alice Smith, head of Acme, set the budget up.", "Alice Smith set the budget up."),
        (
            "Designers spoke of “voice ideas” with users.",
            "Designers spoke of voice ideas with users.",
        ),
    ],
)
def test_a_sentence_is_mended_by_leaving_out(sentence: str, mend: str) -> None:
    assert fate(sentence) == ("mended", mend)
    assert lacking(mend) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "Alice set the budget, but not for Acme.",
        "The users like it, unless Carol objects.",
        "Acme came.",
    ],
)
def test_what_turns_the_sense_round_is_never_left_out(sentence: str) -> None:
    assert fate(sentence) == ("dropped", "")


def test_text_stands_between_what_is_left() -> None:
    summary = "Alice Smith set a budget.\n\n- Carol left.\n- 25 people came.\n- Zorg spoke."
    found = faithful(summary, SOURCE)
    assert found.text == "Alice Smith set a budget.\n- 25 people came."
    assert [one.fate for one in found.sentences] == ["kept", "dropped", "kept", "dropped"]
    assert [one.was for one in found.dropped] == ["- Carol left.", "- Zorg spoke."]


def test_each_sentence_points_at_what_it_rests_on() -> None:
    found = faithful("25 people came to the meeting with 2 ideas that users like.", SOURCE)
    (told,) = found.sentences
    there = [SOURCE[start:end] for start, end in told.sources]
    assert any("Twenty five people" in one for one in there)
    assert any("two or three ideas" in one for one in there)
    assert told.support > 0.8


def test_the_question_s_words_are_looked_for() -> None:
    asked = "What did the designers say about the budget of the zebra?"
    found = faithful("Alice Smith set a budget.", SOURCE, question=asked)
    assert found.uncovered == ("designer", "about")
    assert found.coverage == pytest.approx(1 / 3)
    assert faithful("Alice spoke.", SOURCE).coverage == 1


def test_a_summary_that_is_not_shorter_is_refused() -> None:
    found = faithful(SOURCE, SOURCE)
    assert found.text == ""
    assert "no less than" in found.refused
    words = lambda text: len(text.split())  # noqa: E731
    assert faithful("a b c d e f", "abcdefghi jklmnopqrst", size=words).refused
    assert faithful("", "") == Faithful()


def test_meaning_has_the_last_word() -> None:
    def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([[1.0, "pays" in text] for text in texts], np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    source = SOURCE + " Alice pays for all the ideas of Bob."
    ask = Entailment(vectors, 0.9)
    assert faithful("Alice has all the ideas.", source, entails=ask).text == ""
    assert faithful("Alice pays for ideas.", source, entails=ask).text == "Alice pays for ideas."
    assert faithful("- Yes.", source, entails=ask).text == ""


@pytest.mark.model
def test_an_encoder_tells_what_is_about_something_else() -> None:
    from tersely.compressors.sentences import vectors
    from tersely.contracts import Context
    from tersely.tokens import counter

    context = Context(count=counter("gpt-4o"))
    ask = Entailment(lambda texts: vectors(texts, "minilm", context), 0.4)
    found = faithful(
        "The team turned down the new screen.\nThe people of the order need a bath.",
        SOURCE,
        entails=ask,
    )
    assert found.text == "The team turned down the new screen."


NAMES = ("Alice", "Bob Miller", "Carla", "Dr Weber", "Zürich", "Acme Corp", "Ōsaka")
FOREIGN = ("Xavier", "Yolanda Quist", "Wilhelmina", "Quito")
NUMBERS = ("12", "3.5", "1,200", "7 %", "40 million", "-8")
OTHERS = ("13", "99", "4.5", "1,201", "8 %", "41 million")
IDS = ("ord_00012", "https://example.org/a", "2024-05-06", "A-113", "bob@example.org")
ALIENS = ("ord_00013", "https://example.org/b", "2024-05-07", "A-114", "rob@example.org")

FRAMES = (
    "Then {a} told the others of {n} boxes that stood near {i}.",
    "{a} has seen {n} of them, which is {i}.",
    "The order {i} (for {a}) has {n} parts.",
    "- In short, {a} brought along {n} boxes.",
    "It is known that {i} was made by {a}, with {n} parts in all.",
)


def sentences(
    names: Sequence[str], numbers: Sequence[str], ids: Sequence[str]
) -> st.SearchStrategy[str]:
    return st.builds(
        lambda frame, a, n, i: frame.format(a=a, n=n, i=i),
        st.sampled_from(FRAMES),
        st.sampled_from(names),
        st.sampled_from(numbers),
        st.sampled_from(ids),
    )


told = sentences(NAMES, NUMBERS, IDS)
mixed = sentences([*NAMES, *FOREIGN], [*NUMBERS, *OTHERS], [*IDS, *ALIENS])
WHOLE = Known.of(
    " ".join(f"We met {a} near {n} boxes and {i}." for a in NAMES for n in NUMBERS for i in IDS)
)


@given(st.lists(told, min_size=1, max_size=6))
def test_what_is_supported_stays_byte_for_byte(summary: list[str]) -> None:
    text = "\n".join(summary)
    found = faithful(text, WHOLE)
    assert found.text == text
    assert {one.fate for one in found.sentences} == {"kept"}


@given(st.lists(mixed, min_size=1, max_size=6))
def test_nothing_unsupported_survives(summary: list[str]) -> None:
    """By an oracle that knows what is foreign."""
    found = faithful("\n".join(summary), WHOLE)
    for alien in (*FOREIGN, *OTHERS, *ALIENS):
        assert not re.search(rf"(?<![\w.,-]){re.escape(alien)}(?![\w]|[.,]\d)", found.text)
    for one in found.sentences:
        foreign = any(alien in one.was for alien in (*FOREIGN, *OTHERS, *ALIENS))
        assert foreign or one.fate == "kept"
    again = faithful(found.text, WHOLE)
    assert again.text == found.text


@given(st.text(max_size=300), st.text(max_size=120))
def test_any_text_at_all(source: str, summary: str) -> None:
    found = faithful(summary, source)
    known = Known.of(source)
    assert len(found.text) < max(len(source), 1)
    for one in found.sentences:
        assert not known.lacks(one.text)
        assert all(0 <= start < end <= len(source) for start, end in one.sources)
        assert 0 <= one.support <= 1 + 1e-9
    if not known.lacks(summary) and not found.dropped and not found.refused:
        units = split(summary, "sentence")
        assert found.text == (summary[units.starts[0] : units.ends[-1]] if len(units) else "")


@given(st.lists(st.sampled_from(split(SOURCE, "sentence").texts), max_size=4))
def test_copied_sentences_are_never_touched(copied: list[str]) -> None:
    text = " ".join(copied)
    found = faithful(text, SOURCE)
    assert found.refused or found.text == text


@given(st.text(max_size=200))
def test_facts_lie_where_they_are_said_to(text: str) -> None:
    for fact in facts_of(text):
        assert text[fact.start : fact.end].startswith(fact.text[:1])
        assert 0 <= fact.start < fact.end <= len(text)


def test_amounts_are_read_in_digits_and_words() -> None:
    for text, value, unit in (
        ("three hundred and fifty", 350, ""),
        ("twenty-five", 25, ""),
        ("two million dollars", 2_000_000, "dollar"),
        ("$2 million", 2_000_000, "dollar"),
        ("five-minute", 5, "min"),
        ("1,234.56", Decimal("1234.56"), ""),
        ("a hundred", 100, ""),
    ):
        (fact,) = facts_of(text)
        assert fact.key == (Decimal(value).normalize(), unit)
    assert facts_of("one of them") == []


def test_mending_ends() -> None:
    assert (
        mended("Carol, Dave, Erin, Frank, Grace, Heidi and Ivan all came here.", Known.of(SOURCE))
        == ""
    )


def test_a_long_source_is_no_matter() -> None:
    found = faithful("Alice Smith set a budget. Carol came.", SOURCE * 100 + "a(" * 50_000)
    assert found.text == "Alice Smith set a budget."
