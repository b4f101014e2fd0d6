"""Tell which words of a text were kept, dropped and added, fast enough for a megabyte.

By lines first, then by words between equal lines, then by letters where a word was cut. Where the
new text is the old one with words left out, nothing is ever shown as added.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

import regex

from tersely.middleware.pairing import Pair, Units, paired, pinned, within
from tersely.origins import Copy, Origins

Mark = Literal["kept", "dropped", "added"]
MARKS: tuple[Mark, ...] = ("kept", "dropped", "added")

WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]\p{M}*|\w+|\s|\X")
LINE = regex.compile(r"[^\n]*\n|[^\n]+")

LETTERS = 3
"""Mean length from which runs of letters are more than chance."""

STRAY = 2
"""So many times its length must be new on both sides of a kept word to call it stray."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text with one fate."""

    mark: Mark
    text: str


Finer = Callable[[str, str], "list[Piece]"]


def align(before: str, after: str) -> list[Piece]:
    """What was kept, dropped and added on the way from one text to the other.

    Kept and dropped pieces make up `before`, kept and added ones `after`, each in order.
    """
    if before == after:
        return _merged([Piece("kept", before)])
    pieces = _by_lines(before, after)
    if not _adds(pieces):
        return pieces
    if within(WORD.findall(before), WORD.findall(after)):
        return _by_words(before, after)  # a line was pinned to its double further on
    whole = _by_letters(before, after)
    return _calmed(pieces) if _adds(whole) else whole


def by_origins(before: str, after: str, runs: Origins) -> list[Piece]:
    """The same where it is known which runs were copied: exact, and no search.

    Runs that were moved are shown as dropped where they were and added where they are.
    """
    pieces: list[Piece] = []
    old = new = 0
    for output, source, length in (*_in_order(runs), (len(after), len(before), 0)):
        gone, come = before[old:source], after[new:output]
        pieces += _replaced(gone, come) if come.strip() else _joint(gone, come)
        old, new = source + length, output + length
        pieces.append(Piece("kept", before[source:old]))
    return _merged(pieces)


def _in_order(runs: Origins) -> list[Copy]:
    """The runs that did not change places: of those in order on both sides, the most text."""
    ends, most, chains = [0], [0], [-1]
    before = [-1] * len(runs)
    for at, (_, source, length) in enumerate(runs):
        under = bisect_right(ends, source) - 1
        before[at], total = chains[under], most[under] + length
        place = bisect_right(ends, source + length)
        if most[place - 1] >= total:
            continue
        last = place
        while last < len(most) and most[last] <= total:
            last += 1
        ends[place:last], most[place:last], chains[place:last] = [source + length], [total], [at]
    chain: list[Copy] = []
    at = chains[-1]
    while at >= 0:
        chain.append(runs[at])
        at = before[at]
    return chain[::-1]


def _joint(gone: str, come: str) -> list[Piece]:
    """White space that is left of what was dropped."""
    at = gone.find(come)
    if at < 0:
        return align(gone, come)
    return [
        Piece("dropped", gone[:at]),
        Piece("kept", come),
        Piece("dropped", gone[at:][len(come) :]),
    ]


def _adds(pieces: Sequence[Piece]) -> bool:
    return any(piece.mark == "added" for piece in pieces)


def _letters(pieces: Iterable[Piece], mark: Mark) -> int:
    return sum(len(piece.text.strip()) for piece in pieces if piece.mark == mark)


def _by_lines(before: str, after: str) -> list[Piece]:
    old, new = LINE.findall(before), LINE.findall(after)
    return _pieces(old, new, pinned(old, new), _by_words)


def _by_words(before: str, after: str) -> list[Piece]:
    """Lines that changed. Where less than half of the new is old, all of it was rewritten."""
    old, new = WORD.findall(before), WORD.findall(after)
    pieces = _pieces(old, new, paired(old, new), _by_letters)
    added = _letters(pieces, "added")
    return _merged(_replaced(before, after)) if added > _letters(pieces, "kept") else pieces


def _by_letters(before: str, after: str) -> list[Piece]:
    """Words that were cut. Where no more than stray letters agree, all of it was replaced."""
    if not within(before, after):
        return _merged(_replaced(before, after))
    pairs = paired(before, after)
    starts = sum((i - 1, j - 1) != last for last, (i, j) in pairwise([(-2, -2), *pairs]))
    if starts * LETTERS > len(after) + 2:
        return _merged(_replaced(before, after))
    return _pieces(before, after, pairs, _replaced)


def _replaced(before: str, after: str) -> list[Piece]:
    return [Piece("dropped", before), Piece("added", after)]


def _pieces(old: Units, new: Units, pairs: Sequence[Pair], between: Finer) -> list[Piece]:
    """The pairs as kept pieces; what lies between them is left to a finer method."""
    pieces: list[Piece] = []
    i = j = 0
    for a, c in (*pairs, (len(old), len(new))):
        gone, come = "".join(old[i:a]), "".join(new[j:c])
        pieces += between(gone, come) if gone and come else _replaced(gone, come)
        pieces += [Piece("kept", unit) for unit in old[a : a + 1]]
        i, j = a + 1, c + 1
    return _merged(pieces)


def _calmed(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces without stray words between rewritten ones: they only make it restless."""
    calm: list[Piece] = []
    for at, piece in enumerate(pieces):
        neighbours = (pieces[max(at - 1, 0) : at], pieces[at + 1 : at + 3])
        around = [_letters(some, "added") for some in neighbours]
        stray = piece.mark == "kept" and "\n" not in piece.text
        if stray and STRAY * len(piece.text.strip()) < min(around):
            calm += _replaced(piece.text, piece.text)
        else:
            calm.append(piece)
    return _merged(calm)


def _merged(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbours of one fate as one piece; what was dropped before what was added."""
    whole: list[Piece] = []
    for _, group in groupby((p for p in pieces if p.text), key=lambda p: p.mark == "kept"):
        run = list(group)
        for mark in MARKS:
            if text := "".join(piece.text for piece in run if piece.mark == mark):
                whole.append(Piece(mark, text))
    return whole
