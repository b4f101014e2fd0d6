"""Group the hits of a search by their file, and fold those that repeat."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tersely.compressors.gaps import Gaps, lines_left_out, told_apart
from tersely.compressors.structured import Folding, Structured
from tersely.forms import Form
from tersely.named import Named
from tersely.prompt import Kind

FEWEST = 6
"""Hits below which nothing is grouped."""

_HIT = re.compile(r"([^\s:][^:\n]{0,400}?)([-:])(\d{1,7})\2(.*)", re.DOTALL)


class SearchHits(Structured):
    """Writes the file of search hits (`grep -n`, `rg`) once, above its lines; nothing is lost.

    If the budget asks for less, hits go whose text was there before, then others, evenly spread.
    The first hit of every file stays, and so do those that the question or the tool's call names
    and those that tell of an error; marks say how many are gone.
    """

    name = "search_hits"
    forms = frozenset[Form](("search",))

    kinds: tuple[Kind, ...] = ("code", "log", "tool_output", "context")

    def fold(self, text: str, asked: Named) -> Folding | None:
        lines = text.split("\n")
        if len(lines) < FEWEST:
            return None
        return _Hits(lines, asked)


class _Hits:
    """Hits that can be written with fewer and fewer of them."""

    def __init__(self, lines: Sequence[str], asked: Named) -> None:
        self._found = [_HIT.fullmatch(line) for line in lines]
        self._lines = lines
        self._gaps = Gaps(lines, self._free(asked), lines_left_out)

    def _free(self, asked: Named) -> list[tuple[int]]:
        """What can go: what is said again before all else."""
        seen: set[str] = set()
        files: set[str] = set()
        again: set[int] = set()
        stays = {i for i, found in enumerate(self._found) if found is None}
        for i, found in enumerate(self._found):
            if found is None:
                continue
            if found[1] not in files:
                stays.add(i)
                files.add(found[1])
            elif found[4].strip() in seen:
                again.add(i)
            seen.add(found[4].strip())
        free = told_apart(self._lines, asked, stays)
        return [(i,) for i in sorted(free, key=lambda i: i not in again)]

    def text(self, share: float) -> str:
        usual = Counter(found[1] for found in self._found if found)
        made: list[str] = []
        above = ""
        for i, line in self._gaps.rest(self._gaps.gone(share)):
            found = None if i is None else self._found[i]
            if found is None:
                above = above if i is None else ""
                made.append(line)
            elif usual[found[1]] == 1:
                above = ""
                made.append(line)
            else:
                if found[1] != above:
                    above = found[1]
                    made.append(above)
                made.append(f"{found[3]}{found[2]}{found[4]}")
        return "\n".join(made)
