"""Split a text into units: the pieces that a pruner keeps or drops as a whole."""
# ruff: noqa: RUF001 - the patterns name the punctuation of many scripts

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import regex
from numpy.typing import NDArray

from tersely.clusters import whole
from tersely.prompt import Span

Unit = Literal["token", "word", "phrase", "sentence", "line", "paragraph"]
"""How finely a text is split. A `token` is a run of letters, of digits or of signs."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

LONGEST_WORD = 64
"""Characters after which a run without white space is split."""

LONGEST_SENTENCE = 1000
"""Characters after which a sentence is split between records, and at a comma or a space."""

LONGEST_PHRASE = 6
"""Words after which a phrase is split."""

BLANKS = np.array([i for i in range(0x3001) if chr(i).isspace()], np.uint32)

UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
)
"""Scripts that put no space between words."""

ALONE = r"\p{Extended_Pictographic}\p{Emoji_Modifier}\p{Regional_Indicator}"
"""Characters that are words by themselves."""

WORD = regex.compile(
    rf"(?V1)[{UNSPACED}]{{1,2}}[\p{{P}}--[\"“‘(\[{{]]*+"
    rf"|[{ALONE}]"
    rf"|[\S--[{UNSPACED}{ALONE}]]{{1,{LONGEST_WORD}}}+"
)
TOKEN = regex.compile(
    rf"(?V1)[{UNSPACED}]|[{ALONE}]"
    rf"|[\p{{L}}\p{{M}}--[{UNSPACED}]]{{1,{LONGEST_WORD}}}+"
    rf"|\p{{N}}{{1,{LONGEST_WORD}}}+"
    rf"|[\S--[\p{{L}}\p{{N}}{ALONE}]]{{1,{LONGEST_WORD}}}+"
)

PHRASE_END = regex.compile(r"[\p{P}\p{S}]$")
PHRASE_START = regex.compile(
    r"(?i)a(?:n|nd|ny|s|t|bout|fter|gainst|lthough)?|be(?:cause|fore|tween)|but|by|during|each"
    r"|every|for|from|ha[ds]|have|he|i[fnst]|its|into|like|near|o[fnr]|onto|our|over|per|she"
    r"|since|so|some|th(?:an|at|e|eir|en|ese|ey|is|ose|ough|rough)|to(?:ward)?|under|until|upon"
    r"|was|we(?:re)?|wh(?:en|ere|ether|ich|ile|o|om|ose)|will|with(?:in)?|your?"
)
"""Function words that open a new phrase in English."""

SHORT = (
    r"Mrs?|Ms|Drs?|Prof|Sr|Jr|St|Mt|Gen|Sen|Rep|Gov|Capt|Lt|vs|etc|cf|al|Figs?|Eqs?|Nos?|Vol|pp?"
    r"|Inc|Ltd|Corp|Co|approx|est|resp|e\.g|i\.e|a\.m|p\.m|U\.S|\p{Lu}"
)
"""What a dot follows without ending a sentence."""

CLOSERS = r"[\p{Pe}\p{Pf}\"'*_]*+"

SENTENCE_END = regex.compile(
    rf"(?<![.!?…])(?:(?<!\b(?:{SHORT})|^\s{{0,20}}\d{{1,3}})\.|[!?…])[.!?…]*+{CLOSERS}"
    r"(?=\s++(?!\p{Ll}))"  # prose
    rf"|[。！？｡؟।॥۔]++{CLOSERS}"  # needs no space after it
    r"|\n(?=[^\S\n]*+(?:\n|\r|[-*+•–—>#|=~\[{(<]|\d{1,3}[.)]|[^\n:]{1,40}+:\s))"  # lists, speakers
    r"|(?<=[.:;!?…|}\])>\"”][^\S\n]{0,3})\n"
    r"|(?<=^[^\n]{0,48})\n",  # a short line stands alone; longer ones may be wrapped prose
    regex.MULTILINE,
)
LINE_END = regex.compile(r"\r\n?|\n")
PARAGRAPH_END = regex.compile(r"\n[^\S\n]*+\n\s*+")

RECORD_END = regex.compile(r"[}\])]\s*+,\s*+(?=[{\[(])")
"""Between the records of JSON that was cut off, or that no parser reads."""

PIECE = regex.compile(
    rf"(?s:.{{400,{LONGEST_SENTENCE}}})(?:(?<=[,;:，；、：])|(?=\s))|(?s:.{{1,{LONGEST_SENTENCE}}})"
)


@dataclass(frozen=True, slots=True)
class Units:
    """Pieces of a text, in order, that leave out nothing but white space.

    Piece `i` is `text[starts[i]:ends[i]]`. Shape of both: (pieces,).
    """

    text: str
    starts: Ints
    ends: Ints

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def texts(self) -> list[str]:
        """Every piece by itself."""
        spans = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        return [self.text[start:end] for start, end in spans]

    def touching(self, spans: Sequence[Span]) -> Bools:
        """Which pieces share a character with one of the spans. Shape: (pieces,)."""
        steps = np.zeros(len(self) + 1, np.int64)
        if spans and len(self):
            first, last = self._reach(spans)
            inside = first <= last
            np.add.at(steps, first[inside], 1)
            np.add.at(steps, last[inside] + 1, -1)
        return np.cumsum(steps[:-1]) > 0

    def merged(self, spans: Sequence[Span]) -> Units:
        """The same pieces, with those that share a span made one."""
        if not spans or not len(self):
            return self
        first, last = self._reach(spans)
        joined = np.zeros(len(self) + 1, np.int64)
        apart = first < last
        np.add.at(joined, first[apart] + 1, 1)
        np.add.at(joined, last[apart] + 1, -1)
        opens = np.cumsum(joined[:-1]) == 0
        closes = np.append(opens[1:], True)
        return replace(self, starts=self.starts[opens], ends=self.ends[closes])

    def _reach(self, spans: Sequence[Span]) -> tuple[Ints, Ints]:
        """The first and the last piece that each span touches."""
        bounds = np.asarray(spans, np.int64)
        first = np.searchsorted(self.ends, bounds[:, 0], "right")
        last = np.searchsorted(self.starts, bounds[:, 1], "left") - 1
        return first.astype(np.int64), last.astype(np.int64)


def split(
    text: str, unit: Unit, *, atoms: Sequence[Span] = (), marked: Sequence[Span] = ()
) -> Units:
    """Split a text into units, in linear time and without cutting a character cluster.

    Units that share one of the `atoms` are made one. Each of the `marked` spans is a unit by
    itself, exactly as long as it is.
    """
    if not marked:
        return _split(text, unit).merged(atoms)
    starts: list[Ints] = []
    ends: list[Ints] = []
    for start, end, is_mark in _around(len(text), marked):
        if is_mark:
            starts.append(np.array([start]))
            ends.append(np.array([end]))
            continue
        inner = [(a - start, b - start) for a, b in atoms if start <= a and b <= end]
        piece = _split(text[start:end], unit).merged(inner)
        starts.append(piece.starts + start)
        ends.append(piece.ends + start)
    return Units(text, np.concatenate(starts), np.concatenate(ends))


def united(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, with those that overlap made one and empty ones gone."""
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def blanks(text: str) -> Bools:
    """Which characters are white space. Shape: (characters,)."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    found = np.zeros(len(points), np.bool_)
    low = points <= BLANKS[-1]
    found[low] = np.isin(points[low], BLANKS, kind="table")
    return found


def _split(text: str, unit: Unit) -> Units:
    match unit:
        case "token":
            units = _matches(text, TOKEN)
        case "word":
            units = _matches(text, WORD)
        case "phrase":
            units = _phrases(_matches(text, WORD))
        case "sentence":
            units = _capped(_between(text, SENTENCE_END))
        case "line":
            units = _between(text, LINE_END)
        case "paragraph":
            units = _between(text, PARAGRAPH_END)
    return _whole_characters(units)


def _matches(text: str, pattern: regex.Pattern[str]) -> Units:
    """Every match as a unit."""
    spans = np.array([m.span() for m in pattern.finditer(text)], np.int64).reshape(-1, 2)
    return Units(text, spans[:, 0].copy(), spans[:, 1].copy())


def _between(text: str, end: regex.Pattern[str]) -> Units:
    """What lies between the ends of the matches, without the white space around it."""
    cuts = [0, *(match.end() for match in end.finditer(text)), len(text)]
    return _stripped(text, np.array(cuts[:-1], np.int64), np.array(cuts[1:], np.int64))


def _stripped(text: str, starts: Ints, ends: Ints) -> Units:
    """Units without the white space at their ends, and without those that are only that."""
    if not text:
        return Units(text, starts[:0], ends[:0])
    solid = np.flatnonzero(~blanks(text))
    first = np.searchsorted(solid, starts, "left")
    after = np.searchsorted(solid, ends, "left")
    some = first < after
    return Units(text, solid[first[some]], solid[after[some] - 1] + 1)


def _phrases(words: Units) -> Units:
    """Runs of words up to a punctuation mark or before a function word."""
    opens = np.zeros(len(words), np.bool_)
    size = LONGEST_PHRASE
    for i, word in enumerate(words.texts):
        leads = PHRASE_START.fullmatch(word) is not None
        opens[i] = size >= LONGEST_PHRASE or (leads and size > 1)
        size = 1 if opens[i] else size + (not leads)
        if PHRASE_END.search(word):
            size = LONGEST_PHRASE
    closes = np.append(opens[1:], True)[: len(words)]
    return replace(words, starts=words.starts[opens], ends=words.ends[closes])


def _capped(units: Units) -> Units:
    """Units with the overlong ones split at commas and spaces."""
    long = np.flatnonzero(units.ends - units.starts > LONGEST_SENTENCE)
    if not len(long):
        return units
    cuts = [0]
    for i in long.tolist():
        cuts += _pieces(units.text, int(units.starts[i]), int(units.ends[i]))
    inner = np.array(cuts[1:], np.int64)
    starts = np.sort(np.concatenate((units.starts, inner)))
    ends = np.sort(np.concatenate((units.ends, inner)))
    return _stripped(units.text, starts, ends)


def _pieces(text: str, start: int, end: int) -> Iterator[int]:
    """Where to cut an overlong unit: between records, and within those that are overlong still."""
    for stop in (*(match.end() for match in RECORD_END.finditer(text, start, end)), end):
        if stop - start > LONGEST_SENTENCE:
            inner = (match.end() for match in PIECE.finditer(text, start, stop))
            yield from (at for at in inner if at < stop)
        if stop < end:
            yield stop
        start = stop


def _whole_characters(units: Units) -> Units:
    """Units whose ends were moved out of character clusters."""
    bounds = whole(units.text)
    if bounds is None or not len(units):
        return units
    starts = bounds[np.searchsorted(bounds, units.starts, "right") - 1]
    ends = bounds[np.searchsorted(bounds, units.ends, "left")]
    opens = np.append(True, starts[1:] >= ends[:-1])
    closes = np.append(opens[1:], True)
    return replace(units, starts=starts[opens], ends=ends[closes])


def _around(length: int, marked: Sequence[Span]) -> Iterator[tuple[int, int, bool]]:
    """The stretches of a text, marked and not, in order."""
    at = 0
    for start, end in united(marked):
        if at < start:
            yield at, start, False
        yield start, end, True
        at = end
    if at < length:
        yield at, length, False
