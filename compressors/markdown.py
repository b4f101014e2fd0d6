"""Leave paragraphs out of Markdown; headings stay."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tersely.compressors.gaps import Gaps, counted, told_apart
from tersely.compressors.structured import Folding, Structured
from tersely.forms import Form
from tersely.named import Named
from tersely.prompt import Kind

FEWEST = 4
"""Blocks below which none goes."""

LEFT = " left out]"

_HEADING = re.compile(r" {0,3}#{1,6}(?:\s|$)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


class Markdown(Structured):
    """Leaves paragraphs, lists and code blocks out of Markdown, evenly spread.

    Headings stay, and so do the first paragraph and those that the question or the tool's call
    names or that tell of an error; those that hold words of the question go last. Marks say how
    many lines are gone.
    """

    name = "markdown"
    forms = frozenset[Form](("markdown",))
    lossy = True

    kinds: tuple[Kind, ...] = ("tool_output", "code", "context")

    def fold(self, text: str, asked: Named) -> Folding | None:
        if LEFT in text:
            return None
        return thinned(text, asked)


def thinned(text: str, asked: Named) -> Folding | None:
    """A Markdown text whose blocks can go; None where it has too few."""
    lines = text.split("\n")
    blocks = list(_blocks(lines))
    if len(blocks) < FEWEST:
        return None
    texts = [" ".join(lines[i] for i in block) for block in blocks]
    stays = {at for at, block in enumerate(blocks) if _HEADING.match(lines[block[0]])}
    first = next((at for at in range(len(blocks)) if at not in stays), 0)
    order = told_apart(texts, asked, stays | {first})
    starts = [block[0] for block in blocks[1:]]
    with_space = [
        range(block[0], end) for block, end in zip(blocks, [*starts, len(lines)], strict=True)
    ]
    return Gaps(lines, [with_space[at] for at in order], _mark)


def _mark(lines: Sequence[str]) -> str:
    return counted(sum(1 for line in lines if line.strip()), "line") + "\n"


def _blocks(lines: Sequence[str]) -> Iterator[range]:
    """Headings, and stretches without a blank line; a fenced block is whole."""
    start: int | None = None
    fence = ""
    for i, line in enumerate(lines):
        found = _FENCE.match(line)
        if fence:
            fence = "" if found and found[1].startswith(fence) else fence
            continue
        if start is not None and (not line.strip() or _HEADING.match(line)):
            yield range(start, i)
            start = None
        if _HEADING.match(line):
            yield range(i, i + 1)
        elif line.strip():
            start = i if start is None else start
            fence = found[1] if found else ""
    if start is not None:
        yield range(start, len(lines))
