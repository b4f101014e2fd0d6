"""What a sentence states that can be looked up: numbers, dates, names, ids, links, negations."""
# ruff: noqa: RUF001 - the patterns name the punctuation of many scripts

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import regex

from tersely.lexical import STOPWORDS, terms_of
from tersely.numerals import DIGITS, SPELLED, Amount, amount_of, spelled_amount
from tersely.openers import OPENERS
from tersely.prompt import Span
from tersely.protect import MONTH, PATTERNS

FactKind = Literal["link", "id", "quotation", "date", "number", "name", "negation"]


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a sentence states, by its place there. `key` is what it is compared by."""

    kind: FactKind
    text: str
    start: int
    end: int
    key: tuple[object, ...] = ()


LITERAL: dict[FactKind, tuple[str, ...]] = {
    "link": ("url", "email"),
    "id": ("placeholder", "tag", "path", "id"),
    "quotation": ("quoted",),
}
"""What must stand in the source as it is, by the patterns that find it."""

FOUND = {
    name: regex.compile(PATTERNS[name])
    for name in ("url", "email", "quoted", "placeholder", "tag", "date", "path", "id")
}

BULLET = regex.compile(r"\s*+(?:(?:[-*•–—>]|#{1,6}|\(?\d{1,3}[.)]|[a-z][.)])\s++)++")
"""What opens an item of a list and states nothing."""

EITHER = regex.compile(r"\p{L}++/\p{L}++")
"""`and/or`: no path."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
PLAIN_DATE = regex.compile(r"(\d{4})-(\d{2})-(\d{2})")
SPOKEN_DATE = regex.compile(
    rf"(?:(\d{{1,2}})(?:st|nd|rd|th)?\s(?:of\s)?)?({MONTH})"
    r"(?:\s(\d{1,2})(?:st|nd|rd|th)?\b(?!\d))?(?:,?\s(\d{4}))?"
)

CAPITAL = regex.compile(r"\p{Lu}[\p{L}\p{M}\p{N}]*+(?:['’\-&.]\p{L}[\p{L}\p{M}\p{N}]*+)*+")
BETWEEN = regex.compile(r"\.?\s{1,2}")
"""What stands between the words of one name."""

POSSESSIVE = regex.compile(r"['’]s?$")
ALWAYS = regex.compile(r"I(?:['’]\p{L}{1,2})?")
"""What has a capital wherever it stands."""

NO_MATTER = regex.compile(r"[\s.]")
"""What notations of one date may differ in."""

OPENS = regex.compile(r"(?:^|[.!?:;…]|\n)[\s\p{Ps}\p{Pi}\"'*_•\-–—]*+$")
"""What stands before a word whose capital says nothing."""

CUE = regex.compile(
    r"(?i)\b(?:not|never|cannot|no|nothing|nobody|nowhere|without|unless|except|neither|nor|none"
    r"|[a-z]{2,8}n['’]t)\b"
)
"""Words that turn a sense round."""

ASIDE = regex.compile(r"(?i)\b(?:not only|no doubt|no longer|no more|not just|nonetheless)\b")
"""Cues that turn nothing round by themselves, or whose sense is their own."""

STOPS = regex.compile(r"[,;:.!?()\n]|\bbut\b")
WORDS_TURNED = 3
"""How many words that say something a negation reaches."""


def facts_of(sentence: str) -> list[Fact]:
    """Everything in a sentence that its source must hold, in order.

    Names are known by their capitals: scripts without them have none. A number that opens an item
    of a list is no fact, nor is the capital of a sentence's first word where the word is a common
    one.
    """
    opened = BULLET.match(sentence)
    body = opened.end() if opened else 0
    found: list[Fact] = []
    for fact in (*_literal(sentence), *_dates(sentence), *_numbers(sentence), *_names(sentence)):
        if fact.start >= body and all(_apart(fact, one) for one in found):
            found.append(fact)
    found += negations(sentence)
    return sorted(found, key=lambda fact: (fact.start, fact.end))


def root(term: str) -> str:
    """A term without what is left of its endings: `approve` and `approved` are one."""
    return term.rstrip("e") if len(term) > 3 else term


def roots_of(text: str) -> list[str]:
    """The words of a text that say something, without their endings."""
    return [root(term) for term in terms_of(text)]


def negations(sentence: str) -> list[Fact]:
    """Every negation, with the words that say something behind it: those it turns round."""
    aside = [match.span() for match in ASIDE.finditer(sentence)]
    found: list[Fact] = []
    for cue in CUE.finditer(sentence):
        if any(start <= cue.start() < end for start, end in aside):
            continue
        stop = STOPS.search(sentence, cue.end())
        reach = sentence[cue.end() : stop.start() if stop else len(sentence)]
        turned = tuple(one for one in roots_of(reach) if not CUE.fullmatch(one))[:WORDS_TURNED]
        found.append(Fact("negation", cue[0], *cue.span(), turned))
    return found


def date_of(text: str) -> tuple[object, ...]:
    """Year, month and day, None where one is not said; of other notations the text itself."""
    if plain := PLAIN_DATE.fullmatch(text):
        return tuple(int(one) for one in plain.groups())
    if spoken := SPOKEN_DATE.fullmatch(text):
        first, month, second, year = spoken.groups()
        day = first or second
        number = MONTHS.index(month[:3].lower()) + 1
        return (int(year) if year else None, number, int(day) if day else None)
    return (NO_MATTER.sub("", text.casefold()).lstrip("0"),)


def _literal(sentence: str) -> Iterator[Fact]:
    for kind, names in LITERAL.items():
        for name in names:
            for match in FOUND[name].finditer(sentence):
                text = match[0].rstrip(".,;:!?)") if name == "url" else match[0]
                if not EITHER.fullmatch(text):
                    start = match.start()
                    yield Fact(kind, text, start, start + len(text), (text.rstrip("/"),))


def _dates(sentence: str) -> Iterator[Fact]:
    for match in FOUND["date"].finditer(sentence):
        yield Fact("date", match[0], *match.span(), date_of(match[0]))


def _numbers(sentence: str) -> Iterator[Fact]:
    for pattern, read in ((DIGITS, amount_of), (SPELLED, spelled_amount)):
        for match in pattern.finditer(sentence):
            amount: Amount | None = read(match)
            if amount is not None:
                yield Fact("number", match[0], *match.span(), amount)


def _names(sentence: str) -> Iterator[Fact]:
    """Runs of words with a capital."""
    run: list[regex.Match[str]] = []
    for word in CAPITAL.finditer(sentence):
        if run and not BETWEEN.fullmatch(sentence, run[-1].end(), word.start()):
            yield from _name(sentence, run)
            run = []
        run.append(word)
    yield from _name(sentence, run)


def _name(sentence: str, run: list[regex.Match[str]]) -> Iterator[Fact]:
    """A run of words as a name, without a common word that only opens the sentence."""
    words = [word for word in run if not _is_said_so(word[0])]
    if run and words and words[0] is run[0] and OPENS.search(sentence[: run[0].start()]):
        words = words[_is_common(run[0][0]) :]
    if words:
        start, end = words[0].start(), words[-1].end()
        parts = tuple(bare(word[0]) for word in words)
        yield Fact("name", sentence[start:end], start, end, parts)


def bare(word: str) -> str:
    """A word without the mark of the possessive."""
    return POSSESSIVE.sub("", word)


def _is_said_so(word: str) -> bool:
    """Whether a word is written with a capital wherever it stands."""
    return ALWAYS.fullmatch(word) is not None


def _is_common(word: str) -> bool:
    lower = bare(word).casefold()
    return lower in OPENERS or STOPWORDS.fullmatch(lower) is not None or "n't" in lower


def _apart(one: Fact, other: Fact) -> bool:
    return one.end <= other.start or other.end <= one.start


def overlaps(span: Span, fact: Fact) -> bool:
    """Whether a fact has a character in a span."""
    return span[0] < fact.end and fact.start < span[1]
