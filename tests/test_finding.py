"""Found by words and by meaning, sorted out afterwards, and told why when there is little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tersely.errors import ConfigError, StageError
from tersely.rag.documents import KEY
from tersely.rag.finding import STATIC, TRANSFORMER, Finding, finding_of, weight_of
from tersely.rag.searchers import InMemorySearcher
from tersely.retrieval import Searcher, Vectors
from tersely.units import Floats

TEXTS = [
    "The kettle holds two litres of water.",
    "The lorry carries twenty tons of gravel.",
    "A saucepan stands beside the stove.",
    "Gravel is delivered on Mondays.",
    "The library opens at nine.",
]

MEANINGS = {
    "kettle": (1.0, 0.0, 0.0),
    "saucepan": (0.9, 0.1, 0.0),
    "pot": (1.0, 0.1, 0.0),
    "lorry": (0.0, 1.0, 0.0),
    "gravel": (0.0, 0.9, 0.1),
    "truck": (0.0, 1.0, 0.05),
    "library": (0.0, 0.0, 1.0),
}


class Meanings:
    """An embedder that knows a few words, and that some of them mean nearly the same."""

    key = "meanings:1"
    width = 3

    def documents(self, texts: Sequence[str], /) -> Vectors:
        rows = [
            sum((np.array(v) for w, v in MEANINGS.items() if w in text.lower()), np.zeros(3))
            for text in texts
        ]
        made = np.array(rows, np.float32).reshape(-1, 3)
        lengths = np.linalg.norm(made, axis=1, keepdims=True)
        return np.divide(made, lengths, out=made, where=lengths > 0)

    queries = documents


class Longest:
    """A reranker that likes long texts, and notes what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def scores(self, question: str, texts: Sequence[str], /) -> Floats:
        self.shown += texts
        return np.array([len(text) for text in texts], np.float64)


def found(question: str, k: int = 5, texts: Sequence[str] = TEXTS, **settings: object) -> list[str]:
    return [one.text for one in InMemorySearcher(texts, Meanings(), **settings).search(question, k)]


def test_words_alone_need_no_embedder() -> None:
    searcher = InMemorySearcher(TEXTS)
    assert isinstance(searcher, Searcher)
    assert [one.text for one in searcher.search("when is gravel delivered?", 1)] == [TEXTS[3]]
    assert searcher.search("what is a zebra?", 3).reason.startswith("no passage holds a word")


@pytest.mark.parametrize("fusion", ["weighted", "rrf"])
def test_meaning_finds_what_words_do_not(fusion: str) -> None:
    assert found("which pot is there?", 2, fusion=fusion) == [TEXTS[2], TEXTS[0]]
    assert found("is there a truck or a library?", 2, fusion=fusion)[0] in (TEXTS[1], TEXTS[4])


def test_weight_moves_between_words_and_meaning() -> None:
    question = "truck that delivers on mondays"
    assert found(question, 1, weight=0.0) == [TEXTS[3]]
    assert found(question, 1, weight=1.0) == [TEXTS[1]]


@pytest.mark.parametrize("fusion", ["weighted", "rrf"])
def test_scores_are_told_and_fall(fusion: str) -> None:
    searcher = InMemorySearcher(TEXTS, Meanings(), fusion=fusion)
    passages = searcher.search("the gravel in the lorry", 4)
    scores = [one.score for one in passages]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    told = passages[0].metadata[KEY]
    assert told["lexical"] > 0
    assert told["dense"] == pytest.approx(1.0, abs=0.02)


def test_both_tiers_score_every_candidate() -> None:
    """Also those that only the other one brought."""
    one = InMemorySearcher(TEXTS, Meanings(), candidates=1).search("pot of gravel on mondays", 2)
    assert {passage.text for passage in one} <= set(TEXTS)
    for passage in one:
        assert passage.metadata[KEY]["dense"] == pytest.approx(
            float(Meanings().documents([passage.text])[0] @ Meanings().queries(["pot gravel"])[0]),
            abs=1e-5,
        )


def test_below_the_threshold_nothing_is_an_answer() -> None:
    searcher = InMemorySearcher(TEXTS, Meanings(), threshold=0.95)
    assert [one.text for one in searcher.search("kettle", 5)] == [TEXTS[0], TEXTS[2]]
    nothing = searcher.search("the water of twenty kettles, lorries and a library", 5)
    assert len(nothing) == 0
    assert "below a cosine of 0.95" in nothing.reason
    assert nothing.considered > 0


def test_without_an_embedder_the_threshold_is_a_share_of_the_words() -> None:
    searcher = InMemorySearcher(TEXTS, threshold=0.6)
    assert [one.text for one in searcher.search("gravel delivered on Mondays", 5)] == [TEXTS[3]]
    nothing = searcher.search("who delivered the zebra and the giraffe to the circus", 5)
    assert len(nothing) == 0
    assert "share of the words" in nothing.reason


def test_what_was_said_is_not_said_again() -> None:
    texts = [*TEXTS, TEXTS[0].replace("kettle", "Kettle"), TEXTS[0] + " Really."]
    many = found("how much water does the kettle hold", 7, texts, alike=0.99)
    assert sum("litres" in text for text in many) == 1
    assert sum("litres" in text for text in found("water of the kettle", 7, texts)) == 3
    by_words = InMemorySearcher(texts, alike=0.7).search("water of the kettle", 7)
    assert sum("litres" in one.text for one in by_words) == 1
    assert "distinct" in by_words.reason


def test_newness_goes_before_more_of_the_same() -> None:
    question = "a kettle, a saucepan, or a lorry"
    plain = found(question, 2, weight=1.0)
    various = found(question, 2, weight=1.0, mmr=0.3)
    assert plain[0] == various[0]
    vectors = Meanings().documents([*plain, *various])
    assert vectors[2] @ vectors[3] <= vectors[0] @ vectors[1]
    assert len(found(question, 4, mmr=0.5)) == 4


def test_the_reranker_has_the_last_word() -> None:
    reranker = Longest()
    got = found("gravel in the kettle", 2, reranker=reranker, reranked=3)
    assert len(reranker.shown) == 3
    assert got == sorted(reranker.shown, key=len, reverse=True)[:2]


@pytest.mark.parametrize("scores", [[1.0], [1.0, float("nan"), 2.0]])
def test_a_reranker_that_leaves_texts_out(scores: list[float]) -> None:
    class Lazy:
        def scores(self, question: str, texts: Sequence[str], /) -> Floats:
            return np.array(scores)

    with pytest.raises(StageError, match="was shown 3 texts"):
        found("gravel in the kettle", 2, reranker=Lazy(), reranked=3)


@given(st.text(max_size=40), st.integers(-1, 7))
def test_never_more_than_asked_for(question: str, k: int) -> None:
    got = SEARCHER.search(question, k)
    assert len(got) <= max(k, 0)
    assert len({one.id for one in got}) == len(got)
    assert bool(got.reason) == (len(got) < k or k < 1)


SEARCHER = InMemorySearcher(TEXTS, Meanings())


def test_filters_narrow_before_the_search() -> None:
    from langchain_core.documents import Document

    documents = [Document(text, metadata={"n": i}) for i, text in enumerate(TEXTS)]
    held = InMemorySearcher(documents, Meanings())
    wanted = {"n": {"$gte": 3}}
    got = Finding().find(held.held, "gravel in the kettle", 5, wanted)
    assert [one.metadata["n"] for one in got] == [3, 4]


async def test_the_same_is_found_without_blocking() -> None:
    searcher = InMemorySearcher(TEXTS, Meanings())
    assert await searcher.asearch("gravel", 3) == searcher.search("gravel", 3)


def test_weights_by_what_embeds() -> None:
    from tersely.registry import embedder

    assert weight_of(Meanings()) == TRANSFORMER
    assert weight_of(embedder("static")) == STATIC


def test_static_embeddings_end_to_end() -> None:
    got = InMemorySearcher(TEXTS, "static").search("truck loaded with pebbles", 1)
    assert got[0].text == TEXTS[1]


def test_an_empty_library() -> None:
    for embedder in (None, Meanings(), "static"):
        assert len(InMemorySearcher([], embedder).search("gravel", 3)) == 0
        assert len(InMemorySearcher(["", "  "], embedder).search("gravel", 3)) == 0


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="weight"):
        finding_of({"weight": 2})
    with pytest.raises(ConfigError, match="fusio"):
        InMemorySearcher(TEXTS, fusio="rrf")
    assert finding_of({"mmr": 0.4}, Finding(weight=0.2)) == Finding(weight=0.2, mmr=0.4)


def test_vectors_of_length_nought_are_like_nothing() -> None:
    searcher = InMemorySearcher(["zebra", "gravel"], Meanings())
    scores = {one.text: one.metadata[KEY]["dense"] for one in searcher.search("gravel", 2)}
    assert_allclose([scores["zebra"], scores["gravel"]], [0, 1], atol=1e-6)
