"""Trim what did not change out of diffs, and the hunks that nobody asked about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tersely.compressors.gaps import counted
from tersely.compressors.structured import Folding, Structured
from tersely.forms import Form
from tersely.named import Lines, Named
from tersely.prompt import Kind

LEFT = " left out]"

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(.*)", re.DOTALL)


class Diff(Structured):
    """Trims unified diffs; what is left still applies, as long as only context is gone.

    If the budget asks for less, lines that did not change go, those farthest from a change first,
    and the numbers at the head of each hunk are set right. Then hunks lose their changes, the
    largest first, and say how many lines they had. Hunks that hold what the question or the
    tool's call names keep every line.
    """

    name = "diff"
    forms = frozenset[Form](("diff",))
    lossy = True

    kinds: tuple[Kind, ...] = ("code", "tool_output", "context")

    def fold(self, text: str, asked: Named) -> Folding | None:
        if LEFT in text:
            return None
        pieces = list(_pieces(text.split("\n")))
        hunks = [piece for piece in pieces if isinstance(piece, Hunk)]
        if not hunks or not all(hunk.sound for hunk in hunks):
            return None
        return _Diff(pieces, asked)


@dataclass(frozen=True, slots=True)
class Hunk:
    """A stretch of a file, before and after: where it begins, its lines and what stands above."""

    old: int
    new: int
    about: str
    lines: tuple[str, ...]
    head: str
    """As it was written."""

    sizes: tuple[int, int]
    """Lines before and after, as the head tells."""

    @property
    def sound(self) -> bool:
        """Whether it has as many lines as its head tells."""
        return self.sizes == _sizes(self.lines)

    @property
    def changed(self) -> list[int]:
        """The lines that are not the same before and after."""
        return [i for i, line in enumerate(self.lines) if line[:1] in ("+", "-", "\\")]

    def distances(self) -> list[int]:
        """How far each line lies from the nearest change."""
        far = len(self.lines)
        found = [far] * far
        for places in (range(far), reversed(range(far))):
            near = far
            for i in places:
                near = 0 if self.lines[i][:1] in ("+", "-", "\\") else near + 1
                found[i] = min(found[i], near)
        return found

    def without(self, gone: set[int]) -> Iterator[str]:
        """The hunk without some of its context, as one hunk for each stretch that is left."""
        if not gone:
            yield self.head
            yield from self.lines
            return
        old, new, about = self.old, self.new, self.about
        kept: list[str] = []
        for i, line in enumerate((*self.lines, None)):
            if line is not None and i not in gone:
                kept.append(line)
                continue
            before, after = _sizes(kept)
            if kept:
                yield f"@@ -{_range(old, before)} +{_range(new, after)} @@{about}"
                yield from kept
                about = "\r" if about.endswith("\r") else ""
            old, new = old + before + 1, new + after + 1
            kept = []


def _sizes(lines: Sequence[str]) -> tuple[int, int]:
    added = sum(line[:1] == "+" for line in lines)
    removed = sum(line[:1] == "-" for line in lines)
    same = sum(line[:1] in (" ", "", "\r") for line in lines)
    return same + removed, same + added


def _range(start: int, size: int) -> str:
    """A range as diffs write it; an empty one is told by the line before it."""
    return f"{start if size else start - 1},{size}"


def _pieces(lines: Sequence[str]) -> Iterator[str | Hunk]:
    """The hunks of a diff, and every line between them."""
    i = 0
    while i < len(lines):
        head = _HUNK.match(lines[i])
        if not head:
            yield lines[i]
            i += 1
            continue
        old, before, new, after = (int(n) if n else 1 for n in head.group(1, 2, 3, 4))
        start = i = i + 1
        left = [before, after]
        while i < len(lines) and (max(left) > 0 or lines[i][:1] == "\\"):
            sign = lines[i][:1]
            if sign not in (" ", "+", "-", "\\", "", "\r"):
                break
            left[0] -= sign not in ("+", "\\")
            left[1] -= sign not in ("-", "\\")
            i += 1
        about, body = head[5], tuple(lines[start:i])
        yield Hunk(old + (before == 0), new + (after == 0), about, body, head[0], (before, after))


class _Diff:
    """A diff that can be written with less and less of it."""

    def __init__(self, pieces: Sequence[str | Hunk], asked: Named) -> None:
        self._pieces = pieces
        named = _named(pieces, asked)
        context: list[tuple[int, int, int]] = []
        whole: list[tuple[int, int]] = []
        for at, hunk in enumerate(pieces):
            if isinstance(hunk, str) or at in named:
                continue
            far = hunk.distances()
            context += [(-far[i], at, i) for i in range(len(far)) if far[i]]
            if sum(len(hunk.lines[i]) + 1 for i in hunk.changed) > len(_mark(hunk)) + 1:
                whole.append((-len(hunk.changed), at))
        self._steps = [(at, i) for _, at, i in sorted(context)]
        self._steps += [(at, -1) for _, at in sorted(whole)]
        self._sizes = list(accumulate(self._size(at, i) for at, i in self._steps))

    def text(self, share: float) -> str:
        most = share * (self._sizes[-1] if self._sizes else 0) + 1e-6
        gone: dict[int, set[int]] = {}
        for (at, i), size in zip(self._steps, self._sizes, strict=True):
            if size > most:
                break
            gone.setdefault(at, set()).add(i)
        lines: list[str] = []
        for at, piece in enumerate(self._pieces):
            if isinstance(piece, str):
                lines.append(piece)
            elif -1 in gone.get(at, ()):
                lines += piece.head, _mark(piece)
            else:
                lines += piece.without(gone.get(at, set()))
        return "\n".join(lines)

    def _size(self, at: int, i: int) -> int:
        hunk = self._pieces[at]
        assert isinstance(hunk, Hunk)
        return len(hunk.lines[i]) if i >= 0 else sum(len(hunk.lines[j]) for j in hunk.changed)


def _mark(hunk: Hunk) -> str:
    return counted(len(hunk.changed), "changed line")


def _named(pieces: Sequence[str | Hunk], asked: Named) -> set[int]:
    """The hunks that hold what is asked for, or stand in a file that is."""
    texts: list[str] = []
    for piece in pieces:
        lines = (piece,) if isinstance(piece, str) else (piece.about, *piece.lines)
        texts.append(" ".join(lines))
    found, _ = asked.among(Lines("\n".join(texts)))
    named: set[int] = set()
    within = False
    for at, piece in enumerate(pieces):
        if isinstance(piece, str):
            begins = piece.startswith(("diff ", "--- "))
            within = at in found or (within and not begins)
        elif within or at in found:
            named.add(at)
    return named
