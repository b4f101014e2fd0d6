"""Texts held in memory with an index of their words and their vectors: for one run, or a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from tersely.lexical import terms_of
from tersely.rag.documents import passage_of
from tersely.rag.filters import checked, matches
from tersely.rag.finding import Ranked
from tersely.retrieval import Embedder, Passage, Vectors
from tersely.units import Bools, Floats

if TYPE_CHECKING:
    from langchain_core.documents import Document


class Held:
    """Pieces that never change. They are indexed when first asked for. Safe across threads.

    Raises what the embedder raises.
    """

    def __init__(self, pieces: Iterable[Document], embedder: Embedder | None) -> None:
        found = {one.id: one for one in map(passage_of, pieces)}
        self.embedder = embedder
        self._all = list(found.values())
        self._places = {name: at for at, name in enumerate(found)}
        self._lock = Lock()
        self._words: Callable[[str], Floats] | None = None
        self._vectors: Vectors | None = None

    def __len__(self) -> int:
        return len(self._all)

    def lexical(self, question: str, k: int, filter: Any = None, /) -> Ranked:
        """The pieces that hold words of a question, by BM25."""
        with self._lock:
            if self._words is None:
                self._words = _bm25([piece.text for piece in self._all])
        scores = self._words(question)
        return self._best(scores, self._allowed(filter) & (scores > 0), k)

    def dense(self, vector: Floats, k: int, filter: Any = None, /) -> Ranked:
        """The pieces whose vectors lie nearest, by the cosine."""
        scores = (self._embedded() @ vector).astype(np.float64)
        return self._best(scores, self._allowed(filter), k)

    def vectors(self, ids: Sequence[str], /) -> Vectors:
        return self._embedded()[[self._places[name] for name in ids]]

    def passages(self, ids: Sequence[str], /) -> list[Passage]:
        return [self._all[self._places[name]] for name in ids]

    def _embedded(self) -> Vectors:
        with self._lock:
            if self._vectors is None:
                texts = [piece.text for piece in self._all]
                empty = np.zeros((0, 0), np.float32)
                self._vectors = self.embedder.documents(texts) if self.embedder else empty
        return self._vectors

    def _allowed(self, filter: Any) -> Bools:
        wanted = checked(filter)
        if wanted is None:
            return np.ones(len(self), np.bool_)
        return np.array([matches(wanted, piece.metadata) for piece in self._all], np.bool_)

    def _best(self, scores: Floats, allowed: Bools, k: int) -> Ranked:
        order = np.argsort(-scores, kind="stable")
        chosen = order[allowed[order]][:k].tolist()
        return [(self._all[at].id, float(scores[at])) for at in chosen]


def _bm25(texts: Sequence[str]) -> Callable[[str], Floats]:
    """Scores of all texts for a question, of an index that is made once."""
    import bm25s

    corpus = [terms_of(text) for text in texts]
    known = set().union(*corpus)
    index = bm25s.BM25()
    if known:
        index.index(corpus, show_progress=False)

    def scores(question: str) -> Floats:
        asked = sorted(known.intersection(terms_of(question)))
        if not asked:
            return np.zeros(len(texts))
        return np.asarray(index.get_scores(asked), np.float64)

    return scores
