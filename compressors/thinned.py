"""What stages share that leave things out: what tells of an error, and which go first."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tersely.named import Lines, Named

ERRORS = (
    *("error", "exception", "traceback", "fatal", "fail", "critical", "panic", "abort", "crash"),
    *("denied", "refused", "timeout", "timed out", "unauthorized", "forbidden", "not found"),
    *("invalid", "corrupt", "unable", "segfault", "unreachable", "out of memory", "rejected"),
)
"""What stands in lines that tell of something gone wrong."""

COMMON = 0.2
"""The share of lines in which such a word says nothing any more."""

HEAD, TAIL = 120, 60
"""Characters of a long string that stay at its ends."""

AROUND = 60
"""Characters that stay on both sides of what is named in it."""

SPACE = 24
"""Characters within which a cut is moved to white space."""


def errors_among(lines: Lines) -> set[int]:
    """The lines that tell of an error, where not too many do."""
    found: set[int] = set()
    for word in ERRORS:
        places = list(lines.holding(word))
        if len(places) <= max(3, COMMON * len(lines)):
            found.update(places)
    return found


def spread(size: int) -> list[float]:
    """When each of a row of things goes, from 0 to 1, so that the rest is always spread evenly."""
    turned = np.zeros(size, np.int64)
    bits = max(size - 1, 1).bit_length()
    places = np.arange(size)
    for bit in range(bits):
        turned |= ((places >> bit) & 1) << (bits - 1 - bit)
    made: list[float] = (1 - turned / (1 << bits)).tolist()
    return made


def shortened(text: str, asked: Named) -> str:
    """A long string's ends and what is around the things named in it, with a mark in each gap.

    The string itself where that is not shorter.
    """
    kept = [(0, _back(text, HEAD)), (_ahead(text, len(text) - TAIL), len(text))]
    for at, end in _places(text, asked):
        kept.append((_ahead(text, max(at - AROUND, 0)), _back(text, end + AROUND)))
    pieces: list[str] = []
    reached = 0
    for start, end in sorted(kept):
        if start > reached:
            pieces.append(f" [{start - reached} characters left out] ")
        pieces.append(text[max(start, reached) : end])
        reached = max(reached, end)
    made = "".join(pieces)
    return made if len(made) < len(text) else text


def _places(text: str, asked: Named) -> Iterable[tuple[int, int]]:
    """Where in a string the things lie that are named; each only where it is first."""
    low = text.lower()
    if len(low) != len(text):
        return
    for term in (*asked.literals, *asked.words):
        at = low.find(term)
        if at >= 0:
            yield at, at + len(term)


def _back(text: str, at: int) -> int:
    """A place to end at, moved back to the end of a word if one is near."""
    space = text.rfind(" ", max(at - SPACE, 0), at)
    return at if space < 0 or at >= len(text) else space


def _ahead(text: str, at: int) -> int:
    """A place to begin at, moved on to the start of a word if one is near."""
    space = text.find(" ", at, at + SPACE)
    return at if space < 0 or at == 0 else space + 1
