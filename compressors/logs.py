"""Fold what is alike in logs and in the output of tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import eq

from tersely.compressors.gaps import Gaps, lines_left_out
from tersely.compressors.log_lines import free_of, kinds_of, runs
from tersely.compressors.structured import Folding, Structured
from tersely.forms import Form
from tersely.named import Named
from tersely.prompt import Kind

FEWEST = 12
"""Lines below which nothing is folded."""

LEFT = " left out]"
ABOVE = "more times]"

_COLOUR = re.compile(r"\x1b\[[0-9;?]{0,40}[A-Za-z]")


class Logs(Structured):
    """Folds the lines of a log, or of the output of tests, that are like each other.

    Lines are alike that differ in numbers, ids, times and quoted texts only, and tests that
    passed are alike. Equal lines in a row become one with their number, which loses nothing. If
    the budget asks for more, lines go in blocks: the first and the last of every kind stay, with
    how many there are; so do rare ones, errors with their stack traces, failed tests, and every
    line that the question or the tool's call names. Each gap says how many lines it was. What
    stood around an error or a line that was asked for goes last. Colours, and what a progress bar
    overwrote, go first.
    """

    name = "logs"
    forms = frozenset[Form](("log", "tests", "traceback"))

    kinds: tuple[Kind, ...] = ("log", "tool_output", "code", "context")

    def fold(self, text: str, asked: Named) -> Folding | None:
        if text.count("\n") < FEWEST or LEFT in text or ABOVE in text:
            return None
        return _Log(text, asked)


class _Log:
    """A log that can be written with fewer and fewer of its lines."""

    def __init__(self, text: str, asked: Named) -> None:
        self._asked = asked
        self._text = text
        self._plan: tuple[Gaps, list[str]] | None = None

    def text(self, share: float) -> str:
        if share <= 0:
            return _repeated(self._text)
        if self._plan is None:
            lines = _repeated(_plain(self._text)).split("\n")
            kinds = kinds_of(lines)
            free = free_of(lines, kinds, self._asked)
            self._plan = Gaps(lines, [(i,) for i in free], lines_left_out), kinds
        gaps, kinds = self._plan
        return "\n".join(_folded(gaps, kinds, gaps.gone(share)))


def _plain(text: str) -> str:
    """A text as a terminal would show it in the end, without colours."""
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    if "\r" in text or "\b" in text:
        return "\n".join(map(_shown, text.split("\n")))
    return text


def _shown(line: str) -> str:
    """What a line's last carriage return, and backspaces, leave of it."""
    last = line.rstrip("\r")
    shown: list[str] = []
    for piece in re.split("(\x08)", last[last.rfind("\r") + 1 :]):
        if piece != "\b":
            shown += piece
        elif shown:
            shown.pop()
    return "".join(shown) + line[len(last) :]


def _repeated(text: str) -> str:
    """A text with equal lines in a row as one and their number, where that is shorter."""
    lines = text.split("\n")
    if not any(map(eq, lines, lines[1:])):
        return text
    made: list[str] = []
    for line, times in runs(lines):
        mark = f"[the line above {times - 1} {ABOVE}"
        if (times - 1) * (len(line) + 1) > len(mark) + 1:
            made += line, mark
        else:
            made += [line] * times
    return "\n".join(made)


def _folded(gaps: Gaps, kinds: Sequence[str], gone: set[int]) -> Iterator[str]:
    """The lines that stay, with a mark in each gap and the number of those alike."""
    missed = {kinds[i] for i in gone}
    times = Counter(kinds)
    for i, line in gaps.rest(gone):
        if i is not None and kinds[i] in missed:
            missed.discard(kinds[i])
            line += f"  [1 of {times[kinds[i]]} alike]"
        yield line
