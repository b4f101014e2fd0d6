"""What a question, or the call of a tool, names: lines and rows that hold it must stay."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import regex

from tersely.lexical import terms_of
from tersely.prompt import Prompt
from tersely.protect import PATTERNS

LITERALS = regex.compile(
    "|".join(f"(?:{PATTERNS[name]})" for name in ("url", "email", "date", "path", "id"))
    + r"|(?<!\w)\#?\d(?:[\d.,:]*\d)?"
)
"""What is looked for as it is written: links, dates, paths, ids and numbers."""

QUOTED = regex.compile(PATTERNS["quoted"])

UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}]{2,}")
"""Writing without spaces: each two characters of it count as a word, wherever they stand."""

HANDED: frozenset[str | int] = frozenset(("arguments", "args", "input"))
"""Where in a request a tool's arguments lie."""

SHORT = 3
"""A literal of fewer characters names nothing by itself: it counts as a word."""

MOST = 0.5
RARE = 0.05
FEW = 3
"""A literal that more than half of the lines hold tells none of them apart; a word must be in one
of twenty at the most, or in three."""

TOGETHER = 2
"""Words that a line must hold to be named by them together."""

MOST_LITERALS = 200
MOST_WORDS = 60
"""What is looked for at the most, so that long questions take no long time."""

REMEMBERED = 1024
"""Texts whose names are remembered: a question is asked of every output."""

LONGEST = 500
"""Characters of a call's argument that are read; beyond, it is a text and no name."""

ASKED = 2000
"""Characters of an earlier turn of the user that are read, from its end: there it asks."""

AHEAD = 20
"""Turns with calls behind an output that tell what of it was of use."""


@dataclass(frozen=True, slots=True)
class Named:
    """What to look for, in lower case. Literals match as a whole, words by their beginning."""

    literals: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @classmethod
    def by(cls, *texts: str, used: Iterable[str] = ()) -> Named:
        """What texts name, each thing once; of very many, the words that are longest.

        What was `used` names by its literals alone: it is no question, and its words are many.
        """
        found = [_things(text) for text in texts]
        told = [*found, *(_things(text) for text in used)]
        literals = dict.fromkeys(one for literals, _ in told for one in literals)
        words = dict.fromkeys(one for _, words in found for one in words if one not in literals)
        longest = sorted(words, key=len, reverse=True)[:MOST_WORDS]
        return cls(tuple(literals)[:MOST_LITERALS], tuple(longest))

    def __bool__(self) -> bool:
        return bool(self.literals or self.words)

    def among(self, lines: Lines) -> tuple[set[int], list[int]]:
        """Which lines are named, and how many of the words each of them holds.

        Where hardly a word is rare, all of them together still name the lines that hold the most.
        Takes time linear in the text for each thing named.
        """
        held = [0] * len(lines)
        found: set[int] = set()
        for literal in self.literals:
            places = list(lines.holding(literal, edges=2))
            if len(places) <= max(FEW, MOST * len(lines)):
                found.update(places)
        for word in self.words:
            places = list(lines.holding(word, edges=_edges(word)))
            for place in places:
                held[place] += 1
            if len(places) <= max(FEW, RARE * len(lines)):
                found.update(places)
        most = max(held, default=0)
        if most >= TOGETHER and held.count(most) <= max(FEW, RARE * len(lines)):
            found.update(i for i, count in enumerate(held) if count == most)
        return found, held


class Lines:
    """The lines of a text, to look for things in without regard to case."""

    def __init__(self, text: str) -> None:
        self._text = text.lower()
        sizes = (len(line) + 1 for line in self._text.split("\n"))
        self._starts = [0, *accumulate(sizes)]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def holding(self, term: str, *, edges: int = 0) -> Iterator[int]:
        """The lines that hold a term in lower case, each once, in order.

        With one edge no letter or digit may stand before it, with two none behind it either.
        """
        at = self._text.find(term)
        while at >= 0:
            end = at + len(term)
            before = edges < 1 or self._ends(at - 1, term[0])
            if before and (edges < 2 or self._ends(end, term[-1])):
                line = bisect_right(self._starts, at) - 1
                yield line
                end = self._starts[line + 1] - 1
            at = self._text.find(term, end)

    def _ends(self, beside: int, edge: str) -> bool:
        """Whether a term does not go on beyond its edge."""
        if not 0 <= beside < len(self._text):
            return True
        return not (edge.isalnum() and self._text[beside].isalnum())


class Naming:
    """What a conversation names, for the outputs of tools in each of its turns."""

    def __init__(self, prompt: Prompt) -> None:
        self._question = prompt.question
        self._handed: dict[int, list[str]] = {}
        self._asked: dict[int, str] = {}
        for one in prompt.segments:
            if one.locked and HANDED & set(one.path):
                self._handed.setdefault(one.turn, []).extend(_scalars(one.text))
            elif one.role == "user" and one.kind in ("question", "history"):
                self._asked[one.turn] = one.text[-ASKED:]

    def at(self, turn: int) -> Named:
        """What an output in this turn was asked for.

        That is what the question names, the user's last turn before it, and what was handed to
        the tools right before; and what the calls behind it went on with.
        """
        asked = max((at for at in self._asked if at < turn), default=None)
        latest = asked is None or asked == max(self._asked)
        before = max((at for at in self._handed if at < turn), default=None)
        texts = [] if latest or asked is None else [self._asked[asked]]
        texts += [] if before is None else self._handed[before]
        behind = sorted(at for at in self._handed if at > turn)[:AHEAD]
        return Named.by(
            self._question, *texts, used=[text for at in behind for text in self._handed[at]]
        )


def named(prompt: Prompt, turn: int) -> Named:
    """What the outputs of one turn were asked for, see `Naming`."""
    return Naming(prompt).at(turn)


@lru_cache(maxsize=REMEMBERED)
def _things(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The literals and the words of a text, in lower case."""
    found = [literal.lower() for literal in _literals(text)]
    words = [one for one in found if one and len(one) < SHORT]
    words += [term for term in terms_of(text) if len(term) >= SHORT]
    for run in UNSPACED.findall(text.lower()):
        words += [run[i : i + 2] for i in range(len(run) - 1)]
    return tuple(one for one in found if len(one) >= SHORT), tuple(dict.fromkeys(words))


def _edges(word: str) -> int:
    """On how many sides a word must not go on."""
    if UNSPACED.match(word):
        return 0
    return 2 if word.isdigit() else 1


def _literals(text: str) -> Iterator[str]:
    for match in LITERALS.finditer(text):
        yield match[0].rstrip(".,:")
    for match in QUOTED.finditer(text):
        yield match[0][1:-1].strip()


def _scalars(text: str) -> Iterator[str]:
    """The texts and numbers among a call's arguments; the whole text where that is not JSON."""
    try:
        waiting: list[Any] = [json.loads(text, parse_int=str, parse_float=str)]
    except (ValueError, RecursionError):
        yield text[:LONGEST]
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value[:LONGEST]
        elif isinstance(value, dict):
            waiting += list(value.values())[::-1]
        elif isinstance(value, list):
            waiting += value[::-1]
