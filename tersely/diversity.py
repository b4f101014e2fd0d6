"""Say nothing twice: drop what is nearly the same, and prefer what adds something new."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import regex

from tersely.lexical import TERM
from tersely.retrieval import Vectors
from tersely.units import Bools, Floats, Ints

ALIKE = 0.97
"""Cosine from which two passages say the same."""

SHARED = 0.8
"""Share of common shingles (Jaccard) from which two passages say the same."""

SHINGLE = 4
"""Words in a row that are looked up together."""

NUMBER = regex.compile(r"\p{N}+(?:[.,:]\p{N}+)*")


def mmr(vectors: Vectors, relevance: Floats, k: int, weight: float = 0.5) -> Ints:
    """The k rows that are relevant and unlike each other, in the order of choice.

    At each step the row is taken that has the most of `weight * relevance - (1 - weight) *
    cosine to the nearest taken`. A weight of 1 ranks by relevance alone; relevance should run
    from 0 to 1, as cosines do. Shape: (min(k, rows),). Maximal marginal relevance, Carbonell and
    Goldstein 1998, https://doi.org/10.1145/290941.291025.
    """
    return mmr_by(lambda row: vectors @ vectors[row], relevance, k, weight)


def mmr_by(
    likeness: Callable[[int], Floats | Vectors], relevance: Floats, k: int, weight: float = 0.5
) -> Ints:
    """The same where `likeness` tells how like all rows are to one of them. Shape: (min(k, rows),).

    It is asked once for each row that is taken.
    """
    gains = weight * np.asarray(relevance, np.float64)
    nearest = np.full(len(gains), -np.inf)
    taken = np.zeros(min(max(k, 0), len(gains)), np.int64)
    open_ = np.ones(len(gains), np.bool_)
    for step in range(len(taken)):
        worth = gains - (1 - weight) * nearest if step else gains
        best = int(np.argmax(np.where(open_, worth, -np.inf)))
        taken[step] = best
        open_[best] = False
        nearest = np.maximum(nearest, likeness(best))
    return taken


def near_duplicates(
    texts: Sequence[str], vectors: Vectors | None = None, alike: float | None = None
) -> Bools:
    """Which texts say what an earlier one that stays has said. Shape: (texts,).

    They are compared by their vectors (`alike` is a cosine, 0.97 unless given), and where there
    are none by their shingles of four words (`alike` is the share in common, 0.8 unless given;
    Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900). Texts whose numbers differ are
    never taken for the same.
    """
    if vectors is None:
        return _by_words(texts, SHARED if alike is None else alike)
    return _by_vectors(texts, vectors, ALIKE if alike is None else alike)


def _by_vectors(texts: Sequence[str], vectors: Vectors, alike: float) -> Bools:
    close = vectors @ vectors.T >= alike
    repeated = np.zeros(len(texts), np.bool_)
    for i in np.flatnonzero(np.tril(close, -1).any(axis=1)).tolist():
        earlier = np.flatnonzero(close[i, :i] & ~repeated[:i]).tolist()
        repeated[i] = any(_same_numbers(texts[i], texts[j]) for j in earlier)
    return repeated


def _by_words(texts: Sequence[str], alike: float) -> Bools:
    sets = [_shingles(text) for text in texts]
    repeated = np.zeros(len(texts), np.bool_)
    holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, mine in enumerate(sets):
        common = Counter(j for one in mine for j in holders.get(one, ()))
        repeated[i] = any(
            count >= alike * (len(mine) + len(sets[j]) - count)
            and _same_numbers(texts[i], texts[j])
            for j, count in common.items()
        )
        if not repeated[i]:
            for one in mine:
                holders[one].append(i)
    return repeated


def _shingles(text: str) -> set[tuple[str, ...]]:
    """Every run of four words; all words together where there are fewer."""
    words = TERM.findall(text.lower())
    last = max(len(words) - SHINGLE, 0)
    return {tuple(words[i : i + SHINGLE]) for i in range(last + 1)} if words else set()


def _same_numbers(one: str, other: str) -> bool:
    return set(NUMBER.findall(one)) == set(NUMBER.findall(other))
