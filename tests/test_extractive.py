"""Extractive summaries: what says most of the whole, or of what is asked, and nothing twice."""

from __future__ import annotations

import pydoc_data.topics as topics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersely.budget import Budget
from tersely.compressors import extractive
from tersely.compressors.coverage import covering
from tersely.compressors.extractive import Extractive
from tersely.compressors.graph import ByMeaning, ByWords, likeness, walked
from tersely.contracts import Context
from tersely.errors import ModelError, OutOfTime
from tersely.lexical import centrality, terms_of
from tersely.middleware.pipeline import Pipeline, compress
from tersely.prompt import Prompt, Segment
from tersely.select import MARK
from tersely.tokens import counter
from tersely.units import Floats, split

RIVERS = [
    "The river Nile flows through Egypt to the sea.",
    "Every year the Nile floods the fields of Egypt.",
    "Farmers in Egypt wait for the flood of the river.",
    "A recipe for soup asks for two onions.",
    "The flood of the Nile brings mud to the fields.",
]
HAY = "\n\n".join(topics.topics[name] for name in ("with", "while", "lambda"))
NEEDLE = "The treasure is buried beneath the old oak."

sentences = st.lists(
    st.sampled_from([*RIVERS, "", "river river", "Nile", "the of", "尼罗河。"]), max_size=12
)


def context(limit: int | None = None) -> Context:
    return Context(count=counter("gpt-4o"), limit=limit)


def summary(text: str, budget: Any, question: str = "", **settings: Any) -> str:
    recipe = {"extractive": {"encoder": "", **settings}}
    return str(compress(text, recipe, budget=budget, question=question).output)


def dense(texts: list[str]) -> np.ndarray:
    """The cosine of each text with each, the plain way."""
    compared = likeness(texts, "", context())
    assert isinstance(compared, ByWords)
    rows = np.zeros((len(texts), compared.width))
    rows[compared.rows, compared.columns] = compared.weights
    return rows @ rows.T


@given(sentences)
def test_likeness_by_words_is_the_cosine(texts: list[str]) -> None:
    compared = likeness(texts, "", context())
    wanted = dense(texts)
    assert len(compared) == len(texts)
    for row in range(len(texts)):
        np.testing.assert_allclose(compared.to(row), wanted[row], atol=1e-12)
    np.testing.assert_allclose(compared.central(), centrality(texts), atol=1e-12)


@given(sentences, st.data())
def test_a_walk_settles_where_the_matrix_says(texts: list[str], data: st.DataObject) -> None:
    """The chances are those of the leading eigenvector of the published matrix."""
    if not texts:
        assert walked(likeness(texts, "", context()), np.zeros(0), context()).shape == (0,)
        return
    start = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(texts), max_size=len(texts))))
    found = walked(likeness(texts, "", context()), start, context())
    begun = start / start.sum() if start.sum() > 0 else np.full(len(texts), 1 / len(texts))
    near = dense(texts)
    np.fill_diagonal(near, 0)
    near[near < 0.1] = 0
    sums = near.sum(axis=1, keepdims=True)
    moves = np.where(sums > 0, near / np.where(sums > 0, sums, 1), begun[None, :])
    chances = begun
    for _ in range(300):
        chances = 0.15 * begun + 0.85 * chances @ moves
    np.testing.assert_allclose(found, chances, atol=1e-4)
    assert found.sum() == pytest.approx(1)


def test_meaning_is_compared_by_vectors() -> None:
    rows = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    compared = ByMeaning(rows)
    np.testing.assert_allclose(compared.to(1), [0.6, 1, 0.8], atol=1e-6)
    assert compared.central().argmax() == 1


def test_many_alike_neighbours_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tersely.compressors.graph.NEIGHBOURS", 2)
    found = walked(likeness(RIVERS, "", context()), np.zeros(5), context())
    assert found.sum() == pytest.approx(1)
    assert found.argmin() == 3


def test_what_stands_alone_goes_first() -> None:
    text = " ".join(RIVERS)
    for way in ("graph", "centroid"):
        kept = summary(text, 0.85, centrality=way, diversity=0)
        assert split(kept, "sentence").texts == [one for one in RIVERS if "soup" not in one]


def test_the_question_decides_what_is_kept() -> None:
    text = f"{HAY[:3000]} {NEEDLE} {HAY[3000:]}"
    for ratio in (0.5, 0.1):
        assert NEEDLE in summary(text, ratio, "Where is the treasure buried?")
    assert NEEDLE not in summary(text, 0.1)


def test_a_question_that_nothing_answers_leaves_the_whole() -> None:
    assert summary(HAY, 0.2, "quantum chromodynamics?") == summary(HAY, 0.2)


@pytest.mark.model
def test_meaning_finds_what_no_word_tells() -> None:
    told = "They wed in a small chapel in the spring of 1987."
    lines = [f"The {thing} holds {i} litres." for i, thing in enumerate(VESSELS, start=2)]
    text = " ".join([*lines[:4], told, *lines[4:]])
    asked = "When did the couple marry?"
    assert told in summary(text, 0.25, asked, encoder="minilm", reach=0)
    assert told not in summary(text, 0.25, asked, reach=0, diversity=0)


def test_nothing_is_said_twice() -> None:
    again = "Every year, the Nile floods all the fields of Egypt."
    text = " ".join([*RIVERS[:3], again, RIVERS[4]])
    assert again in summary(text, 0.62, diversity=0)
    kept = summary(text, 0.62)
    assert not (RIVERS[1] in kept and again in kept)


PARTS = st.lists(st.sampled_from([*RIVERS, "", "the of", "Nile Nile", "尼罗河。"]), max_size=12)


@given(PARTS, st.data(), st.floats(0.05, 1))
def test_what_adds_most_for_its_tokens_is_taken_next(
    texts: list[str], data: st.DataObject, newness: float
) -> None:
    """The plain way: at each step all are looked at again."""
    worth = np.array(
        data.draw(st.lists(st.floats(-3, 3), min_size=len(texts), max_size=len(texts)))
    )
    compared = likeness(texts, "", context())
    taken = covering(texts, worth, compared.to, 20, newness=newness, context=context()).tolist()
    costs = np.maximum(np.array(context().tokens_of(texts), float), 1)
    said: set[str] = set()
    for i in [*taken, -1]:
        before = taken[: taken.index(i)] if i >= 0 else taken
        gains = [
            sum(weight(word, texts, worth) for word in set(terms_of(one)) - said)
            * np.exp(worth[j] * (1 - newness) / newness)
            / costs[j] ** 0.5
            * np.clip(1 - max((compared.to(k)[j] for k in before), default=0), 0, 1)
            for j, one in enumerate(texts)
        ]
        best = max(gains, default=0)
        assert (gains[i] if i >= 0 else 0) == pytest.approx(best, rel=1e-6, abs=1e-9)
        said.update(terms_of(texts[i]) if i >= 0 else ())


def weight(word: str, texts: list[str], worth: Floats) -> float:
    holding = [i for i, one in enumerate(texts) if word in terms_of(one)]
    rare = np.log1p(len(texts) / len(holding))
    return float(np.exp(worth[holding] - worth.max()).sum() * rare)


def test_without_a_question_much_is_said_for_few_tokens() -> None:
    """Not what resembles the middle most: in talk that is `okay` and `yeah`."""
    talk = " ".join(f"{one} Okay. Yeah, so, okay." for one in RIVERS)
    assert all(one in summary(talk, 0.8) for one in RIVERS)
    assert not all(one in summary(talk, 0.8, diversity=0) for one in RIVERS)


@given(
    st.lists(st.sampled_from(RIVERS), min_size=1, max_size=15),
    st.floats(0.05, 1),
    st.sampled_from(["", "Where does the Nile flow?"]),
    st.sampled_from(["graph", "centroid"]),
    st.sampled_from([0.0, 0.3, 0.9]),
)
def test_a_summary_is_whole_sentences_in_their_order(
    texts: list[str], ratio: float, question: str, way: str, diversity: float
) -> None:
    text = " ".join(texts)
    kept = summary(text, ratio, question, centrality=way, diversity=diversity)
    left = iter(split(text, "sentence").texts)
    assert kept == MARK or all(one in left for one in split(kept, "sentence").texts)


def test_the_same_summary_whatever_was_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing only as many as the budget can hold changes nothing."""
    short = summary(HAY, 0.2)
    monkeypatch.setattr(extractive, "_most", lambda texts, prompt, context: len(texts))
    assert summary(HAY, 0.2) == short


def test_very_long_texts_are_not_compared_each_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Floats:
        raise AssertionError

    monkeypatch.setattr(extractive, "MOST", 20)
    monkeypatch.setattr(extractive, "walked", never)
    monkeypatch.setattr(ByWords, "to", never)
    plain = summary(HAY, 0.2, centrality="centroid")
    assert summary(HAY, 0.2, centrality="graph") == plain


def test_what_is_marked_and_code_stay_whole() -> None:
    code = "```python\nx = f(y)\n\nreturn x\n```"
    text = f"{HAY[:1500]}\n\n{code}\n\n{HAY[1500:3000]}"
    prompt = Prompt((Segment(text=text, spans=((100, 150),)),))
    stage = Extractive(encoder="")
    made = stage(prompt, context(context().tokens(prompt) // 4)).text
    assert text[100:150] in made
    assert ("x = f(y)" in made) == (code in made)


def test_without_an_encoder_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tersely.compressors.sentences.at_hand", lambda name: False)
    result = compress(HAY, "extractive", budget=0.2)
    assert result.output == summary(HAY, 0.2)
    assert any("tersely models pull minilm" in note for note in result.report.notes)


def test_a_missing_encoder_is_told_when_the_pipeline_is_built() -> None:
    with pytest.raises(ModelError, match="no model folder"):
        Pipeline(Extractive(encoder="/no/such/folder"))


def test_the_time_budget_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hurried = replace(context(100), deadline=0.0, budget=Budget(ms=1))
    with pytest.raises(OutOfTime):
        Extractive(encoder="")(Prompt((Segment(text=HAY),)), hurried)


def words() -> Iterator[str]:
    yield from ("kettle", "jug", "pot", "pan", "bowl", "cup", "vase", "tub", "pail", "jar")


VESSELS = [*words()]
