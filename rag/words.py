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

REMEMBERED = 1 << 16
"""Words whose term is remembered."""


@dataclass(frozen=True, slots=True)
class Words:
    """How often each of some terms stands in each text, and how many terms that has in all.

    `lengths` are the letters of each term. What it finds for texts it finds as well for groups of
    them (sentences of a chunk, of a document), without reading them again. Shape: (texts, terms),
    (texts,), (terms,).
    """

    counts: Floats
    sizes: Floats
    lengths: Floats

    def grouped(self, groups: Ints) -> Words:
        """The same for runs of texts with the same number. Numbers do not fall."""
        if not len(groups):
            return self
        opens = np.flatnonzero(np.append(True, np.diff(groups) > 0))
        counts, sizes = (np.add.reduceat(one, opens) for one in (self.counts, self.sizes))
        return Words(counts, sizes, self.lengths)

    def relevance(self) -> Floats:
        """How well each text answers to the words of the question (BM25). Shape: (texts,).

        Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019. The same as
        `tersely.lexical.relevance`, which reads the texts each time.
        """
        mean = self.sizes.mean() if len(self.sizes) else 0.0
        if not mean:
            return np.zeros(len(self.sizes))
        holding = (self.counts > 0).sum(axis=0)
        rarity = np.log1p((len(self.sizes) - holding + 0.5) / (holding + 0.5))
        damping = K1 * (1 - B + B * self.sizes / mean)
        scores: Floats = (self.counts / (self.counts + damping[:, None])) @ rarity
        return scores

    def coverage(self) -> float:
        """How much of the question stands there, 0 to 1: half in the best text, half in any.

        Longer words say more and count more. Unlike relevance it can be compared between prompts.
        """
        total = self.lengths.sum()
        if not total or not len(self.sizes):
            return 0.0
        there = self.counts > 0
        best, anywhere = (there @ self.lengths).max(), there.any(axis=0) @ self.lengths
        return float((best + anywhere) / 2 / total)


def words_of(texts: Sequence[str], terms: Sequence[str]) -> Words:
    """Look for terms, as `tersely.lexical.terms_of` gives them, in some texts."""
    asked = {term: i for i, term in enumerate(dict.fromkeys(terms))}
    sizes: list[int] = []
    hits: list[int] = []
    for row, text in enumerate(texts):
        found = [term for word in TERM.findall(text.lower()) if (term := term_of(word))]
        hits += [row * len(asked) + asked[term] for term in found if term in asked]
        sizes.append(len(found))
    counts = np.bincount(np.array(hits, np.int64), minlength=len(texts) * len(asked))
    return Words(
        counts.reshape(len(texts), len(asked)).astype(np.float64),
        np.array(sizes, np.float64),
        np.array([len(term) for term in asked], np.float64),
    )


@lru_cache(maxsize=REMEMBERED)
def term_of(word: str) -> str:
    """The term of a word in lower case, "" for one that says nothing."""
    return next(iter(terms_of(word)), "")
