"""Find passages by words and by meaning together, and tell why when there are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Protocol, overload

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SkipValidation, ValidationError

from tersely.diversity import mmr, near_duplicates
from tersely.errors import ConfigError, StageError, first_fault
from tersely.lexical import standardised, terms_of
from tersely.rag.documents import KEY
from tersely.rag.fusion import min_max, reciprocal_ranks
from tersely.rag.rerank import Reranks, as_reranker
from tersely.rag.words import words_of
from tersely.retrieval import Embedder, Passage, Vectors
from tersely.units import Bools, Floats, Ints

Ranked = Sequence[tuple[str, float]]
"""Ids with their scores, the best first."""

Fusion = Literal["weighted", "rrf"]
"""How two rankings become one: by their standardised scores, or by ranks alone."""

DEEP = 10
"""How many times deeper the words are looked up, so that what meaning found has a score too."""

STATIC, TRANSFORMER = 0.5, 0.7
"""The weight of meaning beside words, by what embeds. Chosen on held-out questions."""


class Tiers(Protocol):
    """Where passages are: what can be asked of it by words and by meaning.

    `vectors` and `passages` are in the order of the ids; ids that are gone are left out of
    `passages`.
    """

    @property
    def embedder(self) -> Embedder | None: ...
    def lexical(self, question: str, k: int, filter: Any = None, /) -> Ranked: ...
    def dense(self, vector: Floats, k: int, filter: Any = None, /) -> Ranked: ...
    def vectors(self, ids: Sequence[str], /) -> Vectors: ...
    def passages(self, ids: Sequence[str], /) -> Sequence[Passage]: ...


@dataclass(frozen=True, slots=True)
class Found(Sequence[Passage]):
    """The passages for a question, the best first, and why there are not more.

    `reason` is "" when as many were found as asked for. `considered` is how many were looked at.
    """

    passages: tuple[Passage, ...] = ()
    reason: str = ""
    considered: int = 0

    def __len__(self) -> int:
        return len(self.passages)

    @overload
    def __getitem__(self, at: int) -> Passage: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Passage, ...]: ...
    def __getitem__(self, at: int | slice) -> Passage | tuple[Passage, ...]:
        return self.passages[at]


class Finding(BaseModel):
    """How to find: two rankings, one fusion, and what is sorted out afterwards.

    Each of the tiers brings its best `candidates`, by words (BM25) and, where there is an
    embedder, by meaning. `weighted` adds up their standardised scores, with `weight` on meaning
    (None: 0.5 for static embeddings, 0.7 for others); `rrf` adds up reciprocal ranks.

    Passages below the `threshold` are left out, be it all of them: a cosine, or without an
    embedder the share of the question's words. With `alike` those go that say what a better one
    said (see `diversity.near_duplicates`). A `reranker` reads the first `reranked` again and
    orders them. `mmr` is the weight of relevance against newness (None: order by relevance).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    candidates: int = Field(default=50, ge=1)
    fusion: Fusion = "weighted"
    weight: float | None = Field(default=None, ge=0, le=1)
    threshold: float | None = None
    alike: float | None = Field(default=None, gt=0, le=1)
    reranker: Annotated[SkipValidation[Reranks | None], BeforeValidator(as_reranker)] = None
    reranked: int = Field(default=20, ge=1)
    mmr: float | None = Field(default=None, ge=0, le=1)

    def find(self, tiers: Tiers, question: str, k: int, filter: Any = None) -> Found:
        """The best k passages. Raises what the tiers, the embedder and the reranker raise."""
        if k < 1 or not question.strip():
            return Found(reason="the question is empty" if k > 0 else "none was asked for")
        pool = self._pool(tiers, question, max(self.candidates, 2 * k), filter)
        if not len(pool):
            return Found(reason="no passage holds a word of the question or could be compared")
        considered = len(pool)
        pool, reason = self._relevant(pool, question)
        pool = self._reread(self._distinct(pool), question)
        chosen = self._various(pool, k)
        few = f"there were {considered} passages to choose from, {len(pool)} of them distinct"
        short = "" if len(chosen) == k else reason or few
        return Found(tuple(chosen), short, considered)

    def _pool(self, tiers: Tiers, question: str, size: int, filter: Any) -> _Pool:
        """What either tier found, with the scores of both, ordered by their fusion."""
        embedder = tiers.embedder  # asked once: a store makes sure that it is the right one
        words = dict(tiers.lexical(question, size * DEEP, filter))
        asked = None if embedder is None else embedder.queries([question])[0]
        near = [] if asked is None else [i for i, _ in tiers.dense(asked, size, filter)]
        ranks = reciprocal_ranks([list(words)[:size], near])
        passages = list(tiers.passages(list(ranks)))
        ids = [passage.id for passage in passages]
        lexical = np.array([words.get(i, 0.0) for i in ids], np.float64)
        if embedder is None or asked is None:
            return _Pool(passages, lexical, lexical).ordered()
        vectors = tiers.vectors(ids)
        dense = (vectors @ asked).astype(np.float64)
        if self.fusion == "rrf":
            fused = np.array([ranks[i] for i in ids])
        else:
            weight = weight_of(embedder) if self.weight is None else self.weight
            fused = weight * standardised(dense) + (1 - weight) * standardised(lexical)
        return _Pool(passages, fused, lexical, dense, vectors).ordered()

    def _relevant(self, pool: _Pool, question: str) -> tuple[_Pool, str]:
        """What reaches the threshold, and why the rest does not."""
        if self.threshold is None:
            return pool, ""
        what, worth = "a cosine", pool.dense
        if worth is None:
            what, terms = "a share of the words", terms_of(question)
            worth = np.array([words_of([text], terms).coverage() for text in pool.texts])
        enough = worth >= self.threshold
        left = f"{int((~enough).sum())} of {len(pool)} passages are below"
        reason = f"{left} {what} of {self.threshold:g}; the best has {float(worth.max()):.2f}"
        return pool.only(np.flatnonzero(enough)), "" if enough.all() else reason

    def _distinct(self, pool: _Pool) -> _Pool:
        if self.alike is None:
            return pool
        repeated: Bools = near_duplicates(pool.texts, pool.vectors, self.alike)
        return pool.only(np.flatnonzero(~repeated))

    def _reread(self, pool: _Pool, question: str) -> _Pool:
        """The first ones in the order of the reranker; the others are left out."""
        if self.reranker is None or not len(pool):
            return pool
        pool = pool.only(np.arange(min(self.reranked, len(pool))))
        scores = np.asarray(self.reranker.scores(question, pool.texts), np.float64)
        if scores.shape != (len(pool),) or not np.isfinite(scores).all():
            raise StageError(f"the reranker was shown {len(pool)} texts and gave {scores!r}")
        return replace(pool, scores=scores, reread=scores).ordered()

    def _various(self, pool: _Pool, k: int) -> list[Passage]:
        if self.mmr is None or pool.vectors is None:
            return list(pool.told(np.arange(min(k, len(pool)))))
        return list(pool.told(mmr(pool.vectors, min_max(pool.scores), k, self.mmr)))


@dataclass(frozen=True, slots=True)
class _Pool:
    """Passages that may be chosen, and what is known of each. Shape of all: (passages, ...)."""

    passages: Sequence[Passage]
    scores: Floats
    lexical: Floats
    dense: Floats | None = None
    vectors: Vectors | None = None
    reread: Floats | None = field(default=None)

    def __len__(self) -> int:
        return len(self.passages)

    @property
    def texts(self) -> list[str]:
        return [passage.text for passage in self.passages]

    def only(self, which: Ints) -> _Pool:
        """Some of them, in that order."""

        def some(row: Any) -> Any:
            return None if row is None else row[which]

        return _Pool(
            [self.passages[i] for i in which.tolist()],
            *map(some, (self.scores, self.lexical, self.dense, self.vectors, self.reread)),
        )

    def ordered(self) -> _Pool:
        """The best first; equals as they stand."""
        return self.only(np.argsort(-self.scores, kind="stable"))

    def told(self, which: Ints) -> Iterator[Passage]:
        """Some of them with their scores."""
        rows = {"lexical": self.lexical, "dense": self.dense, "rerank": self.reread}
        known = {name: row for name, row in rows.items() if row is not None}
        for i in which.tolist():
            scores = {name: round(float(row[i]), 6) for name, row in known.items()}
            metadata = {**self.passages[i].metadata, KEY: scores}
            yield replace(self.passages[i], score=float(self.scores[i]), metadata=metadata)


def weight_of(embedder: Embedder) -> float:
    """How much its vectors count beside the words of a question."""
    return STATIC if embedder.key.startswith("static:") else TRANSFORMER


def finding_of(settings: Mapping[str, Any], start: Finding | None = None) -> Finding:
    """How to find, from plain settings and what they differ from. Raises ConfigError."""
    known = {name: getattr(start, name) for name in start.model_fields_set} if start else {}
    try:
        return Finding(**{**known, **settings})
    except ValidationError as error:
        raise ConfigError(f"finding: {first_fault(error)}") from error
