"""The retriever over a store, as LangChain and as our plans use it; and other people's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from tersely.errors import ConfigError
from tersely.rag import FaissStore, InMemorySearcher, Retriever, as_searcher
from tersely.rag.documents import KEY, pieces
from tersely.retrieval import Passage, Searcher
from tersely.tokens import counter

TEXTS = [
    "The kettle holds two litres of water.",
    "The lorry carries twenty tons of gravel.",
    "A saucepan stands beside the stove.",
    "Gravel is delivered on Mondays.",
    "The library opens at nine.",
]


def documents() -> list[Document]:
    given = [Document(text, metadata={"source": f"{i}.md", "n": i}) for i, text in enumerate(TEXTS)]
    return list(pieces(given, count=counter("gpt-4o")))


@pytest.fixture(params=[None, "static"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FaissStore:
    made = FaissStore(tmp_path, embedder=request.param)
    made.add_documents(documents())
    return made


def test_a_chain_gets_documents_with_places_and_scores(store: FaissStore) -> None:
    found = Retriever(store, k=2).invoke("when is gravel delivered?")
    assert found[0].page_content == TEXTS[3]
    told = found[0].metadata
    assert (told["source"], told["start"], told["end"], told["n"]) == ("3.md", 0, 31, 3)
    assert told[KEY]["score"] >= found[-1].metadata[KEY]["score"]
    assert told[KEY]["lexical"] > 0
    assert ("dense" in told[KEY]) == (store.embedder is not None)
    assert found[0].id == documents()[3].id


def test_it_finds_what_memory_finds(store: FaissStore) -> None:
    """The store's BM25 damps a little differently; the order of clear cases is the same."""
    memory = InMemorySearcher(documents(), store.embedder)
    for question in ("gravel on mondays", "water in the kettle", "when does the library open"):
        (ours,) = Retriever(store).search(question, 1)
        (theirs,) = memory.search(question, 1)
        assert ours.text == theirs.text


def test_k_and_filter_hold_for_one_call(store: FaissStore) -> None:
    retriever = Retriever(store, k=1, filter={"n": {"$lt": 3}})
    assert [one.metadata["n"] for one in retriever.invoke("gravel")] == [1]
    other = retriever.invoke("gravel", filter={"n": 3}, k=5)
    assert [one.metadata["n"] for one in other] == [3]
    assert [one.metadata["n"] for one in retriever.invoke("gravel")] == [1]


def test_settings_are_those_of_finding(store: FaissStore) -> None:
    retriever = Retriever(store, threshold=0.99, tags=["a"])
    assert retriever.finding.threshold == 0.99
    assert retriever.tags == ["a"]
    nothing = retriever.search("something else altogether about gravel", 3)
    assert len(nothing) == 0
    assert "0.99" in nothing.reason
    with pytest.raises(ConfigError, match="treshold"):
        Retriever(store, treshold=0.99)
    with pytest.raises(ConfigError, match="k: "):
        Retriever(store, k=0)
    with pytest.raises(ConfigError, match="no 'lexical'"):
        Retriever("a/folder")


class Heard(BaseCallbackHandler):
    def __init__(self) -> None:
        self.said: list[Any] = []

    def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
        self.said.append(query)

    def on_retriever_end(self, documents: Sequence[Document], **kwargs: Any) -> None:
        self.said.append(len(documents))

    def on_text(self, text: str, **kwargs: Any) -> None:
        self.said.append(text)


class HeardLater(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.said: list[Any] = []

    async def on_retriever_end(self, documents: Sequence[Document], **kwargs: Any) -> None:
        self.said.append(len(documents))

    async def on_text(self, text: str, **kwargs: Any) -> None:
        self.said.append(text)


async def test_callbacks_hear_of_it_and_why_there_is_nothing(store: FaissStore) -> None:
    retriever = Retriever(store, threshold=0.99)
    heard, later = Heard(), HeardLater()
    retriever.invoke("gravel zebra", {"callbacks": [heard]})
    await retriever.ainvoke("gravel zebra", {"callbacks": [later]})
    assert heard.said[0] == "gravel zebra"
    assert "0.99" in heard.said[1]
    assert later.said == heard.said[1:]
    assert heard.said[2] == 0


class Waits:
    """A reranker that goes on only once somebody else had a turn."""

    def __init__(self) -> None:
        self.turn = threading.Event()
        self.waited: list[bool] = []

    def scores(self, question: str, texts: Sequence[str], /) -> list[int]:
        self.waited.append(self.turn.wait(20))
        return list(range(len(texts)))


async def test_async_finds_the_same_and_lets_others_work(store: FaissStore) -> None:
    for ask in ("asearch", "ainvoke"):
        waits = Waits()
        retriever = Retriever(store, k=2, reranker=waits)
        asked = ("gravel", 2) if ask == "asearch" else ("gravel",)
        searching = asyncio.create_task(getattr(retriever, ask)(*asked))
        await asyncio.sleep(0)
        waits.turn.set()
        found = await searching
        assert waits.waited == [True]
        assert list(found) == list(getattr(retriever, ask[1:])(*asked))


def test_it_is_a_searcher_and_a_link_of_chains(store: FaissStore) -> None:
    retriever = Retriever(store)
    assert isinstance(retriever, Searcher)
    assert as_searcher(retriever) is retriever
    chain = retriever | (lambda found: found[0].page_content)
    assert chain.invoke("gravel on mondays") == TEXTS[3]


def test_a_store_is_searched_by_words_and_meaning(store: FaissStore) -> None:
    searcher = as_searcher(store)
    assert isinstance(searcher, Retriever)
    assert searcher.search("gravel on mondays", 1)[0].text == TEXTS[3]


class Plain(BaseRetriever):
    """A retriever that gives what it has, with scores if it was told some."""

    scores: list[float] = []

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        told = [{"score": score} for score in self.scores] or [{}] * len(TEXTS)
        return [Document(text, metadata=one) for text, one in zip(TEXTS, told, strict=True)]


@pytest.mark.parametrize(
    ("scores", "passed_on"),
    [
        ([9.0, 7.0, 7.0, 2.0, -1.0], [9.0, 7.0, 7.0, 2.0, -1.0]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),  # distances
        ([0.5, float("nan"), 0.2, 0.1, 0.0], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
        ([], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),
    ],
)
async def test_scores_of_others_are_believed_if_they_fall(
    scores: list[float], passed_on: list[float]
) -> None:
    searcher = as_searcher(Plain(scores=scores))
    found = searcher.search("whatever", 5)
    assert [one.text for one in found] == TEXTS
    assert [one.score for one in found] == passed_on
    assert await searcher.asearch("whatever", 5) == found
    assert list(searcher.search("whatever", 2)) == list(found)[:2]


async def test_a_vector_store_of_theirs() -> None:
    theirs = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    theirs.add_documents(documents())
    searcher = as_searcher(theirs)
    found = searcher.search(TEXTS[1], 3)
    assert found[0].text == TEXTS[1]
    assert found[0].score == pytest.approx(1.0)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert found[0].source == "1.md"
    assert [one.id for one in await searcher.asearch(TEXTS[1], 3)] == [one.id for one in found]
    through = as_searcher(theirs.as_retriever(search_kwargs={"k": 1}))
    assert len(through.search(TEXTS[1], 3)) == 3


class Distances(VectorStore):
    """A store whose scores are distances."""

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [Document(text) for text in TEXTS[:k]]

    def similarity_search_with_score(self, *args: Any, **kwargs: Any) -> Any:
        found = self.similarity_search(*args, **kwargs)
        return [(one, 0.1 * i) for i, one in enumerate(found)]

    @classmethod
    def from_texts(cls, *args: Any, **kwargs: Any) -> Distances:
        return cls()


class Silent(Distances):
    """A store that tells no scores."""

    def similarity_search_with_score(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("kind", [Distances, Silent])
async def test_the_order_of_other_stores_is_kept(kind: type[Distances]) -> None:
    found = as_searcher(kind()).search("whatever", 3)
    assert [one.text for one in found] == TEXTS[:3]
    assert [one.score for one in found] == [1, 1 / 2, 1 / 3]
    assert list(await as_searcher(kind()).asearch("whatever", 3)) == list(found)


def test_what_can_be_searched() -> None:
    memory = InMemorySearcher(TEXTS)
    assert as_searcher(memory) is memory
    (found,) = as_searcher(TEXTS).search("library", 1)
    assert isinstance(found, Passage)
    assert found.text == TEXTS[4]
    for wrong in (7, "a/folder", None, []):
        with pytest.raises(ConfigError, match="what is searched"):
            as_searcher(wrong)
