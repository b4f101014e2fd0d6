"""Lines of which some can go, each gap with a mark that says how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tersely.compressors.thinned import errors_among, spread
from tersely.named import Lines, Named


@dataclass(frozen=True, slots=True)
class Gaps:
    """Lines, and those that can go, the first to go in front. `mark` writes what fills a gap."""

    lines: Sequence[str]
    free: Sequence[int]
    mark: Callable[[int], str]

    def gone(self, share: float) -> set[int]:
        """The lines that go for a share, by characters, of what can."""
        sizes = list(accumulate((len(self.lines[i]) + 1 for i in self.free), initial=0))
        most = share * sizes[-1] + 1e-6
        return {i for i, size in zip(self.free, sizes[1:], strict=True) if size <= most}

    def rest(self, gone: set[int]) -> Iterator[tuple[int | None, str]]:
        """The lines that stay, by their position, and the marks.

        Lines that are no longer than the mark for them stay.
        """
        gap: list[int] = []
        for i in range(len(self.lines) + 1):
            if i in gone:
                gap.append(i)
                continue
            filled = self.mark(len(gap))
            if gap and sum(len(self.lines[at]) + 1 for at in gap) > len(filled) + 1:
                yield None, filled
            else:
                yield from ((at, self.lines[at]) for at in gap)
            gap = []
            if i < len(self.lines):
                yield i, self.lines[i]

    def text(self, share: float) -> str:
        """The lines that stay, with the marks."""
        return "\n".join(line for _, line in self.rest(self.gone(share)))


def told_apart(lines: Sequence[str], asked: Named, stays: set[int]) -> list[int]:
    """The lines that can go, evenly spread, those with words of the question last.

    What is named stays, and so does what tells of an error, beside what has to.
    """
    text = Lines("\n".join(line.replace("\n", " ") for line in lines))
    found, held = asked.among(text)
    stays = stays | found | errors_among(text)
    free = [i for i in range(len(lines)) if i not in stays]
    when = dict(zip(free, spread(len(free)), strict=True))
    return sorted(free, key=lambda i: (held[i], when[i]))


def counted(number: int, thing: str) -> str:
    """A number of things that were left out, as a mark."""
    return f"[{number} {thing}{'s' if number != 1 else ''} left out]"
