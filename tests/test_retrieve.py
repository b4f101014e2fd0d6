"""Retrieval in a prompt's own context: what answers is kept, and what was done is told."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.contracts import Context
from tersely.errors import ConfigError, UnknownName
from tersely.middleware.pipeline import Pipeline, compress
from tersely.prompt import Prompt, Segment
from tersely.rag.retrieve import Retrieve
from tersely.rag.weighing import read
from tersely.registry import as_stage, spelled, stage
from tersely.retrieval import Vectors
from tersely.select import MARK
from tersely.tokens import counter

COUNT = counter("gpt-4o")

PEOPLE = {
    "Ada Brandt": "She was a painter, and she lived in Vienna for most of her life.",
    "Otto Weber": "He raised sheep in the hills above the town.",
    "Mira Kovac": "She wrote novels about the sea, and the best of them is Saltwind.",
    "Pavel Novak": "He sailed around the world in a boat that he had built.",
    "Ines Moreau": "She was a pilot, and was the first to cross the strait by night.",
    "Jan Petrov": "He made clocks for the court, and they are still running.",
}
PASSAGES = "\n\n".join(
    f"{name}\n{told} It is said that the winters were long then. They are remembered to this day."
    for name, told in PEOPLE.items()
)
ASKED = "Who wrote novels about the sea?"


def kept(text: str, question: str, ratio: float, **settings: Any) -> str:
    chosen = {"embedder": ""} | settings
    made = compress(text, {"retrieve": chosen}, budget=ratio, question=question, model="gpt-4o")
    assert made.report.met
    return str(made.output)


@pytest.mark.parametrize("embedder", ["", "static"])
def test_what_answers_is_kept_with_its_title_and_the_rest_is_marked(embedder: str) -> None:
    made = kept(PASSAGES, ASKED, 0.25, embedder=embedder)
    assert "Mira Kovac\nShe wrote novels about the sea" in made
    assert f"\n\n{MARK}\n\nMira Kovac" in made or made.startswith(f"{MARK}\n\nMira Kovac")
    assert "Otto" not in made


def test_the_budget_holds_marks_and_all() -> None:
    for ratio in (0.9, 0.6, 0.3, 0.1, 0.05):
        size = COUNT(kept(PASSAGES, ASKED, ratio, elision="[... left out ...]"))
        assert size <= int(COUNT(PASSAGES) * ratio)
    assert MARK not in kept(PASSAGES, ASKED, 0.4, elision="")


def test_meaning_finds_what_no_word_tells() -> None:
    sentences = [f"The {thing} is {colour} and very old." for thing, colour in VESSELS.items()]
    text = " ".join([*sentences[:3], "The physician examined his patients.", *sentences[3:]])
    asked = "What did the doctor do at the hospital?"
    found = ["physician" in kept(text, asked, 0.3, embedder=e, gate=False) for e in ("static", "")]
    assert found == [True, False]


def test_context_about_something_else_is_dropped_even_without_a_budget() -> None:
    asked = "When was the treaty of Utrecht signed by the ambassadors?"
    for budget in (None, 0.5):
        made = Pipeline({"retrieve": {"embedder": "static"}}, budget=budget).run(
            PASSAGES, question=asked
        )
        assert made.output == MARK
        assert any("dropped" in note and "something else" in note for note in made.report.notes)
        open_gate = {"retrieve": {"embedder": "static", "gate": False}}
        left = Pipeline(open_gate, budget=budget).run(PASSAGES, question=asked).output
        assert (left == PASSAGES) == (budget is None)
        assert left != MARK


def test_what_is_marked_and_locked_outlives_the_gate() -> None:
    asked = "When was the treaty of Utrecht signed by the ambassadors?"
    prompt = Prompt(
        (Segment(text=PASSAGES, spans=((0, 10),)), Segment(text="Stay.", locked=True, path=(1,))),
        question=asked,
    )
    made = Retrieve(embedder="static")(prompt, Context(count=COUNT))
    assert made.segments[0].text.startswith("Ada Brandt")
    assert "painter" not in made.segments[0].text
    assert made.segments[1] == prompt.segments[1]


def test_without_a_budget_context_to_the_point_stays_as_it_is() -> None:
    made = Pipeline({"retrieve": {"embedder": "static"}}).run(PASSAGES, question=ASKED)
    assert made.output == PASSAGES


def test_json_is_left_alone() -> None:
    rows = json.dumps([{"name": name, "told": told} for name, told in PEOPLE.items()])
    prompt = Prompt((Segment(text=rows), Segment(text=PASSAGES, path=(1,))), question=ASKED)
    context = Context(count=COUNT, limit=COUNT(rows) + COUNT(PASSAGES) // 3)
    made = Retrieve(embedder="")(prompt, context)
    assert made.segments[0].text == rows
    assert "Mira Kovac" in made.segments[1].text


def test_spans_and_scores_are_told() -> None:
    prompt = Prompt((Segment(text=PASSAGES),), question=ASKED)
    found = Retrieve(embedder="static").explained(prompt, Context(count=COUNT, limit=60))
    best = max(found.passages, key=lambda one: one.score)
    assert "wrote novels about the sea" in best.text
    assert found.verdict.action == "pick"
    at = 0
    for one in found.passages:
        assert PASSAGES[one.start : one.end] == one.text
        assert one.source == "0"
        at = found.prompt.text.index(one.text, at) + len(one.text)
    assert 0 <= min(one.score for one in found.passages) <= best.score


def test_provenance_goes_around_the_marks() -> None:
    pipeline = Pipeline({"retrieve": {"embedder": ""}}, budget=0.4)
    made = pipeline.run(PASSAGES, question=ASKED)
    assert len(made.provenance) > 1
    for origin in made.provenance:
        assert MARK not in made.output[slice(*origin.output)]
        assert made.output[slice(*origin.output)] == PASSAGES[slice(*origin.source)]


def test_a_second_step_is_taken_from_title_to_title() -> None:
    filler = " ".join(f"Nothing of note happened in {year}." for year in range(1900, 1906))
    told = {
        "Ada Brandt": f"Ada Brandt wrote the opera Nightfall. {filler}",
        "Nightfall (opera)": f"It had its premiere in Trieste. {filler}",
        "Otto Weber": f"He raised sheep. {filler}",
        "Graz": f"It is a city. {filler}",
    }
    text = "\n\n".join(f"{title}\n{one}" for title, one in told.items())
    asked = "Where was the opera that Ada Brandt wrote first performed?"
    assert "Trieste" in kept(text, asked, 0.5)
    assert "Trieste" not in kept(text, asked, 0.3, linked=0)


def test_in_several_steps_longer_stretches_and_the_beginning_are_kept() -> None:
    names = ("with", "while", "lambda", "for", "if")
    text = "\n\n".join(" ".join(topics.topics[name].split()) for name in names)
    asked = "What is the type of the value of the expression that the lambda returns?"
    coarse, fine = (kept(text, asked, 0.4, on_uncertain=how) for how in ("coarse", "pick"))
    assert coarse.startswith(text[:200])
    assert not fine.startswith(text[:200])
    assert coarse.count(MARK) < fine.count(MARK)


def test_a_small_budget_for_a_large_question_is_told_and_kept() -> None:
    text = topics.topics["with"] + "\n\n" + topics.topics["while"]
    made = compress(
        text, {"retrieve": {"embedder": ""}}, budget=0.1, question="Summarise the text."
    )
    assert made.report.met
    assert any("35% is advised" in note for note in made.report.notes)
    enough = compress(
        text, {"retrieve": {"embedder": ""}}, budget=0.6, question="Summarise it all."
    )
    assert not any("advised" in note for note in enough.report.notes)


def test_an_uncertain_context_is_left_alone_on_demand() -> None:
    made = compress(
        PASSAGES,
        {"retrieve": {"embedder": "", "on_uncertain": "keep"}},
        budget=0.3,
        question="Summarise the text.",
    )
    assert made.output == PASSAGES
    assert any("left alone: it asks for a summary" in note for note in made.report.notes)


def test_without_a_question_what_the_texts_share_is_kept() -> None:
    prompt = Prompt((Segment(text=topics.topics["with"]),))
    context = Context(count=COUNT, limit=200)
    made = Retrieve(embedder="static")(prompt, context)
    assert 0 < context.tokens(made) <= 200
    assert "with" in made.text


def test_a_budget_too_small_for_any_sentence_holds_the_beginning_of_the_best() -> None:
    made = kept(PASSAGES, ASKED, 0.07)
    assert made.strip(f"{MARK}\n ")
    assert COUNT(made) <= int(COUNT(PASSAGES) * 0.07)


def test_worked_examples_stay_whole() -> None:
    shown = [f"Question: What is {i} and {i}? Think.\nAnswer: It is {2 * i}." for i in range(9)]
    prompt = Prompt(
        (Segment(text="\n\n".join(shown), kind="example"),), question="What is 7 and 7? Think."
    )
    made = Retrieve(embedder="", elision="", gate=False)(prompt, Context(count=COUNT, limit=60))
    parts = made.text.strip().split("\n\n")
    assert len(parts) > 1
    assert set(parts) <= set(shown)


class OfMyOwn:
    """An embedder of the caller's: it is near to what mentions sheep."""

    key, width = "mine", 2

    def documents(self, texts: Sequence[str], /) -> Vectors:
        rows = [[1.0, 0.0] if "sheep" in text else [0.0, 1.0] for text in texts]
        return np.array(rows, np.float32)

    def queries(self, texts: Sequence[str], /) -> Vectors:
        return np.array([[1.0, 0.0]] * len(texts), np.float32)


def test_an_embedder_of_the_callers_decides() -> None:
    made = kept(PASSAGES, "Whose flock was it?", 0.25, embedder=OfMyOwn(), gate=False)
    assert "He raised sheep" in made


def test_time_that_is_spent_stops_it() -> None:
    made = compress(
        PASSAGES,
        {"retrieve": {"embedder": "static"}},
        budget={"ratio": 0.3, "ms": 1e-6},
        question=ASKED,
    )
    assert made.output == PASSAGES
    assert any("time budget" in note for note in made.report.notes)


@given(
    st.lists(st.sampled_from(["# A\n", "b c. ", "d\n", "\n\n", "```\nx\n```\n", "é"]), max_size=30)
)
def test_sentences_documents_and_chunks_agree(pieces: list[str]) -> None:
    text = "".join(pieces)
    segments = (Segment(text=text), Segment(text="Title\nOne. Two.\n\nThree."))
    texts = read(segments, 8, Context(count=COUNT))
    for row in (texts.documents, texts.chunks):
        assert row[0] == 0
        assert set(np.diff(row).tolist()) <= {0, 1}
    assert texts.documents[-1] + 1 == len(texts.titles)
    assert (np.diff(texts.chunks) >= np.diff(texts.documents)).all()
    assert (texts.documents[texts.leads] == texts.documents).all()
    assert texts.titled[-3:] == ["Title", "Title: One.", "Title: Two.", "Three."][-3:]


def test_it_is_spelled_and_read_back() -> None:
    made = stage("retrieve", embedder={"static": {"width": 64}}, reach=0)
    assert as_stage(spelled(made)) == made
    assert spelled(Retrieve()) == "retrieve"


@pytest.mark.parametrize(
    "setting", [{"dense": 2}, {"document": -1}, {"size": 0}, {"floor": 2}, {"order": "up"}]
)
def test_a_bad_setting_is_told_with_its_value(setting: dict[str, Any]) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(ConfigError, match=f"retrieve.*{name}.*{value}"):
        stage("retrieve", **setting)


def test_an_embedder_that_is_not_known_is_told_when_a_pipeline_is_built() -> None:
    with pytest.raises(UnknownName, match=r"statik.*static"):
        Pipeline({"retrieve": {"embedder": "statik"}})


VESSELS = {"kettle": "blue", "bucket": "red", "barrel": "brown", "jug": "white", "tank": "green"}
