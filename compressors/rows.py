"""Write tables without padding, and leave out rows that are like others."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tersely.compressors.gaps import Gaps, counted, told_apart
from tersely.compressors.json_drop import exceptions
from tersely.compressors.json_tree import as_number
from tersely.compressors.structured import Folding, Structured
from tersely.forms import Form
from tersely.named import Named
from tersely.prompt import Kind

FEWEST = 8
"""Lines below which no row goes."""

HEAD, TAIL = 3, 1
"""Lines at the top, with the names of the columns, and at the end that stay."""

LEFT = " left out]"

_RULE = re.compile(r"\s{0,3}\|?[ ]?:?-{2,}:?[ ]?(?:\|[ ]?:?-{2,}:?[ ]?){1,200}\|?\s*")
_PADDED = re.compile(r"[ \t]*\|[ \t]*")
_DASHES = re.compile(r"-{3,}")
_NUMBER = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?")


class Rows(Structured):
    """Takes the padding out of Markdown tables; of long tables, CSV too, rows go.

    Nothing is lost by the first. If the budget asks for less, rows go, evenly spread. Those stay
    that the question or the tool's call names, that tell of an error, or that differ from nearly
    all others by a value; so do the first ones, with the head, and the last one. Marks say how
    many are gone.
    """

    name = "rows"
    forms = frozenset[Form](("table",))

    kinds: tuple[Kind, ...] = ("table", "tool_output", "context")

    def fold(self, text: str, asked: Named) -> Folding | None:
        if LEFT in text:
            return None
        lines = text.split("\n")
        if any(_RULE.fullmatch(line) for line in lines[:6]):
            lines = [_tight(line) for line in lines]
        return Gaps(lines, [(i,) for i in _free(lines, asked)], _mark)


def _mark(lines: Sequence[str]) -> str:
    return counted(len(lines), "row")


def _tight(line: str) -> str:
    """A row of a Markdown table without padding."""
    if "|" not in line:
        return line
    if _RULE.fullmatch(line):
        return _DASHES.sub("---", _PADDED.sub("|", line.strip()))
    return _PADDED.sub("|", line.strip()) if "\\|" not in line and "`" not in line else line


def _free(lines: Sequence[str], asked: Named) -> list[int]:
    """The rows that can go."""
    if len(lines) < FEWEST:
        return []
    mark = max("\t|;,", key=lambda one: lines[0].count(one))
    width = lines[0].count(mark)
    stays = {i for i, line in enumerate(lines) if line.count(mark) != width or not line.strip()}
    body = [i for i in range(HEAD, len(lines)) if i not in stays]
    rows = [
        [as_number(cell) if _NUMBER.fullmatch(cell) else cell for cell in cells]
        for cells in ([cell.strip() for cell in lines[i].split(mark)] for i in body)
    ]
    stays |= {body[at] for at in exceptions([dict(enumerate(row)) for row in rows])}
    last = [*body[-TAIL:], *range(len(lines) - TAIL, len(lines))]
    return told_apart(lines, asked, {*stays, *range(HEAD), *last})
