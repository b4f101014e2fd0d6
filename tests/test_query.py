"""The default recipe: what a question needs, with its neighbours, and nothing that it lacks."""

from __future__ import annotations

import pydoc_data.topics as topics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.documents import documents_of, named_in, titled
from tersely.errors import ConfigError
from tersely.middleware.pipeline import Pipeline, compress
from tersely.nearby import smoothed
from tersely.order import stand_alone
from tersely.registry import stage
from tersely.units import Units, split

HAY = "\n\n".join(topics.topics[name] for name in ("with", "while", "lambda"))
NEEDLE = "The treasure is buried beneath the old oak."


def test_the_sentence_that_answers_is_kept() -> None:
    text = f"{HAY[:3000]} {NEEDLE} {HAY[3000:]}"
    for ratio in (0.5, 0.1):
        made = compress(
            text, {"query": {"encoder": ""}}, budget=ratio, question="Where is the treasure buried?"
        )
        assert NEEDLE in made.output


@pytest.mark.model
def test_meaning_finds_what_no_word_tells() -> None:
    told = "They wed in a small chapel in the spring of 1987."
    lines = [f"The {thing} holds {i} litres of water." for i, thing in enumerate(VESSELS, start=2)]
    text = " ".join([*lines[:4], told, *lines[4:]])
    asked = "When did the couple marry?"
    kept = [
        told
        in compress(
            text, {"query": {"encoder": one, "reach": 0}}, budget=0.2, question=asked
        ).output
        for one in ("minilm", "")
    ]
    assert kept == [True, False]


def test_neighbours_are_kept_together() -> None:
    text = f"{HAY[:1500]} {NEEDLE} Dig two feet deep. Bring a lamp. {HAY[1500:]}"
    asked = "Where is the treasure buried?"
    together, alone = (
        compress(text, {"query": {"encoder": "", "reach": reach}}, budget=0.15, question=asked)
        for reach in (500, 0)
    )
    assert "Dig two feet deep." in together.output
    assert "Dig two feet deep." not in alone.output


def test_without_a_question_it_keeps_what_the_text_is_about() -> None:
    aside = "My aunt prefers marmalade."
    text = f"{topics.topics['with']} {aside}"
    assert aside not in compress(text, "query", budget=0.5, question="").output


def test_worked_examples_are_taken_whole() -> None:
    shown = [
        f"Question: Ann has {i} {thing} and buys {i} more. How many {thing} has she?\n"
        f"Answer: She has {i} and {i}. That makes {2 * i}."
        for i, thing in enumerate(("pears", "boats", "hats", "coins", "cups", "pens"), start=2)
    ]
    asked = "Question: Tom has 9 coins and buys 9 more. How many coins has he?"
    made = compress("\n\n".join(shown), {"query": {"fill": None}}, budget=0.4, question=asked)
    left = made.output.strip().split("\n\n")
    assert left[-1] == shown[3]
    assert sum(one not in shown for one in left) <= 1
    assert all(any(one.startswith(part) for one in shown) for part in left)


def test_a_missing_encoder_is_told_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    made = compress(HAY, "query", budget=0.3, question="What does the else clause do?")
    assert made.report.met
    assert any("tersely models pull minilm" in note for note in made.report.notes)


def test_an_encoder_that_is_asked_for_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    with pytest.raises(OSError, match="tersely models pull minilm"):
        Pipeline({"query": {"encoder": "minilm"}})


@pytest.mark.parametrize(
    "setting",
    [{"lexical": -1}, {"meaning": -0.5}, {"reach": -1}, {"unit": "word"}, {"order": "up"}],
)
def test_a_bad_setting_is_told_with_its_value(setting: dict[str, Any]) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(ConfigError, match=f"query.*{name}.*{value}"):
        stage("query", **setting)


VESSELS = ("kettle", "bucket", "barrel", "bottle", "jug", "basin", "tank", "flask")

PEOPLE = {
    "Ada Brandt": "She was a painter.",
    "Otto Weber": "Otto Weber lives in Graz.",
    "Mira Kovac": "She wrote novels.",
    "Pavel Novak": "He sailed around the world.",
}

PASSAGES = {
    "titles": ("Ada Brandt\nShe was born.", "Otto Weber\nHe was not.", "Graz\nIt is a city."),
    "labels": ("Document [1] one", "Document [2] two", "Document [3] three"),
    "questions": ("Question: a?\nAnswer: b", "Question: c?\nAnswer: d", "Question: e?\nAnswer: f"),
}
IN_A_ROW = {
    "prose": ("It rained. We left.", "Then it stopped.", "We came back."),
    "steps": ("Step one\nMix it.", "Step two\nBake it.", "Step three\nEat it."),
    "dates": ("2024-01-02\nWe left.", "2024-01-03\nWe rested.", "2024-01-04\nWe arrived."),
    "speakers": ("Ann: hello", "Bob: hello", "Ann: bye"),
    "two": ("Ada Brandt\nShe was born.", "Otto Weber\nHe was not."),
}


@pytest.mark.parametrize("name", [*PASSAGES, *IN_A_ROW])
def test_only_documents_that_stand_by_themselves_may_move(name: str) -> None:
    text = "\n\n".join((PASSAGES | IN_A_ROW)[name])
    assert stand_alone(split(text, "paragraph")) == (name in PASSAGES)


def test_what_follows_one_from_another_stays_in_order() -> None:
    made = compress(HAY, {"query": {"encoder": ""}}, budget=0.4, question="What is a lambda?")
    sentences = [s for s in split(HAY, "sentence").texts if HAY.count(s) == 1 and len(s) > 40]
    places = [made.output.find(sentence) for sentence in sentences]
    there = [place for place in places if place >= 0]
    assert there == sorted(there)
    assert len(there) > 3


def test_the_best_passage_comes_last() -> None:
    filler = " ".join(split(topics.topics["lambda"], "sentence").texts[:6])
    passages = [f"{name}\n{told} {filler}" for name, told in PEOPLE.items()]
    asked = "In which town does Otto Weber live?"
    made = compress("\n\n".join(passages), "query", budget=0.7, question=asked)
    assert made.output.strip().split("\n\n")[-1].startswith("Otto Weber\nOtto Weber lives in Graz.")


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=30),
    st.floats(1, 10_000),
    st.data(),
)
def test_smoothing_is_a_weighted_mean(scores: list[float], reach: float, data: Any) -> None:
    sizes = data.draw(st.lists(st.integers(1, 300), min_size=len(scores), max_size=len(scores)))
    groups = np.sort(
        data.draw(st.lists(st.integers(0, 2), min_size=len(scores), max_size=len(scores)))
    )
    ends = np.cumsum(sizes)
    units = Units("x" * int(ends[-1]), ends - sizes, ends)
    found = smoothed(np.array(scores), [units], groups, reach)
    middles = ends - np.array(sizes) / 2
    near = np.exp(-np.abs(middles[:, None] - middles[None]) / reach) * np.array(sizes)
    near[groups[:, None] != groups[None]] = 0
    assert np.allclose(found, near @ np.array(scores) / near.sum(axis=1), atol=1e-6)


def test_smoothing_with_no_reach_changes_nothing() -> None:
    units = split("One. Two. Three.", "sentence")
    scores = np.array([1.0, 2.0, 3.0])
    assert smoothed(scores, [units], documents_of([units]), 0).tolist() == [1, 2, 3]
    everywhere = smoothed(scores, [units], documents_of([units]), np.inf)
    assert np.ptp(everywhere) < 1e-9


def test_titles_stand_before_what_belongs_to_them() -> None:
    text = "Ada Brandt\nShe was born in 1910. She died.\n\nNo title here. Just text."
    told = titled([split(text, "sentence")])
    assert told[1] == "Ada Brandt: She was born in 1910."
    assert told[-1] == "Just text."


def test_what_the_best_document_names_comes_along() -> None:
    filler = " ".join(f"Nothing of note happened in {year}." for year in range(1900, 1906))
    passages = {
        "Ada Brandt": f"Ada Brandt wrote the opera Nightfall. {filler}",
        "Nightfall (opera)": f"It had its premiere in Trieste. {filler}",
        "Otto Weber": f"He raised sheep. {filler}",
        "Graz": f"It is a city. {filler}",
    }
    text = "\n\n".join(f"{title}\n{told}" for title, told in passages.items())
    asked = "Where was the work of Ada Brandt first performed?"
    with_links, without = (
        compress(text, {"query": {"encoder": "", "linked": linked}}, budget=0.5, question=asked)
        for linked in (1, 0)
    )
    assert "Trieste" in with_links.output
    assert "Nightfall (opera)" in with_links.output
    assert "Trieste" not in without.output


@pytest.mark.parametrize(
    ("text", "title", "there"),
    [
        ("She wrote the opera Nightfall.", "Nightfall (opera)", True),
        ("she wrote NIGHTFALL", "Nightfall", True),
        ("She likes nightfalls.", "Nightfall", False),
        ("It is up to us.", "Up", False),
        ("In Sankt-Veit we met.", "Sankt Veit", True),
        ("", "Nightfall", False),
        ("anything", "", False),
    ],
)
def test_a_title_is_named_as_a_whole(text: str, title: str, there: bool) -> None:
    assert named_in(text, [title]).tolist() == [there]


@pytest.mark.model
def test_the_same_bytes_whatever_was_read_before() -> None:
    """Neither what is remembered, nor beside what it was read, nor threads change the result."""
    import torch

    from tersely.compressors import sentences

    asked = "What does the else clause do?"
    before = torch.get_num_threads()
    made = set()
    try:
        for threads, others in ((1, ""), (2, ""), (1, HAY[:2000]), (1, HAY[5000:])):
            torch.set_num_threads(threads)
            sentences.MEMORY.clear()
            if others:
                compress(others, "query", budget=0.5, question=asked)
            made.add(compress(HAY, "query", budget=0.3, question=asked).output)
    finally:
        torch.set_num_threads(before)
    assert len(made) == 1


LINES = [f"The work of row {chr(97 + i // 8)} went as it should." for i in range(80)]


def session(said: str, answer: str, asked: str, handed: str = "{}") -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": handed}}
    return {
        "model": "gpt-4o",
        "messages": [
            {"role": "user", "content": "Look it up."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": answer},
            {"role": "assistant", "content": said},
            {"role": "user", "content": asked},
        ],
    }


def test_of_an_answer_stays_what_a_call_or_the_question_names_and_what_failed() -> None:
    lines = list(LINES)
    lines[20] = "The gate B-77 opened."
    lines[21] = "Its lamp is green."
    lines[50] = "Room 1475 was empty."
    lines[66] = "The pump failed to start."
    request = session("Done.", "\n".join(lines), "What of 1475?", '{"gate": "B-77"}')
    kinds = ("tool_output", "log", "code")
    result = compress(request, {"query": {"kinds": kinds, "encoder": ""}}, budget=0.15)
    kept = result.output["messages"][2]["content"]
    assert all(lines[i] in kept for i in (20, 21, 50, 66))
    assert result.report.met


def test_what_the_question_agrees_to_stays_before_older_turns() -> None:
    offer = "I would book HAT136 for 255 dollars. Shall I?"
    request = session(offer, "A", "Yes, please do.")
    chatter = [{"role": "assistant", "content": "\n".join(LINES)}, request["messages"][0]]
    request["messages"] = chatter + request["messages"]
    cut = {"query": {"kinds": ("history",), "encoder": ""}}
    made = compress(request, cut, budget=0.1).output["messages"]
    assert made[-2]["content"] == offer
    assert len(made[0]["content"]) < 0.2 * len("\n".join(LINES))


def test_of_every_answer_something_stays() -> None:
    request = session("\n".join(LINES), "ann_lee_7", "And?")
    kinds = ("history", "tool_output")
    made = compress(request, {"query": {"kinds": kinds, "encoder": ""}}, budget=0.2).output
    assert made["messages"][2]["content"] == "ann_lee_7"
