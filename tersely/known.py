"""What a source holds, so that what is said of it can be looked up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

import regex

from tersely.facts import (
    DAYS,
    WORDS_TURNED,
    Fact,
    FactKind,
    bare,
    facts_of,
    negations,
    roots_of,
)
from tersely.lexical import terms_of
from tersely.prompt import Span
from tersely.units import split

WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*+(?:['’\-&.]\p{L}[\p{L}\p{M}\p{N}]*+)*+")  # noqa: RUF001
HINGE = regex.compile(r"[\-&.]")
SPACES = regex.compile(r"\s+")
QUOTES = "\"'“”«»「」`‘’.,;:!? "  # noqa: RUF001

UNWILLING = regex.compile(
    r"(?i)\b(?:fail|refus|declin|reject|lack|den(?:y|ie)|forb|prohibit|avoid|against|unable"
    r"|impossible|hardly|barely|rarely|seldom)\w{0,6}+"
)
"""Words that turn a sense round as a negation does, in other words."""

ALIKE = 0.5
"""The share of a sentence's words from which another sentence speaks of the same."""

SOURCES = 3
"""How many sentences of the source stand for one of a summary."""

SLIPS_FROM = 5
"""Letters from which a name may be a slip of the pen for another."""

_MONTHS = "january february march april may june july august september october november december"
CALENDAR = frozenset(_MONTHS.split())
"""Months, many of which are other words in lower case."""


@dataclass(frozen=True, slots=True)
class Known:
    """A source, looked through once."""

    text: str
    spans: tuple[Span, ...]
    roots: tuple[frozenset[str], ...]
    reached: frozenset[str]
    denied: tuple[frozenset[str], ...]
    whole: frozenset[str]
    keys: dict[FactKind, frozenset[tuple[object, ...]]]
    words: frozenset[str]
    written: frozenset[str]
    terms: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    plain: str
    holders: dict[str, list[int]] = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Known:
        """Look a source through, in linear time."""
        units = split(text, "sentence")
        texts = units.texts
        facts = [fact for one in texts for fact in facts_of(one)]
        words = [bare(word) for word in WORD.findall(text)]
        plain = [word.casefold() for word in words]
        parts = [part for word in plain for part in HINGE.split(word)]
        roots = tuple(frozenset(roots_of(one)) for one in texts)
        holders: dict[str, list[int]] = {}
        for i, some in enumerate(roots):
            for one in some:
                holders.setdefault(one, []).append(i)
        return cls(
            text=text,
            spans=tuple(zip(units.starts.tolist(), units.ends.tolist(), strict=True)),
            roots=roots,
            reached=frozenset(word for one in texts for run in _turned(one) for word in run),
            denied=tuple(frozenset(_denied(one)) for one in texts),
            whole=frozenset(map(_even, texts)),
            keys=_keys(facts),
            words=frozenset([*plain, *parts]),
            written=frozenset(words),
            terms=frozenset(term for word in plain for term in terms_of(word)),
            pairs=frozenset([*pairwise(plain), *pairwise(parts)]),
            plain=_even(text).casefold(),
            holders=holders,
        )

    def lacks(self, sentence: str) -> list[Fact]:
        """The facts of a sentence that the source does not hold; none of one copied from it."""
        if _even(sentence) in self.whole:
            return []
        return [fact for fact in facts_of(sentence) if not self.holds(fact)]

    def holds(self, fact: Fact) -> bool:
        """Whether the source states that too."""
        match fact.kind:
            case "name":
                return self._holds_name([str(one) for one in fact.key])
            case "negation":
                return self._holds_negation([str(one) for one in fact.key])
            case "number":
                amounts = self.keys.get("number", frozenset())
                return fact.key in amounts or (not fact.key[1] and (fact.key[0],) in amounts)
            case "date":
                return any(_agrees(fact.key, one) for one in self.keys.get("date", ()))
            case "link":
                return fact.key in self.keys.get("link", ())
            case "quotation":
                return _stands(fact.text.strip(QUOTES).casefold(), self.plain)
            case _:
                return _stands(fact.text, self.text)

    def turned(self, sentence: str) -> str:
        """A word that a sentence states and its source negates, or ""."""
        if _even(sentence) in self.whole:
            return ""
        said = frozenset(roots_of(sentence))
        stated = said - frozenset(word for run in _turned(sentence) for word in run)
        near = [i for i, share in self._near(said) if share >= ALIKE]
        for one in sorted(self.denied[near[0]] & stated) if near else ():
            if not any(one in self.roots[i] - self.denied[i] for i in near):
                return str(next(w for w in WORD.findall(sentence) if one in roots_of(w)))
        return ""

    def sources(self, sentence: str) -> tuple[tuple[Span, ...], float]:
        """The sentences that say what this one says, and how much of it they say: 0 to 1.

        The one that shares most of its words comes first, then those that hold what it lacks.
        """
        said = frozenset(roots_of(sentence))
        left, found = set(said), []
        for _ in range(SOURCES):
            best = max(self._near(frozenset(left)), key=lambda one: one[1], default=None)
            if best is None:
                break
            found.append(best[0])
            left -= self.roots[best[0]]
        support = 1 - len(left) / len(said) if said else 1.0
        return tuple(self.spans[i] for i in found), support

    def nearest_name(self, word: str) -> str:
        """The only word of the source that this name is a slip of the pen for, or ""."""
        if len(word) < SLIPS_FROM:
            return ""
        near = {one for one in self.written if one[:1].isupper() and _one_apart(one, word)}
        return near.pop() if len(near) == 1 else ""

    def _near(self, said: frozenset[str]) -> list[tuple[int, float]]:
        """Sentences that share words with what is said, by the share, the most first."""
        counts: dict[int, int] = {}
        for one in said:
            for i in self.holders.get(one, ()):
                counts[i] = counts.get(i, 0) + 1
        ranked = sorted(counts.items(), key=lambda one: (-one[1], len(self.roots[one[0]]), one[0]))
        return [(i, count / len(said)) for i, count in ranked]

    def _holds_name(self, parts: list[str]) -> bool:
        plain = [part.casefold() for part in parts]
        if not all(self._holds_word(*one) for one in zip(parts, plain, strict=True)):
            return False
        return all(pair in self.pairs for pair in pairwise(plain))

    def _holds_word(self, word: str, plain: str) -> bool:
        if plain in DAYS or plain in CALENDAR:
            return word in self.written
        if plain in self.words:
            return True
        if plain.removesuffix("s") in self.words or f"{plain}s" in self.words:
            return True
        parts = HINGE.split(plain)
        return len(parts) > 1 and all(part in self.words for part in parts if part)

    def _holds_negation(self, turned: list[str]) -> bool:
        return turned[0] in self.reached if turned else bool(self.reached)


def _even(text: str) -> str:
    return SPACES.sub(" ", text).strip()


def _stands(text: str, where: str) -> bool:
    """Whether a text stands somewhere, not as a part of a longer word or number."""
    at = where.find(text)
    while at >= 0:
        end = at + len(text)
        before, after = where[at - 1 : at] if at else "", where[end : end + 1]
        if not (_joins(before, text[:1]) or _joins(text[-1:], after)):
            return True
        at = where.find(text, at + 1)
    return False


def _joins(one: str, other: str) -> bool:
    return (one.isalnum() or one == "_") and (other.isalnum() or other == "_")


def _keys(facts: Sequence[Fact]) -> dict[FactKind, frozenset[tuple[object, ...]]]:
    """What there is of each kind; of numbers also the values, whatever they count."""
    keys: dict[FactKind, set[tuple[object, ...]]] = {}
    for fact in facts:
        keys.setdefault(fact.kind, set()).add(fact.key)
        if fact.kind == "number":
            keys["number"].add(fact.key[:1])
        if fact.kind == "date" and len(fact.key) == 3:
            keys.setdefault("number", set()).update(_values(fact.key))
    return {kind: frozenset(some) for kind, some in keys.items()}


def _values(date: tuple[Any, ...]) -> Iterator[tuple[object, ...]]:
    """The year of a date, which may be told by itself."""
    if date[0] is not None:
        value = Decimal(date[0]).normalize()
        yield from ((value,), (value, ""))


def _agrees(said: tuple[object, ...], known: tuple[object, ...]) -> bool:
    """Whether a date says nothing but what the known one does."""
    if len(said) != len(known):
        return False
    return all(a is None or a == b for a, b in zip(said, known, strict=True))


def _turned(sentence: str) -> Iterator[tuple[str, ...]]:
    """The words that each negation of a sentence turns round, and those turned in other words."""
    for fact in negations(sentence):
        yield tuple(map(str, fact.key))
    for match in UNWILLING.finditer(sentence):
        yield tuple(roots_of(sentence[match.end() :])[:WORDS_TURNED])


def _denied(sentence: str) -> Iterator[str]:
    """The word that each negation stands before."""
    return (run[0] for run in _turned(sentence) if run)


def _one_apart(one: str, other: str) -> bool:
    """Whether two words differ by one letter: another one, one more, one less, or two swapped."""
    if one == other or abs(len(one) - len(other)) > 1 or one[:1] != other[:1]:
        return False
    start = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[:2][::-1] and a[2:] == b[2:])
