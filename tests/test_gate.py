"""The gate tells what a question asks for, and whether its context is about it."""

from __future__ import annotations

import pytest

from tersely.rag.gate import Signs, verdict

PROSE = "The kettle is in the kitchen, and it has been there for a year. It is blue. " * 5

NEAR = Signs(coverage=0.9, nearness=0.7, enough=0.4, text=PROSE)
FAR = Signs(coverage=0.1, nearness=0.2, enough=0.4, text=PROSE)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Summarise the report.", "a summary"),
        ("Give me an overview of the meeting", "a summary"),
        ("What is the text about?", "a summary"),
        ("List all the authors.", "a list"),
        ("What are all the side effects named?", "a list"),
        ("How many people died in total?", "a count"),
        ("What is the difference between the kettle and the teapot?", "a comparison"),
        ("Which is taller, the Eiffel Tower or Big Ben?", "a comparison"),
        ("Were both of them born in Graz?", "a comparison"),
        ("Where was the author of Hannibal and Scipio educated?", "several steps"),
        ("Who is the spouse of the child of Peter Heiberg?", "several steps"),
        ("What is the capital of the county that Pine Springs is located in?", "several steps"),
        ("What team was Anna Benson's husband on?", "several steps"),
        ("Who was the author of Hannibal and Scipio?", "one thing"),
        ("Who wrote the opera Nightfall?", "one thing"),
        ("When was the kettle made?", "one thing"),
        ("How many litres does the kettle hold?", "one thing"),
    ],
)
def test_a_question_tells_what_it_asks_for(question: str, reason: str) -> None:
    said = verdict(question, NEAR)
    assert reason in said.reason
    assert said.action == ("pick" if reason == "one thing" else "coarse")
    assert said.steps == (reason in ("several steps", "a comparison"))


def test_context_about_something_else_is_dropped() -> None:
    asked = "When was the treaty of Utrecht signed?"
    assert verdict(asked, NEAR).action == "pick"
    said = verdict(asked, FAR)
    assert said.action == "drop"
    assert "0.18, at least 0.40" in said.reason


def test_words_alone_decide_where_nobody_embeds() -> None:
    asked = "When was the treaty of Utrecht signed?"
    told = [Signs(coverage=share, text=PROSE) for share in (0.2, 0.6)]
    assert [verdict(asked, signs).action for signs in told] == ["drop", "pick"]
    assert told[0].relevance == 0.2


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Wann wurde der Vertrag unterzeichnet?", PROSE),
        ("When was the treaty of Utrecht signed?", "Der Kessel steht seit einem Jahr hier. " * 9),
        ("When was the treaty of Utrecht signed?", "1,2,3,4\n5,6,7,8\n" * 30),
        ("And why?", PROSE),
        ("Nightfall premiere", PROSE),
        ("Summarise it.", PROSE),
    ],
)
def test_nothing_is_dropped_that_can_not_be_judged(question: str, text: str) -> None:
    assert verdict(question, Signs(coverage=0, nearness=0, text=text)).action != "drop"


def test_two_documents_that_are_named_are_two_steps() -> None:
    said = verdict("Did Ada Brandt know Otto Weber?", Signs(coverage=1, named=2))
    assert (said.action, said.steps) == ("coarse", True)
    assert "2 documents" in said.reason


def test_where_nothing_stands_out_more_is_kept() -> None:
    flat = Signs(coverage=1, flatness=0.8)
    assert verdict("Who wrote the opera Nightfall?", flat).reason.startswith("no part")
