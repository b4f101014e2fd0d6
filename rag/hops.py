"""The second step of a question: what the best of a context names, and what shares its words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

import numpy as np
import regex

from tersely.documents import named_in
from tersely.lexical import TERM, terms_of
from tersely.rag.words import term_of, words_of
from tersely.units import Bools, Floats, Ints

BEST = 2
"""Sentences from whose words the next step is taken."""

TERMS = 8
"""The words that are taken, the rarest."""

HEAD = regex.compile(r"(?i)^[#\s]*+(?:(?:\w+\s)?title\s*[:=]\s*)?+")
"""What stands before a name in the line that bears it."""


def names_of(titles: Sequence[str]) -> list[str]:
    """Titles without what stands before the name: `#`, `Title:`."""
    return [HEAD.sub("", title) for title in titles]


def linked(values: Floats, documents: Ints, worth: Floats, titles: Bools, weight: float) -> Floats:
    """Values with those raised that lie in documents which others name by their titles.

    They gain `weight` deviations, and never go before the document that is best by itself: what
    answers comes first, then what it leads to. Shape: (units,), (units,), (documents,) twice.
    """
    if not weight or not titles.any():
        return values
    raised = np.minimum(values + weight * values.std(), worth.max())
    return np.where(titles[documents], np.maximum(values, raised), values)


def leads_to(question: str, texts: Sequence[str], worth: Floats, titles: Sequence[str]) -> Bools:
    """Which documents the question, or the best of them, names by their titles.

    The best one needs no help. Shape of all: (documents,).
    """
    best = int(worth.argmax())
    named = named_in(f"{question}\n{texts[best]}", names_of(titles))
    named[best] = False
    return named


def second_step(
    question: str, sentences: Sequence[str], worth: Floats, chunks: Sequence[str]
) -> Floats:
    """How well each chunk answers to the rare words of the best sentences. Shape: (chunks,).

    That is how a second step is found where no document has a title: by words that the question
    does not have, and that stand in more than one chunk but not in most.
    """
    known = set(terms_of(question))
    holding = Counter(term for text in chunks for term in _terms(text))
    most = max(3, len(chunks) / 2)
    gained: dict[str, float] = {}
    for i in np.argsort(-worth, kind="stable")[:BEST].tolist():
        for term in sorted(_terms(sentences[i]) - known):
            if 1 < holding[term] <= most:
                gained[term] = gained.get(term, 0.0) + log(len(chunks) / holding[term])
    rarest = sorted(gained, key=lambda term: -gained[term])[:TERMS]
    return words_of(chunks, rarest).relevance()


def _terms(text: str) -> set[str]:
    return {term for word in TERM.findall(text.lower()) if (term := term_of(word))}
