"""What a store finds, in LangChain's shapes: documents with scores, and relevance from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from tersely.errors import ConfigError
from tersely.rag import shelf_writing
from tersely.rag.shelf import Reading, Scored, Shelf, Stats
from tersely.retrieval import Embedder, Passage, Vectors


class Finding(VectorStore):
    """What a store finds; scores are cosines, or BM25 where nothing is embedded."""

    shelf: Shelf

    def dense(self, vector: Any, k: int, filter: Any = None) -> Scored:
        """Ids and cosines of the k passages nearest to a vector, the best first."""
        return self.shelf.dense(vector, k, filter)

    def lexical(self, question: str, k: int, filter: Any = None) -> Scored:
        """Ids and BM25 scores of the k passages that hold the words of a question best.

        Passages that share no word with it are not found.
        """
        return self.shelf.lexical(question, k, filter)

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """The vectors of passages, in the order of their ids. Raises RequestError for unknown."""
        return self.shelf.vectors(ids)

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages of these ids, in their order; unknown ones are left out."""
        return self.shelf.passages(ids)

    def reading(self) -> AbstractContextManager[Reading]:
        """Within this block all that a thread reads is of one generation."""
        return self.shelf.reading()

    @property
    def embedder(self) -> Embedder | None:
        """What embeds questions, sure to be what embedded the texts; None: words alone find.

        Raises ConfigError when the texts were embedded by something else.
        """
        with self.shelf.reading(index=False) as now:
            shelf_writing.check(self.shelf, now.state, now.connection)
        return self.shelf.embedder

    def stats(self) -> Stats:
        """What the store holds: counts, bytes, kinds of index, generation, embedder."""
        return self.shelf.stats()

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [_document(one) for one in self.shelf.passages([str(name) for name in ids])]

    def similarity_search(
        self, query: str, k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        return [one for one, _ in self.similarity_search_with_score(query, k, filter)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k best passages with their cosines (BM25 without an embedder): higher is better."""
        vector = None if self.embedder is None else self._asked(query)
        with self.shelf.reading():
            if vector is None:
                return self._shown(self.shelf.lexical(query, k, filter))
            return self._shown(self.shelf.dense(vector, k, filter))

    def similarity_search_by_vector(
        self, embedding: Any, k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        with self.shelf.reading():
            return [one for one, _ in self._shown(self.shelf.dense(embedding, k, filter))]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        return self.max_marginal_relevance_search_by_vector(
            self._asked(query), k, fetch_k, lambda_mult, filter
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Any,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        from tersely.diversity import mmr

        with self.shelf.reading():
            found = self.shelf.dense(embedding, max(k, fetch_k), filter)
            if not found:
                return []
            vectors = self.shelf.vectors([name for name, _ in found])
            chosen = mmr(vectors, np.array([score for _, score in found]), k, lambda_mult)
            return [one for one, _ in self._shown([found[i] for i in chosen])]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """From 0 to 1, and never less for a better score."""
        return relevance_of_bm25 if self.embedder is None else relevance_of_cosine

    def _asked(self, query: str) -> Any:
        embedder = self.embedder
        if embedder is None:
            raise ConfigError(
                "this store has no embedder: give it one, FaissStore(path, embedder=...), or"
                " search by words, lexical(question, k)"
            )
        return embedder.queries([query])[0]

    def _shown(self, scored: Scored) -> list[tuple[Document, float]]:
        found = self.shelf.passages([name for name, _ in scored])
        return [(_document(one), score) for one, (_, score) in zip(found, scored, strict=True)]


def relevance_of_cosine(cosine: float) -> float:
    """From 0 (opposite) over 1/2 (nothing in common) to 1 (the same)."""
    return min(1.0, max(0.0, (1 + cosine) / 2))


def relevance_of_bm25(score: float) -> float:
    """From 0 (no word in common) towards 1."""
    return max(score, 0.0) / (1 + max(score, 0.0))


def _document(passage: Passage) -> Document:
    metadata = dict(passage.metadata)
    return Document(id=passage.id, page_content=passage.text, metadata=metadata)
