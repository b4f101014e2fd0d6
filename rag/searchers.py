"""Whatever can be searched, as a Searcher."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any

from tersely.contracts import TokenCounter
from tersely.errors import ConfigError
from tersely.rag.documents import passage_of, pieces
from tersely.rag.embedding import as_embedder
from tersely.rag.finding import Found, finding_of
from tersely.rag.held import Held
from tersely.retrieval import Passage, Searcher
from tersely.tokens import counter

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore

TOLD = ("score", "relevance_score", "similarity")
"""Where retrievers of others leave a score in the metadata."""


def as_searcher(source: Any, /) -> Searcher:
    """A Searcher from one, or from any LangChain retriever or vector store.

    A store of ours is searched by words and by meaning, as `Retriever` does. Of others the order
    is kept. Their scores are passed on where they fall with the order; where they do not
    (distances, wrong relevance functions), a passage scores 1 over its rank. Texts or Documents
    in a list are searched in memory. Raises ConfigError.
    """
    if isinstance(source, list | tuple) and source:
        return InMemorySearcher(source)
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(source).__mro__}
    if "tersely.rag.store.FaissStore" in kinds:
        from tersely.rag.retriever import Retriever

        return Retriever(store=source)
    if "langchain_core.vectorstores.base.VectorStore" in kinds:
        return _OfStore(source)
    if isinstance(source, Searcher):
        return source
    if "langchain_core.retrievers.BaseRetriever" in kinds:
        return _OfRetriever(source)
    raise ConfigError(
        "what is searched is a Searcher, a LangChain retriever or vector store, or a list of"
        f" texts or Documents, was {source!r}"
    )


class InMemorySearcher:
    """Searches texts by words and, with an embedder, by meaning; nothing is written anywhere.

    `texts` are texts or LangChain Documents, cut into pieces of at most `size` tokens as `count`
    counts them. `embedder` is what `as_embedder` takes. Settings are those of `Finding`. The
    pieces are embedded at the first search. Raises ConfigError.
    """

    def __init__(
        self,
        texts: Iterable[str | Document],
        embedder: Any = None,
        *,
        size: int = 128,
        count: TokenCounter | None = None,
        **settings: Any,
    ) -> None:
        self.finding = finding_of(settings)
        made = pieces(texts, size=size, count=count or counter())
        self.held = Held(made, as_embedder(embedder))

    def search(self, question: str, k: int, /) -> Found:
        return self.finding.find(self.held, question, k)

    async def asearch(self, question: str, k: int, /) -> Found:
        return await asyncio.to_thread(self.search, question, k)


@dataclass(frozen=True, slots=True)
class _OfRetriever:
    """A retriever of LangChain's. One over a vector store is told how many are wanted."""

    retriever: BaseRetriever

    def search(self, question: str, k: int, /) -> list[Passage]:
        return _passages(self.retriever.invoke(question, **self._wish(k)), k)

    async def asearch(self, question: str, k: int, /) -> list[Passage]:
        return _passages(await self.retriever.ainvoke(question, **self._wish(k)), k)

    def _wish(self, k: int) -> dict[str, Any]:
        from langchain_core.vectorstores import VectorStoreRetriever

        return {"k": k} if isinstance(self.retriever, VectorStoreRetriever) else {}


@dataclass(frozen=True, slots=True)
class _OfStore:
    """A vector store of LangChain's. Its relevance functions are not asked."""

    store: VectorStore

    def search(self, question: str, k: int, /) -> list[Passage]:
        try:
            found = self.store.similarity_search_with_score(question, k=k)
        except NotImplementedError:
            return _passages(self.store.similarity_search(question, k=k), k)
        return _scored([one for one, _ in found], [score for _, score in found], k)

    async def asearch(self, question: str, k: int, /) -> list[Passage]:
        try:
            found = await self.store.asimilarity_search_with_score(question, k=k)
        except NotImplementedError:
            return _passages(await self.store.asimilarity_search(question, k=k), k)
        return _scored([one for one, _ in found], [score for _, score in found], k)


def _passages(documents: Sequence[Document], k: int) -> list[Passage]:
    """Documents as passages, with the scores that their metadata tells."""
    return _scored(documents, [_told(one) for one in documents], k)


def _told(document: Document) -> float:
    found = (document.metadata.get(name) for name in TOLD)
    numbers = [float(one) for one in found if isinstance(one, int | float)]
    return numbers[0] if numbers else float("nan")


def _scored(documents: Sequence[Document], scores: Sequence[float], k: int) -> list[Passage]:
    """Documents as passages; the order is believed, and the scores if they say the same."""
    numbers = [float(score) for score in scores]
    steps = pairwise(numbers)
    right = all(map(isfinite, numbers)) and all(one >= other for one, other in steps)
    worth = numbers if right else [1 / rank for rank in range(1, len(numbers) + 1)]
    found = [passage_of(one, score) for one, score in zip(documents, worth, strict=True)]
    return found[: max(k, 0)]
