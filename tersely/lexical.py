"""Score texts by the words they hold: against a question, or for what they are about."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import regex

from tersely.units import Floats, Ints

TERM = regex.compile(
    r"\p{Han}|\p{Hiragana}|[\p{Katakana}ー]{1,64}|\p{Thai}{1,3}|[\p{L}\p{M}\p{N}_]{1,64}"
)

STOPWORDS = regex.compile(
    r"an?|and|are|as|at|be(?:en)?|by|can|did|do(?:es)?|for|from|ha[ds]|have|h[ei]s?|her|hers|how|i"
    r"|i[fnst]|its?|into|me|my|no|not|o[fnr]|our|she|so|such|th(?:at|e|eir|em|en|ere|ese|ey|is)"
    r"|to|was|we(?:re)?|wh(?:at|en|ere|ich|o|om|ose|y)|will|with|would|your?|s|t"
)
"""English words that say nothing about what a text is about."""

WORDS = 2**15
"""Words that are remembered with what they come to: most are seen again and again."""

SUFFIX = regex.compile(r"(?<=\p{L}{3})(?:'s|ies|es|s|ing|ed|ly)$")


def terms_of(text: str) -> list[str]:
    """The words of a text that say what it is about, in lower case and without endings."""
    return [term for word in TERM.findall(text.lower()) if (term := _term(word))]


@lru_cache(maxsize=WORDS)
def _term(word: str) -> str:
    """A word without its ending; "" for one that says nothing."""
    return "" if STOPWORDS.fullmatch(word) else SUFFIX.sub("", word)


def relevance(texts: Sequence[str], question: str) -> Floats:
    """How well each text answers to the words of a question (BM25). Shape: (texts,).

    Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019.
    """
    import bm25s

    asked = set(terms_of(question))
    corpus = [terms_of(text) for text in texts]
    known = asked.intersection(*[set().union(*corpus)]) if corpus else set()
    if not known:
        return np.zeros(len(texts))
    index = bm25s.BM25()
    index.index(corpus, show_progress=False)
    scores = index.get_scores(sorted(known))
    return np.asarray(scores, np.float64)


def centrality(texts: Sequence[str]) -> Floats:
    """How near each text is to what all of them are about: cosine of tf-idf to the mean.

    Shape: (texts,). Radev et al. 2004, https://doi.org/10.1016/j.ipm.2003.10.006.
    """
    width, rows, columns, weights = tf_idf(texts)
    if not len(rows):
        return np.zeros(len(texts))
    mean = np.bincount(columns, weights, width)
    similar = np.bincount(rows, weights * mean[columns], len(texts))
    return similar / np.linalg.norm(mean)


def tf_idf(texts: Sequence[str]) -> tuple[int, Ints, Ints, Floats]:
    """Texts as weights of their words, by how often these stand there and how rare they are.

    How many different words there are; then for every different word of every text, in the order
    of the texts: the text, the word's number, its weight. The weights of one text have the length
    1. Shape of the three: (words of all texts,).
    """
    rows, columns, counts = _counted([terms_of(text) for text in texts])
    if not len(rows):
        return 0, rows, columns, np.zeros(0)
    spread = np.bincount(columns)
    weights = np.log1p(counts) * np.log1p(len(texts) / spread[columns])
    norms = np.sqrt(np.bincount(rows, weights**2, len(texts)))
    return len(spread), rows, columns, weights / norms[rows]


def standardised(scores: Floats) -> Floats:
    """Scores with mean 0 and deviation 1, so that different kinds can be added up."""
    deviation = float(scores.std()) if len(scores) else 0.0
    return (scores - scores.mean()) / deviation if deviation > 1e-12 else np.zeros(len(scores))


def best_of_group(scores: Floats, groups: Ints) -> Floats:
    """For each score the best score of its group. Groups count from 0. Shape: (scores,)."""
    if not len(scores):
        return scores
    best = np.full(int(groups.max()) + 1, -np.inf)
    np.maximum.at(best, groups, scores)
    return best[groups]


def _counted(texts: Sequence[Sequence[str]]) -> tuple[Ints, Ints, Ints]:
    """Every different word of every text: the text, the word's number, how often it stands."""
    numbers: dict[str, int] = {}
    columns = np.array([numbers.setdefault(w, len(numbers)) for t in texts for w in t], np.int64)
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    keys, counts = np.unique(rows * max(len(numbers), 1) + columns, return_counts=True)
    return keys // max(len(numbers), 1), keys % max(len(numbers), 1), counts
