"""Give the parts of an answer that quote across a cut their original wording back.

LongLLMLingua's subsequence recovery (Jiang et al. 2023, https://arxiv.org/abs/2310.06839), by
what is known of every character's origin rather than by a search through the original text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tersely.lexical import STOPWORDS
from tersely.middleware.provenance import copies
from tersely.origins import Origins
from tersely.prompt import Leaf
from tersely.render import would_fuse
from tersely.report import Trace
from tersely.units import TOKEN, Bools, Ints, split

UNKNOWN, WALL = -2, -1
"""What stands for a word that the answer does not hold, and for the end of a text."""

INNER = ".,:/_-"
"""Signs that stand within a name or number."""

LONGEST = 64
"""How many characters half a word is completed with at most."""

Change = tuple[int, int, str]
"""A span of the answer and what it becomes."""


def recovered(answer: str, trace: Trace, *, min_words: int, min_chars: int) -> str:
    """The answer with every quote across a cut as the original has it."""
    pieces: list[str] = []
    at = 0
    for start, end, text in changes(answer, trace, min_words=min_words, min_chars=min_chars):
        pieces += answer[at:start], text
        at = end
    return "".join(pieces) + answer[at:]


def changes(answer: str, trace: Trace, *, min_words: int, min_chars: int) -> list[Change]:
    """The quotes across a cut, in order, and the original text of each."""
    pairs = zip(trace.before.leaves, trace.after.leaves, strict=True)
    leaves = [(old, new) for old, new in pairs if new.text]
    if not any(old.text != new.text for old, new in leaves):
        return []
    asked = _Answer(answer, min_words, min_chars)
    parts = [_Sent.of(old, new, asked.numbers) for old, new in leaves]
    found: list[Change] = []
    for change in _changes(asked, parts):
        if not found or change[0] >= found[-1][1]:
            found.append(change)
    return found


@dataclass(slots=True)
class _Answer:
    """An answer in words and signs; equal ones, whatever their case, have the same number."""

    text: str
    min_words: int
    min_chars: int
    spans: list[tuple[int, int]] = field(init=False)
    numbers: dict[str, int] = field(init=False, default_factory=dict)
    ids: list[int] = field(init=False)
    says: list[bool] = field(init=False)
    """Which of them are words that say something."""

    def __post_init__(self) -> None:
        self.spans = [match.span() for match in TOKEN.finditer(self.text)]
        words = [self.text[start:end].casefold() for start, end in self.spans]
        self.ids = [self.numbers.setdefault(word, len(self.numbers)) for word in words]
        self.says = [word[0].isalnum() and not STOPWORDS.fullmatch(word) for word in words]

    def trimmed(self, first: int, last: int) -> tuple[int, int] | None:
        """A quote without what says nothing at its ends, and without halves of words."""
        while first < last and not (self.says[first] and self._begins(first)):
            first += 1
        while first < last and not (self.says[last - 1] and self._ends(last - 1)):
            last -= 1
        letters = sum(end - start for start, end in self.spans[first:last])
        enough = sum(self.says[first:last]) >= self.min_words and letters >= self.min_chars
        return (first, last) if enough and first < last else None

    def _begins(self, at: int) -> bool:
        start = self.spans[at][0]
        return start == 0 or not would_fuse(self.text[start - 1], self.text[start])

    def _ends(self, at: int) -> bool:
        end = self.spans[at][1]
        return end == len(self.text) or not would_fuse(self.text[end - 1], self.text[end])


@dataclass(slots=True)
class _Sent:
    """A text as it was sent, in words: their numbers, and where each lay in the original.

    `runs` are the first and the last run that a word lies in, `places` where it begins and ends
    in the original, -1 where it is new. Shapes: (words,), (words, 2), (words, 2).
    """

    source: str
    ids: Ints
    runs: Ints
    places: Ints
    edges: Bools
    """Whether a word begins, and ends, together with its run. Shape: (words, 2)."""
    _sentences: Ints | None = None

    @classmethod
    def of(cls, old: Leaf, new: Leaf, numbers: dict[str, int]) -> _Sent:
        text = new.text
        spans = [match.span() for match in TOKEN.finditer(text)]
        ids = [numbers.get(text[start:end].casefold(), UNKNOWN) for start, end in spans]
        bounds = np.array(spans, np.int64).reshape(-1, 2)
        runs, places, edges = _traced(bounds, copies(old, new))
        return cls(old.text, np.array([*ids, WALL], np.int64), runs, places, edges)

    def sentence(self, place: int) -> int:
        """The number of the sentence that a place of the original lies in."""
        if self._sentences is None:
            self._sentences = split(self.source, "sentence").starts
        return int(np.searchsorted(self._sentences, place, "right"))

    def stretches(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Words in a row that come, in order, from one sentence."""
        start = first
        for at in range(first, last):
            if self.places[at].min() < 0:
                yield start, at
                start = at + 1
            elif at > start and not self._go_on(at):
                yield start, at
                start = at
        yield start, last

    def original(self, first: int, last: int) -> str | None:
        """The original of some words in a row; None when nothing was cut out of it."""
        start, end = int(self.places[first, 0]), int(self.places[last - 1, 1])
        if self.edges[first, 0]:
            start = _begun(self.source, start)
        if self.edges[last - 1, 1]:
            end = _ended(self.source, end)
        inner = self.places[first:last].ravel()[1:-1].reshape(-1, 2)
        gaps = [self.source[a:b] for a, b in inner.tolist()]
        split_words = (self.runs[first:last, 0] != self.runs[first:last, 1]).any()
        whole = (start, end) == (int(self.places[first, 0]), int(self.places[last - 1, 1]))
        if whole and not split_words and not any(gap.strip() for gap in gaps):
            return None
        return self.source[start:end]

    def _go_on(self, at: int) -> bool:
        """Whether a word and the one before it come from one sentence, in order."""
        if self.runs[at, 0] == self.runs[at - 1, 1]:
            return True
        end, start = int(self.places[at - 1, 1]), int(self.places[at, 0])
        return end <= start and self.sentence(end - 1) == self.sentence(start)


def _traced(bounds: Ints, origins: Origins) -> tuple[Ints, Ints, Bools]:
    """The runs and the original places of words, and at which ends their runs end too."""
    table = np.array(origins or [(0, 0, 0)], np.int64)
    firsts = bounds[:, 0], bounds[:, 1] - 1
    runs = [np.maximum(np.searchsorted(table[:, 0], at, "right") - 1, 0) for at in firsts]
    inside = [
        (table[run, 0] <= at) & (at < table[run, 0] + table[run, 2])
        for run, at in zip(runs, firsts, strict=True)
    ]
    moved = [table[run, 1] - table[run, 0] + at for run, at in zip(runs, firsts, strict=True)]
    places = [np.where(old, at, -1) for old, at in zip(inside, moved, strict=True)]
    places[1] = np.where(inside[1], places[1] + 1, -1)
    opens = table[runs[0], 0] == bounds[:, 0]
    closes = table[runs[1], 0] + table[runs[1], 2] == bounds[:, 1]
    columns = np.column_stack
    return columns(runs), columns(places), columns((opens, closes))


def _changes(asked: _Answer, parts: list[_Sent]) -> Iterator[Change]:
    """What changes in the answer, in order."""
    sent = np.concatenate([part.ids for part in parts])
    bounds = np.cumsum([0, *(len(part.ids) for part in parts)])
    order = np.argsort(sent, kind="stable")
    ranked = sent[order]
    at = 0
    while at < len(asked.ids) - 1:
        low, high = np.searchsorted(ranked, (asked.ids[at], asked.ids[at] + 1)).tolist()
        length, places = _longest(asked.ids, at, sent, order[low:high])
        if length > 1:
            owners = np.searchsorted(bounds, places, "right") - 1
            found = zip(owners.tolist(), (places - bounds[owners]).tolist(), strict=True)
            yield from _agreed(
                frozenset(_mended(asked, at, length, parts[which], place)) for which, place in found
            )
        at += max(length - 1, 1)


def _longest(ids: list[int], at: int, sent: Ints, places: Ints) -> tuple[int, Ints]:
    """The longest run of the answer from here on that was sent, and where it stands there."""
    length = 0
    while len(places) and at + length < len(ids):
        more = places[sent[places + length] == ids[at + length]]
        if not len(more):
            break
        places, length = more, length + 1
    return length, places


def _agreed(outcomes: Iterator[frozenset[Change]]) -> list[Change]:
    """The changes that every place of a quote asks for; none when two places differ."""
    first = next(outcomes)
    return sorted(first) if first and all(other == first for other in outcomes) else []


def _mended(asked: _Answer, at: int, length: int, part: _Sent, place: int) -> Iterator[Change]:
    """What changes in a run of the answer if it quotes the words at a place."""
    for first, last in part.stretches(place, place + length):
        quote = asked.trimmed(first - place + at, last - place + at)
        if quote is None:
            continue
        begin, end = (which - at + place for which in quote)
        text = part.original(begin, end)
        if text is not None:
            yield asked.spans[quote[0]][0], asked.spans[quote[1] - 1][1], text


def _begun(source: str, at: int) -> int:
    """Where the word begins that goes on at a place, with signs in the middle of it."""
    for start in range(at, max(at - LONGEST, 0), -1):
        joined = would_fuse(source[start - 1], source[start])
        if not joined and not _within(source, start - 1) and not _within(source, start):
            return start
    return max(at - LONGEST, 0)


def _ended(source: str, at: int) -> int:
    """Where the word ends that a place lies behind, with signs in the middle of it."""
    for end in range(at, min(at + LONGEST, len(source))):
        joined = would_fuse(source[end - 1], source[end])
        if not joined and not _within(source, end) and not _within(source, end - 1):
            return end
    return min(at + LONGEST, len(source))


def _within(source: str, at: int) -> bool:
    """Whether a sign stands in the middle of a word or number."""
    if source[at] not in INNER or not 0 < at < len(source) - 1:
        return False
    return source[at - 1].isalnum() and source[at + 1].isalnum()
