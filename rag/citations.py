"""Check an answer against the passages that it cites, sentence by sentence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

from tersely.account import Citation
from tersely.lexical import terms_of
from tersely.prompt import Span
from tersely.rag.bundle import Bundle
from tersely.retrieval import Passage
from tersely.units import split

MARK = regex.compile(r"[\[【](?P<in>\d{1,3}+(?:\s{0,2}[,;–-]\s{0,2}\d{1,3}+){0,19})[\]】]")  # noqa: RUF001
"""A citation: `[1]`, `[1, 3]`, `[2-4]`."""

RANGE = regex.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")  # noqa: RUF001
WIDEST = 100
"""Passages that a range may span, to be one."""

NUMBER = regex.compile(r"\d++(?:[.,:]\d++)*+")
THOUSANDS = regex.compile(r"(?<=\d),(?=\d{3}(?!\d))")
NAME = regex.compile(r"\b\p{Lu}[\p{L}\p{M}\p{N}]*+")
OPENS = regex.compile(r"\A\W*+\p{Lu}[\p{L}\p{M}\p{N}]*+")
"""The first word of a sentence, whose capital says nothing."""

ENOUGH = 0.6
"""The share of a sentence's words that a passage must hold to support it."""

PAIRS = 0.25
"""How much the order of the words counts beside the words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A sentence of an answer, `text` at characters `start` to `end`, and what it rests on.

    `cited` are the numbers that it gives, and `unknown` those of them that no passage bears. `by`
    are the passages that support it by themselves: of those cited or, where none is, of all.
    `support` is how much of what it says is in the cited passages together (where none is cited,
    in the best one), from 0 to 1, and `lacking` are numbers and names that are not there. A
    sentence without a word that could be looked up counts as supported.
    """

    text: str
    start: int
    end: int
    cited: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    by: tuple[int, ...] = ()
    support: float = 0.0
    lacking: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether the passages say enough of it, every number and name among it."""
        return self.support >= ENOUGH and not self.lacking


def check(answer: str, bundle: Bundle) -> tuple[Checked, ...]:
    """Every sentence of an answer, with its citations and whether the passages support it.

    A passage supports what its words say: by most of the sentence's words and pairs of words, and
    by all its numbers and names. What is said in other words is not found, and a `not` is not
    noticed: it finds slips, it proves nothing.
    """
    numbered = {one.number: _Said.of([one.passage.text]) for one in bundle.shown}
    return tuple(_checked(answer, *one, numbered) for one in _sentences(answer))


def cited(answer: str, passages: Sequence[Passage]) -> tuple[Citation, ...]:
    """The same for passages numbered from 1, as citations of the answer."""
    numbered = {i: _Said.of([one.text]) for i, one in enumerate(passages, 1)}
    found = (_checked(answer, *one, numbered) for one in _sentences(answer))
    return tuple(
        Citation(
            start=one.start,
            end=one.end,
            numbers=tuple(n for n in one.cited if n not in one.unknown) or one.by,
            support=one.support,
            supported=one.supported,
        )
        for one in found
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """What a text says: its words, pairs of neighbours among them, numbers."""

    words: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    numbers: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> _Said:
        plain = [THOUSANDS.sub("", text) for text in texts]
        rows = [(text, terms_of(text)) for text in plain]
        return cls(
            frozenset(word for _, row in rows for word in row),
            frozenset(pair for _, row in rows for pair in pairwise(row)),
            frozenset(number for text, _ in rows for number in NUMBER.findall(text)),
        )

    def __or__(self, other: _Said) -> _Said:
        return _Said(
            self.words | other.words, self.pairs | other.pairs, self.numbers | other.numbers
        )

    def holds(self, said: _Said) -> float:
        """How much of what another text says is said here, 0 to 1."""
        if not said.words:
            return 1.0
        words = len(said.words & self.words) / len(said.words)
        if not said.pairs:
            return words
        return (1 - PAIRS) * words + PAIRS * len(said.pairs & self.pairs) / len(said.pairs)

    def lacks(self, text: str) -> tuple[str, ...]:
        """The numbers and names of a sentence that are not here, each once."""
        numbers = NUMBER.findall(THOUSANDS.sub("", text))
        names = NAME.findall(OPENS.sub("", text))
        lacking = [one for one in numbers if one not in self.numbers]
        lacking += [name for name in names if not self.words.issuperset(terms_of(name))]
        return tuple(dict.fromkeys(lacking))


_Cited = tuple[int, int, tuple[int, ...]]
"""A sentence by its place in the answer, and the numbers that it cites."""


def _checked(
    answer: str, start: int, end: int, numbers: tuple[int, ...], known: Mapping[int, _Said]
) -> Checked:
    text = answer[start:end]
    plain = MARK.sub(" ", text)
    said = _Said.of([plain])
    among = [n for n in numbers if n in known] if numbers else [*known]
    alone = {n: known[n].holds(said) for n in among}
    gaps = {n: known[n].lacks(plain) for n in among}
    if numbers or not alone:
        whole = _all(known[n] for n in among)
        support, lacking = whole.holds(said), whole.lacks(plain)
    else:
        best = min(alone, key=lambda n: (len(gaps[n]), -alone[n]))
        support, lacking = alone[best], gaps[best]
    return Checked(
        text=text,
        start=start,
        end=end,
        cited=numbers,
        unknown=tuple(n for n in numbers if n not in known),
        by=tuple(n for n in among if said.words and alone[n] >= ENOUGH and not gaps[n]),
        support=support,
        lacking=lacking,
    )


def _all(said: Iterable[_Said]) -> _Said:
    together = _Said.of([])
    for one in said:
        together |= one
    return together


def _sentences(answer: str) -> Iterator[_Cited]:
    """The sentences of an answer, each with the citations in it and behind it.

    A citation between two sentences belongs to the one before, but at the head of a line to the
    one after.
    """
    marks = [(match.span(), tuple(_given(match["in"]))) for match in MARK.finditer(answer)]
    plain = MARK.sub(lambda match: " " * len(match[0]), answer)
    units = split(plain, "sentence")
    spans: list[Span] = list(zip(units.starts.tolist(), units.ends.tolist(), strict=True))
    if not spans:
        spans = [(start, start) for (start, _), _ in marks[:1]]
    numbers: list[list[int]] = [[] for _ in spans]
    for (start, end), given in marks:
        i = _owner(answer, spans, start)
        spans[i] = min(spans[i][0], start), max(spans[i][1], end)
        numbers[i] += given
    for (start, end), named in zip(spans, numbers, strict=True):
        yield start, end, tuple(dict.fromkeys(named))


def _owner(answer: str, spans: Sequence[Span], at: int) -> int:
    """Which sentence a citation belongs to."""
    after = bisect_right(spans, at, key=lambda span: span[0])
    before = after - 1
    if before < 0 or at < spans[before][1]:
        return max(before, 0)
    line = answer.rfind("\n", 0, at) + 1
    heads = not MARK.sub("", answer[line:at]).strip(" \t-*•")
    follows = after < len(spans) and "\n" not in answer[at : spans[after][0]]
    return after if heads and follows else before


def _given(inner: str) -> Iterator[int]:
    """The numbers between the brackets of a citation."""
    for first, last in RANGE.findall(inner):
        low, high = int(first), int(last or first)
        yield from range(low, high + 1) if low <= high < low + WIDEST else (low, high)
