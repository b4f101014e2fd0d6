"""The first gate: which questions suit points that are written side by side."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tersely import registry
from tersely.artefact import About, save
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Completion, Request
from tersely.errors import ConfigError, ModelError
from tersely.plans import Reply, Step
from tersely.prompt import Prompt, Segment
from tersely.sot.classifier import SHIPPED, classifier
from tersely.sot.logistic import Dense, chances, fitted
from tersely.sot.ngrams import WIDTH, Sparse, counted
from tersely.sot.router import Router, letter_chances, routed
from tersely.sot.rules import Verdict, opted_out, ruled
from tersely.sot.train_router import RouterTrainer, auc
from tersely.training import Training

QUESTIONS = Path(__file__).resolve().parents[1] / "benchmarks" / "router_questions.jsonl"

BY_WORDS = Router(meaning=False)


def request(question: str, **settings: Any) -> Request:
    segment = Segment(text=question, kind="question", path=(0,))
    return Request(prompt=Prompt((segment,), turns=1), **{"max_tokens": 512, **settings})


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Write a Python function that sorts names.", "wants code"),
        ("Why is ```x = 1``` slow?", "wants code"),
        ("What is 12 * 7?", "wants sums"),
        ("How many moons has Saturn?", "wants sums"),
        ("List the benefits of tea as JSON.", "wants a form"),
        ("What are the benefits of tea? Answer in 20 words.", "wants little"),
        ("What are the benefits of tea, in one sentence?", "wants little"),
        ("Translate into Greek: the main benefits of tea", "wants a translation"),
        ("Explain step by step how tea is made.", "goes step by step"),
        ("Write me a short poem on the benefits of tea.", "wants a text of one piece"),
        ("  ", "nothing is asked"),
    ],
)
def test_what_asks_for_one_piece_is_refused(question: str, reason: str) -> None:
    told = routed(question)
    assert (told.suits, told.reason) == (False, reason)


@pytest.mark.parametrize(
    "question",
    [
        "What are the main benefits of tea?",
        "Which factors decide on the price of tea, and what are the differences?",
        "Give me some tips for making tea.",
        "Tell me the pros and cons of tea bags.",
    ],
)
def test_what_asks_for_a_list_is_taken(question: str) -> None:
    assert ruled(question) == Verdict(suits=True, chance=0.9, reason="asks for a list")


@pytest.mark.parametrize(
    "question", ["Name 3-5 tips for 24/7 shops.", "Reasons for the war of 1914-1918"]
)
def test_a_range_is_no_sum(question: str) -> None:
    told = ruled(question)
    assert told is None or told.suits


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"logprobs": True}, "probabilities"),
        ({"alternatives": 3}, "probabilities"),
        ({"stop": ("\n",)}, "stop at"),
        ({"max_tokens": 40}, "40 tokens"),
    ],
)
def test_what_the_caller_set_goes_first(settings: dict[str, Any], reason: str) -> None:
    question = "What are the main benefits of tea?"
    assert reason in Router().routed_request(request(question, **settings)).reason
    assert Router().routed_request(request(question)).suits


def test_tools_forms_and_several_answers_are_opted_out() -> None:
    asked = request("What are the main benefits of tea?")
    tools = Request(prompt=Prompt(asked.prompt.segments, tools="[]"), max_tokens=512)
    assert opted_out(tools) == "tools may be called"
    soft = (*asked.prompt.segments, Segment(text="[note]", kind="soft"))
    assert opted_out(replace(asked, prompt=Prompt(soft))) == "vectors stand in the prompt"
    assert opted_out(asked, structured=True) == "the form of the answer is bound"
    assert opted_out(asked, choices=2) == "2 answers are wanted"
    assert opted_out(asked) == ""


def test_the_classifier_decides_where_rules_are_silent() -> None:
    yes, no = "How can I become a calmer driver?", "Who sang at the opening of the stadium?"
    assert ruled(yes) is ruled(no) is None
    assert BY_WORDS.routed(yes).suits and not BY_WORDS.routed(no).suits
    assert BY_WORDS.routed(yes).reason.startswith("the classifier says 0.")
    assert BY_WORDS.routed(yes).reason.endswith("by words")
    strict = Router(meaning=False, threshold=0.99)
    assert not strict.routed(yes).suits
    assert not strict.routed("What are the main benefits of tea?").suits


@given(st.text(max_size=300))
def test_any_text_is_routed_and_always_alike(question: str) -> None:
    told = BY_WORDS.routed(question)
    assert 0 <= told.chance <= 1
    assert told.suits == (told.chance >= 0.5)
    assert told == BY_WORDS.routed(question)


@pytest.mark.model
def test_meaning_counts_where_the_encoder_is_at_hand() -> None:
    made = classifier()
    question = "How can I become a calmer driver?"
    by_words, both = made.by_words([question])[0], made.chances([question])[0]
    told = routed(question)
    assert made.reads_meaning and both != by_words
    assert told.chance == pytest.approx(both)
    assert told.reason.endswith("by words and meaning")


def test_without_the_encoder_words_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    assert not classifier().reads_meaning
    assert routed("How can I become a calmer driver?").reason.endswith("by words")


def steps_of(
    router: Router, asked: Request, backend: ScriptedBackend
) -> Generator[Step, Reply, Verdict]:
    return router.asking(asked, backend)


def carried_out(router: Router, question: str, backend: ScriptedBackend) -> Verdict:
    steps = steps_of(router, request(question), backend)
    try:
        step = next(steps)
        while True:
            assert isinstance(step, list)
            step = steps.send(backend.complete(step))
    except StopIteration as done:
        told = done.value
        assert isinstance(told, Verdict)
        return told


UNSURE = Router(meaning=False, unsure=0.0, sure=1.0)


def test_the_model_is_asked_for_one_token_where_nothing_is_sure() -> None:
    likely = {"A": np.log(0.6), " B": np.log(0.1), "C": np.log(0.1), "The": np.log(0.2)}
    backend = ScriptedBackend(
        [Completion(text="A", alternatives=(likely,))],
        capabilities=frozenset({"alternatives"}),
    )
    told = carried_out(UNSURE, "How is the harbour?", backend)
    assert told.chance == pytest.approx(0.75) and told.suits
    assert told.reason.startswith("the model says 0.75, after the classifier")
    (seen,) = backend.requests
    assert (seen.max_tokens, seen.alternatives) == (1, 10)
    assert "How is the harbour?" in seen.prompt.text


def test_without_alternatives_its_letter_counts() -> None:
    for said, chance in (("A", 1.0), (" b)", 0.0), ("(C", 0.0)):
        backend = ScriptedBackend([said])
        assert carried_out(UNSURE, "How is the harbour?", backend).chance == chance
        assert backend.requests[0].alternatives == 0


def test_a_model_that_names_no_letter_changes_nothing() -> None:
    told = carried_out(UNSURE, "How is the harbour?", ScriptedBackend(["Well"]))
    assert told == UNSURE.routed("How is the harbour?")
    assert letter_chances(Completion(text="", alternatives=({"It": -0.1},))) is None


@pytest.mark.parametrize("question", ["What are the main benefits of tea?", "What is 3 + 4?"])
def test_it_is_not_asked_where_a_rule_tells(question: str) -> None:
    backend = ScriptedBackend([])
    assert carried_out(UNSURE, question, backend) == UNSURE.routed(question)


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError, match="must not be above"):
        Router(unsure=0.9, sure=0.1)
    with pytest.raises(ValidationError, match=r"must hold \{question\}"):
        Router(question="A, B or C?")


def test_ngrams_tell_how_a_question_opens() -> None:
    one, two = counted(["What is tea"]), counted(["tea is What"])
    assert set(one.columns) != set(two.columns)
    empty = counted(["", "tea"])
    assert empty.shape == (2, WIDTH)
    assert empty.scaled(empty.rarity()).times(np.ones(WIDTH))[1] > 0


def test_the_fit_finds_the_least_of_its_function() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(60, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = (rows[:, 0] + 0.3 * draw.normal(size=60) > 0).astype(float)
    penalty = 0.01
    found = fitted(Dense(rows), labels, penalty, 400)
    usual = np.log(labels.mean() / (1 - labels.mean()))
    wrong = (chances(rows @ found[:-1] + found[-1]) - labels) / len(rows)
    slope = np.append(rows.T @ wrong, wrong.sum()) + penalty * np.append(
        found[:-1], found[-1] - usual
    )
    assert np.abs(slope).max() < 1e-6
    places = np.nonzero(rows)
    sparse = Sparse(places[0], places[1], rows[places], (60, 5))
    assert fitted(sparse, labels, penalty, 400) == pytest.approx(found)


def test_auc_counts_pairs_and_halves_ties() -> None:
    assert auc(np.array([1.0, 0, 1, 0]), np.array([0.9, 0.1, 0.5, 0.5])) == 0.875
    assert auc(np.ones(3), np.arange(3.0)) == 0.5


ROWS = [
    {"question": f"{opening} {thing}?", "suits": suits}
    for opening, suits in (("What are the uses of", True), ("Who made the", False))
    for thing in ("tea", "lamp", "boat", "road", "clock", "wheel", "bell", "knife")
]


def test_what_was_learned_is_read_back(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    training = Training(
        rows=ROWS,
        out=tmp_path / "out",
        progress=lambda done, total, figures: told.append((done, total)),
    )
    trainer = registry.trainer("router", encoder="")
    folder = trainer.train(training)
    assert told[-1][0] == told[-1][1] == 600
    made = classifier(str(folder))
    assert made.about.figures["accuracy"] == 1.0 and made.about.rows == len(ROWS)
    assert not made.reads_meaning
    mine = Router(trained=str(folder))
    assert mine.routed("What are the uses of sand?").suits
    assert not mine.routed("Who made the piano?").suits
    again = RouterTrainer(encoder="").train(Training(rows=ROWS, out=tmp_path / "again"))
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.model
def test_a_stopped_training_goes_on_with_the_vectors_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tersely.sot import train_router

    monkeypatch.setattr(train_router, "BATCH", 6)
    read: list[int] = []

    def stop(done: int, total: int, figures: object) -> None:
        read.append(done)
        if len(read) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RouterTrainer(steps=5).train(Training(rows=ROWS, out=tmp_path, progress=stop))
    assert read == [6, 12]
    RouterTrainer(steps=5).train(Training(rows=ROWS, out=tmp_path, progress=stop))
    assert read[2] == 16
    assert not (tmp_path / "checkpoint").exists()
    assert len(classifier(str(tmp_path)).meaning) == 385


def test_rows_that_teach_nothing_are_told(tmp_path: Path) -> None:
    def train(rows: list[dict[str, Any]]) -> None:
        RouterTrainer(encoder="").train(Training(rows=rows, out=tmp_path))

    with pytest.raises(ConfigError, match="needs 2 rows or more, and has 1"):
        train(ROWS[:1])
    with pytest.raises(ConfigError, match="says the same"):
        train(ROWS[:4])
    with pytest.raises(ConfigError, match="row 2: suits"):
        train([ROWS[0], {"question": "Why?", "suits": "perhaps"}])


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tersely train makes one"):
        Router(trained=str(tmp_path)).routed("How is the harbour?")
    save(tmp_path, About(recipe="dynaicl"))
    with pytest.raises(ModelError, match="not for 'router'"):
        Router(trained=str(tmp_path)).routed("How is the harbour?")
    save(tmp_path, About(recipe="router"))
    (tmp_path / "model.safetensors").write_bytes(b"\x00")
    with pytest.raises(ModelError, match="cannot be read"):
        Router(trained=str(tmp_path)).routed("How is the harbour?")


def test_what_ships_was_learned_from_the_questions_in_the_repository() -> None:
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    made = classifier()
    assert made.about.rows == len(rows) == len({row["question"] for row in rows})
    labels = np.array([row["suits"] for row in rows], float)
    told = made.by_words([row["question"] for row in rows])
    assert ((told >= 0.5) == (labels > 0.5)).mean() > 0.97
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 200_000
