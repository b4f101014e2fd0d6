"""The facts of a conversation, and the fewest lines that hold every one of them."""
# ruff: noqa: RUF001 - the patterns name the punctuation of many scripts

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

import regex

from tersely.compressors.history_lines import Line
from tersely.facts import facts_of, overlaps

WORD = regex.compile(r"[^\s\"“”„«»()\[\]{}<>|;=`]++")
EDGES = ".,:!?*_'‘’…–—-$€£¥#~·•"
TELLING = regex.compile(r"[\p{N}_@\\/]|\p{Lu}")
"""What a word of a tool's output has that is a name, a number, an id or a path."""

NUMBERED = regex.compile(r"[\p{N}_@\\]|\p{L}/\p{L}")
"""The same of a word in a sentence, where names are known by the rules of sentences."""

LETTER = regex.compile(r"\p{L}")
DIGIT = regex.compile(r"\p{N}")
SIGN = regex.compile(r"[\p{L}_/@-]")
JOINED = regex.compile(r"\w[@/\\_]\w|\p{N}{4}|\p{Lu}{2}")
"""What makes a word that has no letter beside a digit an id, a path, a link or a long number."""

LEADS = regex.compile(r"[/\\]\w|\w@\w")
"""What a path or a link has."""

LONG = regex.compile(r"\p{N}{5}")
"""An order's number."""


def words_of(text: str) -> frozenset[str]:
    """The words of a text as they are compared: whatever their case, without marks at the ends."""
    return frozenset(_plain(text))


def held_by(text: str) -> frozenset[str]:
    """What a text holds of facts: its words, and each two that follow each other."""
    words = _plain(text)
    return frozenset([*words, *map(" ".join, pairwise(words))])


def marks_of(line: Line) -> frozenset[str]:
    """The words of a line that state a fact, and each two that follow each other in a name."""
    if line.who in ("call", "gave"):
        return words_of(" ".join(w for w in WORD.findall(line.text) if TELLING.search(w)))
    words = [found.span() for found in WORD.finditer(line.text)]
    marks = [line.text[start:end] for start, end in words if NUMBERED.search(line.text, start, end)]
    pairs: list[str] = []
    for fact in facts_of(line.text):
        if fact.kind != "negation":
            own = [line.text[start:end] for start, end in words if overlaps((start, end), fact)]
            marks += own
            pairs += map(" ".join, pairwise(_plain(" ".join(own))))
    return words_of(" ".join(marks)).union(pairs)


def _plain(text: str) -> list[str]:
    return [x for x in (one.strip(EDGES).casefold() for one in WORD.findall(text)) if x]


def ids_in(text: str) -> list[str]:
    """The different ids, paths, links and long numbers of a text, in order, as they stand there."""
    words = (one.strip(EDGES) for one in WORD.findall(text))
    return list(dict.fromkeys(one for one in words if _identifies(one)))


def references_in(line: Line) -> list[str]:
    """The words of a tool's output that refer to something outside of the conversation.

    Within prose or code only paths and links do: letters and digits are often a mere name there.
    """
    return [one for one in ids_in(line.text) if _leads(one) or (line.table and _refers(one))]


def _identifies(word: str) -> bool:
    """Whether a word tells something apart: letters and digits, a path, a link, a code."""
    has_digit = DIGIT.search(word) is not None
    return bool((has_digit and SIGN.search(word)) or JOINED.search(word))


def _leads(word: str) -> bool:
    return LEADS.search(word) is not None and LETTER.search(word) is not None


def _refers(word: str) -> bool:
    has_both = LETTER.search(word) is not None and DIGIT.search(word) is not None
    return (has_both and len(word) > 2) or LONG.search(word) is not None


def covering(
    marks: Sequence[frozenset[str]], sizes: Sequence[int], held: frozenset[str]
) -> list[int]:
    """The places of few lines that together hold all marks which are not held yet, in order.

    Greedy by marks for the token, which is within a logarithm of the least there is (Chvatal 1979,
    https://doi.org/10.1287/moor.4.3.233); of equals the later one.
    """
    left = frozenset().union(*marks) - held
    queue = [(-len(own & left) / max(sizes[i], 1), -i) for i, own in enumerate(marks) if own & left]
    heapify(queue)
    chosen: list[int] = []
    while left and queue:
        worth, at = heappop(queue)
        now = -len(marks[-at] & left) / max(sizes[-at], 1)
        if now > worth:  # others took some of it meanwhile
            if now < 0:
                heappush(queue, (now, at))
            continue
        chosen.append(-at)
        left -= marks[-at]
    return sorted(chosen)
