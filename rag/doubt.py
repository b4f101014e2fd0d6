"""Tell where an answer is unsure: by the chances of its words, its marks, or other answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import regex

from tersely.contracts import Completion
from tersely.errors import ConfigError
from tersely.lexical import STOPWORDS, terms_of
from tersely.prompt import Span
from tersely.rag.draft import Draft, Word, sentences

MARK = "[?]"
MARKED = regex.compile(r"(?P<fact>[^\s\[\]]{1,64}+)?\s{0,3}+\[\?\]")
"""A fact that the model marked as unsure, and the mark."""

NUMBER = regex.compile(r"\p{N}[\p{N}.,:/]{0,40}(?<=\p{N})|\p{N}")
NAME = regex.compile(r"\p{Lu}[\p{L}\p{M}'’-]{1,64}+")  # noqa: RUF001 - both apostrophes


def weakest(samples: Sequence[Completion]) -> list[float]:
    """The chance of the least likely word that says something, sentence by sentence.

    Sentences without such a word, and answers without log-probabilities, are left out.
    """
    drafts = [Draft.of(sample) for sample in samples]
    told = [draft.words(span) for draft in drafts for span in sentences(draft.text)]
    return [min(word.chance for word in words) for words in told if words]


def calibrated(samples: Sequence[Completion], share: float) -> float:
    """The chance below which a word makes its sentence one of the `share` least sure ones.

    `samples` are answers of the model, with log-probabilities: chances are not the same thing in
    two models, so that a bound has to be found for each. Raises ConfigError when no sample holds
    any, or `share` is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share must be from 0 to 1, was {share}")
    if not (least := weakest(samples)):
        raise ConfigError(
            "no sample holds the chances of its words: ask with logprobs=True, and a backend that"
            " has the capability 'logprobs'"
        )
    return float(np.quantile(least, share))


def masked(draft: Draft, span: Span, weak: Iterable[Word]) -> str:
    """A sentence without its unsure words: what is to be looked up must not be taken for known."""
    at, end = span
    left: list[str] = []
    for word in sorted(weak, key=lambda word: word.start):
        left.append(draft.text[at : word.start])
        at = word.end
    return " ".join("".join([*left, draft.text[at:end]]).split())


def marks(text: str) -> list[Span]:
    """Where the facts stand that a sentence marks as unsure."""
    return [match.span("fact") for match in MARKED.finditer(text) if match["fact"]]


def unmarked(text: str) -> str:
    """The text without its marks of doubt."""
    return MARKED.sub(lambda match: match["fact"] or "", text)


def facts(text: str, question: str = "") -> frozenset[str]:
    """The numbers and names of a text, in lower case, without those of the question.

    A word that begins a sentence is a name only where it is written so elsewhere as well.
    """
    opens = {start for start, _ in sentences(text)}
    inside = {match[0] for match in NAME.finditer(text) if match.start() not in opens}
    names = {word.lower() for word in inside if not STOPWORDS.fullmatch(word.lower())}
    numbers = {match[0] for match in NUMBER.finditer(text)}
    known = {word.lower() for word in NAME.findall(question)} | set(NUMBER.findall(question))
    return frozenset((names | numbers) - known)


def agreement(texts: Sequence[str], question: str = "") -> float:
    """How much of what some answers tell all of them tell: 0 to 1.

    Numbers and names are compared; where none of them tells any, the words.
    """
    told = [facts(text, question) for text in texts]
    if not any(told):
        told = [frozenset(terms_of(text)) for text in texts]
    every = frozenset.union(*told) if told else frozenset()
    return len(frozenset.intersection(*told)) / len(every) if every else 1.0
