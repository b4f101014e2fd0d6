"""Put ranked units on the scales, pack them, and tell which stretches were kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tersely.contracts import Context
from tersely.order import Order, arrangement
from tersely.prompt import Prompt, Segment, traced
from tersely.rag.ranking import Ranking, in_texts
from tersely.rag.weighing import Texts
from tersely.retrieval import Passage
from tersely.select import FORCED, MARK, NEVER, Part, pack


@dataclass(frozen=True, slots=True)
class Style:
    """How what is kept is written; `none` where nothing is to be kept but what is marked."""

    order: Order
    elision: str
    none: bool = False


def on_scales(
    ranking: Ranking, texts: Texts, segments: Sequence[Segment], style: Style
) -> Iterator[Part]:
    """Each text with its units; what the caller marked is kept, and titles come along only."""
    units = ranking.units(texts)
    barred = ranking.titles | style.none
    rows = [in_texts(row, units) for row in (ranking.values, barred, ranking.leads, ranking.first)]
    before = 0
    for one, segment, values, never, leads, first in zip(units, segments, *rows, strict=True):
        moved = arrangement(one, style.order)
        ranks = np.where(never, NEVER, first.astype(np.int64))
        yield Part(
            units=one,
            values=values,
            ranks=np.where(one.touching(segment.spans), FORCED, ranks),
            arrangement=moved and replace(moved, mark=style.elision),
            mark=style.elision,
            leads=leads - before,
        )
        before += len(one)


def packed(prompt: Prompt, parts: Mapping[int, Part], context: Context) -> Prompt:
    """The best units that fit; where not one does, the beginning of the best."""
    made = pack(prompt, parts, context)
    nothing = all(made.segments[i].text.strip() in ("", MARK) for i in parts)
    if nothing and not all((part.ranks == NEVER).all() for part in parts.values()):
        return pack(prompt, parts, context, finer="word")
    return made


def passages_of(prompt: Prompt, made: Prompt, parts: Mapping[int, Part]) -> Iterator[Passage]:
    """The stretches that were kept of each text."""
    for i, part in parts.items():
        old = prompt.segments[i]
        whole = ((0, 0, len(old.text)),)
        runs = whole if made.segments[i] == old else traced(old, made.segments[i]) or ()
        for _, start, length in runs:
            held = part.units.touching([(start, start + length)])
            if held.any():
                yield Passage(
                    text=old.text[start : start + length],
                    source=str(i),
                    start=start,
                    end=start + length,
                    score=float(part.values[held].max()),
                )
