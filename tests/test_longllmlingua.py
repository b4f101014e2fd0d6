"""LongLLMLingua: which documents it keeps, how much of each, and in which order."""

from __future__ import annotations

import pydoc_data.topics as topics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.budget import Budget
from tersely.contracts import Context
from tersely.errors import ConfigError, OutOfTime
from tersely.middleware.pipeline import Pipeline, compress
from tersely.prompt import Prompt, Segment
from tersely.registry import stage
from tersely.tokens import counter

QUESTION = "Where is the treasure of the old pirate buried?"
GOLD = (
    "The treasure of the old pirate is buried beneath the oak that stands behind the harbour"
    " church, as the keeper of the lighthouse wrote to his brother in the spring of that year."
)
OTHERS = [
    "The kettle in the kitchen was blue and made a whistling sound when the water was hot, which"
    " the children of the house liked better than any music that was played there.",
    "Taxes on windows were raised once more by the council, and most of the members went home"
    " early, since the weather had turned and the roads were bad for horses.",
    "In the north the farmers grow barley and oats on narrow fields, and they keep their sheep on"
    " the hills from May until the first snow falls on the pass.",
]
DOCUMENTS = [OTHERS[0], OTHERS[1], GOLD, OTHERS[2]]
TEXT = "\n\n".join(DOCUMENTS)


@pytest.fixture
def tiny(tiny_llama: Path) -> Iterator[str]:
    """A model of random weights, with nothing remembered from before."""
    from tersely.compressors.self_information import MEMORY

    MEMORY.clear()
    yield str(tiny_llama)
    MEMORY.clear()


def pruned(text: str, ratio: float, question: str = QUESTION, **given: Any) -> str:
    recipe = stage("longllmlingua", **given)
    made = compress(text, recipe, budget=ratio, question=question, strict=True)
    assert made.report.met
    return str(made.output)


def shares(text: str) -> list[float]:
    """How much of each document is left, in words."""
    left = text.split()
    return [
        sum(word in left for word in one.split()) / len(one.split())
        for one in (set_of(document) for document in DOCUMENTS)
    ]


def set_of(document: str) -> str:
    """The words of a document that no other one has."""
    others = " ".join(one for one in DOCUMENTS if one != document).split()
    return " ".join(word for word in document.split() if word not in others)


@pytest.mark.model
def test_the_document_that_answers_stays(smollm2: Path) -> None:
    left = shares(pruned(TEXT, 0.3))
    assert left[2] > 0.7
    assert sum(left[:2] + left[3:]) < 0.6


@pytest.mark.model
def test_the_best_document_is_written_first(smollm2: Path) -> None:
    left = pruned(TEXT, 0.6)
    assert "treasure" in left.split("\n\n")[0]
    kept = pruned(TEXT, 0.6, order="kept")
    assert "treasure" not in kept.split("\n\n")[0]
    assert sorted(left.split()) == sorted(kept.split())


@pytest.mark.model
def test_the_better_a_document_ranks_the_more_of_it_stays(smollm2: Path) -> None:
    from tersely.compressors.conditional import answerability
    from tersely.compressors.longllmlingua import RESTRICTIVE

    context = Context(count=counter("gpt-4o"))
    likely = answerability(DOCUMENTS, f"\n{QUESTION} {RESTRICTIVE}", "smollm2", context)
    best, last = int(np.argmax(likely)), int(np.argmin(likely))
    assert best == 2
    gaps = []
    for dynamic in (0.0, 0.3, 0.6):
        left = shares(pruned(TEXT, 0.5, coarse=100, dynamic=dynamic))
        gaps.append(left[best] - left[last])
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[2] > 0.7


@pytest.mark.model
def test_few_documents_are_kept_where_the_controller_is_coarse(smollm2: Path) -> None:
    touched = [
        sum(share > 0.1 for share in shares(pruned(TEXT, 0.3, coarse=coarse)))
        for coarse in (1.0, 100.0)
    ]
    assert touched[0] < touched[1]


@pytest.mark.model
def test_words_that_the_question_makes_likelier_go_first(smollm2: Path) -> None:
    left = pruned(GOLD, 0.4).split()
    assert {"treasure", "pirate"} <= set(left)


@pytest.mark.model
def test_the_likelihood_of_the_question_is_the_model_s_own(smollm2: Path) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from tersely.compressors import self_information
    from tersely.compressors.conditional import answerability, with_tail
    from tersely.weights import causal_lm

    self_information.MEMORY.clear()
    context = Context(count=counter())
    lm = causal_lm()
    heard = with_tail(DOCUMENTS, QUESTION, "smollm2", context)
    assert answerability(DOCUMENTS, QUESTION, "smollm2", context) == pytest.approx(
        [-one.tail.scores.mean() for one in heard]
    )
    for document, one in zip(DOCUMENTS, heard, strict=True):
        own, said = (
            lm.tokenizer(part, add_special_tokens=False).input_ids for part in (document, QUESTION)
        )
        ids = torch.tensor([[lm.tokenizer.bos_token_id, *own, *said]])
        with torch.no_grad():
            logits = lm.model(ids).logits[0, :-1].float()
        wanted = cross_entropy(logits, ids[0, 1:], reduction="none").numpy()
        assert np.abs(one.own.scores - wanted[: len(own)]).mean() < 0.1
        assert np.abs(one.tail.scores - wanted[len(own) :]).mean() < 0.1


@pytest.mark.parametrize("size", [0, 1, 200, 3000])
def test_a_text_of_any_length_is_heard(size: int, tiny: str) -> None:
    """The model reads 256 tokens: longer texts are read in windows, and the best one counts."""
    from tersely.compressors.conditional import with_tail
    from tersely.compressors.self_information import MEMORY, surprise

    context = Context(count=counter())
    text = ("the lazy dog " * 1000)[:size]
    (heard,) = with_tail([text], "a fox? yes", tiny, context)
    MEMORY.clear()
    (alone,) = surprise([text], tiny, context)
    assert heard.own.scores == pytest.approx(alone.scores, abs=0.05)
    assert len(heard.tail)
    assert np.isfinite(heard.tail.scores).all()


def test_an_answer_far_into_a_long_document_is_heard(tiny: str) -> None:
    from tersely.compressors.conditional import answerability

    context = Context(count=counter())
    filler = "the lazy dog jumps. " * 100
    tail = "brown fox"
    parts = [filler, "brown fox brown fox " * 10]
    alone = answerability(parts, tail, tiny, context)
    better = parts[int(np.argmax(alone))]
    worse = parts[int(np.argmin(alone))]
    both = answerability([worse * 3 + better * 12 + worse * 3, worse * 6], tail, tiny, context)
    assert both[0] > both[1]


def test_documents_are_read_once_for_a_question(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tersely.compressors import self_information

    read: list[int] = []
    score = self_information._Prefix.score
    monkeypatch.setattr(
        self_information._Prefix,
        "score",
        lambda self, windows, width: read.append(len(windows)) or score(self, windows, width),
    )
    for _ in range(2):
        for ratio in (0.5, 0.3):
            pruned(TEXT, ratio, model=tiny)
    assert sum(read) >= 2 * len(DOCUMENTS)
    once = len(read)
    assert pruned(TEXT, 0.4, model=tiny)
    assert len(read) == once
    pruned(TEXT, 0.4, "Who is this?", model=tiny)
    assert len(read) > once


def test_without_a_question_nothing_is_touched_and_the_report_says_why(tiny: str) -> None:
    made = Pipeline([stage("longllmlingua", model=tiny)], budget=0.5).run(TEXT)
    assert made.output == TEXT
    assert "needs a question" in made.report.decisions[0].reason


def test_a_spent_time_budget_stops_it(tiny: str) -> None:
    prompt = Prompt((Segment(text=TEXT),), question=QUESTION)
    context = Context(count=counter("gpt-4o"), budget=Budget(ms=1), limit=50, deadline=0.0)
    with pytest.raises(OutOfTime):
        stage("longllmlingua", model=tiny)(prompt, context)


def test_marked_passages_and_facts_stay_whole(tiny: str) -> None:
    text = f"{OTHERS[0]} Room 2024-INV-00017.\n\n<keep>Never drop\n\nthis.</keep> {GOLD}"
    left = pruned(text, 0.3, model=tiny)
    assert "Never drop\n\nthis." in left
    assert ("2024" in left) == ("2024-INV-00017" in left)


def assert_only_dropped(before: str, made: Segment) -> None:
    """Every run is one of the source, and between them stands white space or the mark."""
    assert made.origins is not None
    between = list(made.text)
    for now, was, length in made.origins:
        assert made.text[now : now + length] == before[was : was + length]
        between[now : now + length] = [""] * length
    assert "".join(between).strip() in ("", "…")


@settings(max_examples=40)
@given(
    texts=st.lists(
        st.text(st.characters(codec="utf-8") | st.sampled_from(" \n\n 日本é👍🏽.1")), max_size=4
    ),
    ratio=st.sampled_from([0.1, 0.4, 0.8]),
    settings_=st.fixed_dictionaries(
        {
            "unit": st.sampled_from(["token", "word", "phrase", "sentence"]),
            "coarse": st.sampled_from([1.0, 1.5, 100.0]),
            "dynamic": st.sampled_from([0.0, 0.3, 1.0]),
            "order": st.sampled_from(["kept", "best_first", "best_last", "edges"]),
        }
    ),
)
def test_whatever_it_is_given_it_only_drops(
    texts: list[str], ratio: float, settings_: dict[str, Any], tiny_llama: Path
) -> None:
    """No word is made up: what is left are units of the text, and the budget holds."""
    recipe = stage("longllmlingua", model=str(tiny_llama), **settings_)
    text = "\n\n".join(texts)
    prompt = Prompt((Segment(text=text),), question="What of it?")
    context = Context(count=counter("gpt-4o"))
    limit = max(1, int(context.tokens(prompt) * ratio))
    made = recipe(prompt, context.within(limit))
    assert context.tokens(made) <= limit or made == prompt
    if made != prompt:
        assert_only_dropped(text, made.segments[0])


@pytest.mark.parametrize(
    "given_", [{"dynamic": -0.1}, {"dynamic": 1.5}, {"coarse": 0.5}, {"unit": "paragraph"}]
)
def test_a_bad_setting_is_told_with_its_value(given_: dict[str, Any]) -> None:
    ((name, value),) = given_.items()
    with pytest.raises(ConfigError, match=f"longllmlingua.*{name}.*{value}"):
        stage("longllmlingua", **given_)


def test_documents_of_like_rank_share_evenly() -> None:
    from tersely.compressors.longllmlingua import _behind, _slope

    kept = np.array([True, False, True, True])
    likely = np.array([-2.0, -1.0, -3.0, -1.5])
    assert _slope(likely, kept).tolist() == [0.0, -1.0, -1.0, 1.0]
    assert _slope(likely[:1], kept[:1]).tolist() == [0.0]
    behind = _behind(
        np.array([1.0, 3.0, 2.0, 5.0]), np.array([1.0, 1.0, 2.0, 4.0]), np.array([0, 0, 0, 1])
    )
    assert behind.tolist() == [0.875, 0.125, 0.5, 0.5]


def test_topics_of_a_manual_stay_apart(tiny: str) -> None:
    """Two texts of a request: neither takes words of the other."""
    texts = [topics.topics["with"][:1500], topics.topics["while"][:1500]]
    made = compress(
        {"context": texts, "question": "What does else do?"},
        stage("longllmlingua", model=tiny),
        budget=0.5,
        strict=True,
    ).output["context"]
    for left, whole in zip(made, texts, strict=True):
        assert set(left.split()) <= set(whole.split()) | {"…"}
