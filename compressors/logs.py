"""Fold what is alike in logs and in the output of tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

from tersely.compressors.log_lines import free_of, kinds_of, runs
from tersely.compressors.structured import Folding, Structured
from tersely.forms import form_of
from tersely.named import Named
from tersely.prompt import Kind, Span

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

    kinds: tuple[Kind, ...] = ("log", "tool_output", "code", "context")

    def fold(self, text: str, asked: Named, spans: tuple[Span, ...]) -> Folding | None:
        if text.count("\n") < FEWEST or LEFT in text or ABOVE in text:
            return None
        if form_of(text) not in ("log", "tests", "traceback"):
            return None
        return _Log(text, asked)


class _Log:
    """A log that can be written with fewer and fewer of its lines."""

    def __init__(self, text: str, asked: Named) -> None:
        self._asked = asked
        self._text = text
        self._plan: tuple[list[str], list[str], list[int]] | None = None

    def text(self, share: float) -> str:
        if share <= 0:
            return _repeated(self._text.split("\n"))
        if self._plan is None:
            lines = _repeated(map(_plain, self._text.split("\n"))).split("\n")
            kinds = kinds_of(lines)
            self._plan = lines, kinds, free_of(lines, kinds, self._asked)
        lines, kinds, free = self._plan
        sizes = list(accumulate((len(lines[i]) + 1 for i in free), initial=0))
        most = share * sizes[-1] + 1e-6
        gone = {i for i, size in zip(free, sizes[1:], strict=True) if size <= most}
        return "\n".join(_folded(lines, kinds, gone))


def _plain(line: str) -> str:
    """A line as a terminal would show it in the end, without colours."""
    if "\x1b" in line:
        line = _COLOUR.sub("", line)
    if "\r" in line:
        shown = line.rstrip("\r")
        line = shown[shown.rfind("\r") + 1 :] + line[len(shown) :]
    return line


def _repeated(lines: Iterator[str] | Sequence[str]) -> str:
    """Lines, with equal ones in a row as one and their number, where that is shorter."""
    made: list[str] = []
    for line, times in runs(list(lines)):
        mark = f"[the line above {times - 1} {ABOVE}"
        if (times - 1) * (len(line) + 1) > len(mark) + 1:
            made += line, mark
        else:
            made += [line] * times
    return "\n".join(made)


def _folded(lines: Sequence[str], kinds: Sequence[str], gone: set[int]) -> Iterator[str]:
    """The lines that stay, with a mark in each gap and the number of those alike."""
    missed = Counter(kinds[i] for i in gone)
    times = Counter(kinds)
    gap: list[str] = []
    for i, (line, kind) in enumerate(zip(lines, kinds, strict=True)):
        if i in gone:
            gap.append(line)
            continue
        yield from _gap(gap)
        gap = []
        if missed.pop(kind, 0):
            line += f"  [1 of {times[kind]} alike]"
        yield line
    yield from _gap(gap)


def _gap(lines: Sequence[str]) -> Iterator[str]:
    """A mark for what is left out, or the lines themselves where they are no longer."""
    mark = f"[{len(lines)} line{'s' if len(lines) > 1 else ''}{LEFT}"
    if lines and sum(map(len, lines)) + len(lines) <= len(mark) + 1:
        yield from lines
    elif lines:
        yield mark
