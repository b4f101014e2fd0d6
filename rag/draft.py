"""A piece of an answer with the chances of its words, as the backend told them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import regex

from tersely.contracts import Completion
from tersely.lexical import STOPWORDS, TERM
from tersely.prompt import Span
from tersely.units import UNSPACED, split

DRIFT = 8
"""Characters that a token may lie farther on than expected, where a server tells them otherwise
than it writes them."""

REPEATED = 1000
"""Characters of what was said already that may be said again, and are cut away."""

FEWEST_REPEATED = 3
"""Characters from which a repetition is one, and no chance."""

ENDED = regex.compile(r"[\p{P}\p{S}]$")
WIDE = regex.compile(rf"[{UNSPACED}。！？｡、，]")  # noqa: RUF001 - the punctuation of unspaced scripts


@dataclass(frozen=True, slots=True)
class Word:
    """A word that says something, characters `start` to `end`, and how likely the model held it."""

    start: int
    end: int
    chance: float


@dataclass(frozen=True, slots=True)
class Draft:
    """A text, where its tokens lie in it, and their log-probabilities."""

    text: str = ""
    spans: tuple[Span, ...] = ()
    logprobs: tuple[float, ...] = ()

    @classmethod
    def of(cls, heard: Completion) -> Draft:
        """What was heard, with as many tokens as have a log-probability."""
        told = list(zip(heard.tokens, heard.logprobs, strict=False))
        spans = placed(heard.text, [token for token, _ in told])
        return cls(heard.text, tuple(spans), tuple(logprob for _, logprob in told))

    def joined(self, more: Draft, between: str = "") -> Draft:
        """Both, one after the other."""
        head = self.text + between
        moved = ((start + len(head), end + len(head)) for start, end in more.spans)
        return Draft(head + more.text, (*self.spans, *moved), self.logprobs + more.logprobs)

    def after(self, at: int) -> Draft:
        """What follows from a character on."""
        kept = [
            ((max(start - at, 0), end - at), logprob)
            for (start, end), logprob in zip(self.spans, self.logprobs, strict=True)
            if end > at
        ]
        spans = tuple(span for span, _ in kept)
        return Draft(self.text[at:], spans, tuple(logprob for _, logprob in kept))

    def words(self, span: Span) -> list[Word]:
        """The words of a stretch that say something, where their tokens are known.

        A word is as likely as the token with which it begins: what follows of it follows from
        that. A number is as likely as its least likely token.
        """
        found: list[Word] = []
        for match in TERM.finditer(self.text, *span):
            word = match[0]
            if STOPWORDS.fullmatch(word.lower()):
                continue
            chances = self._logprobs(match.span())
            if chances:
                numeric = any(sign.isdigit() for sign in word)
                least = min(chances) if numeric else chances[0]
                found.append(Word(*match.span(), exp(min(least, 0.0))))
        return found

    def _logprobs(self, span: Span) -> list[float]:
        """Those of the tokens that a stretch shares a character with."""
        return [
            logprob
            for (start, end), logprob in zip(self.spans, self.logprobs, strict=True)
            if start < span[1] and span[0] < end
        ]


def placed(text: str, tokens: Sequence[str]) -> list[Span]:
    """Where each token lies in a text; nowhere (an empty span) where it can't be told.

    Tokens are looked for in their order: nothing is split into tokens again, since the text
    does not tell how the model made it.
    """
    spans: list[Span] = []
    at = 0
    for token in tokens:
        found = text.find(token, at, at + len(token) + DRIFT) if token else -1
        spans.append((found, found + len(token)) if found >= 0 else (at, at))
        at = spans[-1][1]
    return spans


def sentences(text: str) -> list[Span]:
    """The sentences of a text, without the white space between them."""
    found = split(text, "sentence")
    return list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))


def repeated(said: str, more: str) -> int:
    """How many characters at the beginning of `more` only repeat the end of what was said."""
    if said and more.startswith(said):
        return len(said)
    for size in range(min(len(said), len(more), REPEATED), FEWEST_REPEATED - 1, -1):
        begins = size == len(said) or not said[-size - 1].isalnum() or not said[-size].isalnum()
        if begins and said.endswith(more[:size]):
            return size
    return 0


def between(said: str, more: str) -> str:
    """What must stand between the end of a text and what follows: a space, or nothing.

    A sentence's end is followed by a space where the script has any; a word that was broken off
    is not.
    """
    if not said or not more or said[-1].isspace() or more[0].isspace():
        return ""
    opens = more[0].isalnum() or more[0] in "\"'([*"
    if WIDE.match(said[-1]) or WIDE.match(more[0]) or not opens:
        return ""
    return " " if ENDED.search(said) else ""
