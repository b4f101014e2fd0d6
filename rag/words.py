"""Which words of a question stand where: read once, scored at any grain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tersely.lexical import TERM, terms_of
from tersely.units import Floats, Ints

K1, B = 1.5, 0.75
"""How soon more of the same word adds nothing, and how much length counts (BM25)."""

BACKGROUND = 20
"""Texts from which rarity is judged at least: among two texts a word of one is not rare."""

REMEMBERED = 1 << 16
"""Words whose term is remembered."""


@dataclass(frozen=True, slots=True)
class Words:
    """How often each term of a question stands in each text, and how many terms that has.

    Shape: (texts, terms), (texts,). What it finds for texts it finds as well for groups of them
    (sentences of a chunk, of a document), without reading them again.
    """

    counts: Floats
    sizes: Floats

    def grouped(self, groups: Ints) -> Words:
        """The same for runs of texts with the same number. Numbers do not fall."""
        if not len(groups):
            return self
        opens = np.flatnonzero(np.append(True, np.diff(groups) > 0))
        return Words(np.add.reduceat(self.counts, opens), np.add.reduceat(self.sizes, opens))

    def relevance(self) -> Floats:
        """How well each text answers to the words of the question (BM25). Shape: (texts,).

        Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019. As
        `tersely.lexical.relevance`, of which it is the part that counts for one question.
        """
        mean = self.sizes.mean() if len(self.sizes) else 0.0
        if not mean:
            return np.zeros(len(self.sizes))
        damping = K1 * (1 - B + B * self.sizes / mean)
        scores: Floats = (self.counts / (self.counts + damping[:, None])) @ self._rarity(1)
        return scores

    def coverage(self) -> Floats:
        """What share of the question each text covers, rare words counting more: 0 to 1.

        Unlike `relevance` it can be compared between prompts. Shape: (texts,).
        """
        rarity = self._rarity(BACKGROUND)
        total = rarity.sum()
        if not total:
            return np.zeros(len(self.sizes))
        shares: Floats = (self.counts > 0) @ rarity / total
        return shares

    def _rarity(self, least: int) -> Floats:
        """How rare each term is among at least so many texts. Shape: (terms,)."""
        holding = (self.counts > 0).sum(axis=0)
        total = max(len(self.sizes), least)
        rarity: Floats = np.log1p((total - holding + 0.5) / (holding + 0.5))
        return rarity


def words_of(texts: Sequence[str], question: str) -> Words:
    """Look for the terms of a question in some texts."""
    asked = {term: i for i, term in enumerate(dict.fromkeys(terms_of(question)))}
    sizes: list[int] = []
    hits: list[int] = []
    for row, text in enumerate(texts):
        terms = [term for word in TERM.findall(text.lower()) if (term := _term(word))]
        hits += [row * len(asked) + asked[term] for term in terms if term in asked]
        sizes.append(len(terms))
    counts = np.bincount(np.array(hits, np.int64), minlength=len(texts) * len(asked))
    return Words(
        counts.reshape(len(texts), len(asked)).astype(np.float64), np.array(sizes, np.float64)
    )


@lru_cache(maxsize=REMEMBERED)
def _term(word: str) -> str:
    """The term of a word, "" for one that says nothing."""
    return next(iter(terms_of(word)), "")
