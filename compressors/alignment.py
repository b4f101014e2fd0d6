"""Which words of a text survive in a shorter version of it that somebody else wrote."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
import regex

from tersely.units import Bools, Units

ROOT = 4
"""Letters at the beginning that two forms of one word share at least."""

ENDING = 3
"""Letters in which the ends of two forms of one word differ at most."""

_EDGES = regex.compile(r"^\W+|\W+$")


def survivors(original: Units, shorter: Units, reach: int) -> tuple[Bools, float]:
    """The words of the original that are in the shorter text, and the share of its words that
    are not from the original.

    Words are found in their order, no more than `reach` words from the one before, and a word
    that was moved near its place; case, marks at the ends and endings are no matter. No word is
    found twice. Shape: (words of the original,).
    """
    search = _Search([_plain(word) for word in original.texts])
    misses = [not search.find(_plain(word), reach) for word in shorter.texts]
    return search.taken, float(np.mean(misses)) if misses else 0.0


@dataclass(slots=True)
class _Search:
    """Finds words one after the other; `at` is the one that was found furthest on."""

    words: list[str]
    at: int = -1
    lost: int = 0
    taken: Bools = field(init=False)
    places: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.taken = np.zeros(len(self.words), np.bool_)
        self.places = defaultdict(list)
        for place, word in enumerate(self.words):
            self.places[word].append(place)

    def find(self, word: str, reach: int) -> bool:
        """Take the next place of a word, or of another form of it; False when there is none.

        The more words in a row were not found, the further it looks: a passage was left out.
        """
        reach *= 1 + self.lost
        place = self._same(word, reach)
        if place is None:
            place = self._alike(word, reach)
        if place is None:
            self.lost += 1
            return False
        self.taken[place] = True
        self.at = max(self.at, place)
        self.lost = 0
        return True

    def _same(self, word: str, reach: int) -> int | None:
        places = self.places.get(word, [])
        first = bisect_left(places, self.at + 1)
        for place in places[first:]:
            if place > self.at + reach:
                break
            if not self.taken[place]:
                return place
        for place in reversed(places[:first]):
            if place < self.at - reach:
                break
            if not self.taken[place]:
                return place
        return None

    def _alike(self, word: str, reach: int) -> int | None:
        if len(word) < ROOT:
            return None
        ahead = range(self.at + 1, min(self.at + reach + 1, len(self.words)))
        behind = range(self.at, max(self.at - reach, 0) - 1, -1) if self.at >= 0 else range(0)
        places = (place for way in (ahead, behind) for place in way)
        return next((p for p in places if not self.taken[p] and _forms(word, self.words[p])), None)


def _plain(word: str) -> str:
    """A word without case and without marks at its ends, unless it is nothing else."""
    return _EDGES.sub("", word).casefold() or word


def _forms(one: str, other: str) -> bool:
    """Whether two words look like forms of one."""
    pairs = zip(one, other, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared >= ROOT and max(len(one), len(other)) - shared <= ENDING
