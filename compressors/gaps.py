"""Lines of which some can go, each gap with a mark that says how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tersely.compressors.thinned import errors_among, spread
from tersely.named import Lines, Named


@dataclass(frozen=True, slots=True)
class Gaps:
    """Lines, and stretches of them that can go, the first to go in front.

    `mark` writes what stands in the place of the lines of a gap.
    """

    lines: Sequence[str]
    free: Sequence[Sequence[int]]
    mark: Callable[[Sequence[str]], str]

    def gone(self, share: float) -> set[int]:
        """The lines that go for a share, by characters, of what can."""
        sizes = [sum(len(self.lines[i]) + 1 for i in places) for places in self.free]
        most = share * sum(sizes) + 1e-6
        fits = zip(self.free, accumulate(sizes), strict=True)
        return {i for places, size in fits if size <= most for i in places}

    def rest(self, gone: set[int]) -> Iterator[tuple[int | None, str]]:
        """The lines that stay, by their position, and the marks.

        Lines that are no longer than the mark for them stay.
        """
        gap: list[int] = []
        for i in range(len(self.lines) + 1):
            if i in gone:
                gap.append(i)
                continue
            if gap:
                lines = [self.lines[at] for at in gap]
                filled = self.mark(lines)
                if sum(map(len, lines)) + len(lines) > len(filled) + 1:
                    yield None, filled
                else:
                    yield from zip(gap, lines, strict=True)
                gap = []
            if i < len(self.lines):
                yield i, self.lines[i]

    def text(self, share: float) -> str:
        """The lines that stay, with the marks."""
        return "\n".join(line for _, line in self.rest(self.gone(share)))


def told_apart(texts: Sequence[str], asked: Named, stays: set[int]) -> list[int]:
    """Which texts can go, evenly spread, those with words of the question last.

    What is named stays, and so does what tells of an error, beside what has to.
    """
    lines = Lines("\n".join(text.replace("\n", " ") for text in texts))
    found, held = asked.among(lines)
    stays = stays | found | errors_among(lines)
    free = [i for i in range(len(texts)) if i not in stays]
    when = dict(zip(free, spread(len(free)), strict=True))
    return sorted(free, key=lambda i: (held[i], when[i]))


def counted(number: int, thing: str) -> str:
    """A number of things that were left out, as a mark."""
    return f"[{number} {thing}{'s' if number != 1 else ''} left out]"


def lines_left_out(lines: Sequence[str]) -> str:
    """The usual mark."""
    return counted(len(lines), "line")
