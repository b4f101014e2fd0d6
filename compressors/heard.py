"""What goes last of a tool's answer, and of what was said before: what calls are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tersely.compressors.log_lines import AROUND
from tersely.compressors.thinned import errors_among
from tersely.named import LITERALS, Lines, Named, Naming
from tersely.part import Part
from tersely.prompt import Prompt, Segment
from tersely.units import Bools, Floats, Units

FIRST, NEXT = 2, 1
"""The ranks of what is named, and of what stands beside it, above all that is worth something."""


def heard(parts: Sequence[Part], segments: Sequence[Segment], prompt: Prompt) -> Sequence[Part]:
    """The parts with their units in the order in which later calls may need them.

    Of a tool's answer comes first what holds an id, number, date or path that is asked for; then
    what stands around it, and what tells of an error. What was said right before the question
    comes first as a whole: that is what a "yes" agrees to. Of every answer and turn the best unit
    comes before the second of another, and one with an id, number, date or path is worth a
    deviation more. Documents stay as they are.
    """
    places = [i for i, one in enumerate(segments) if one.role == "tool" or one.kind == "history"]
    if not places:
        return parts
    names, latest = Naming(prompt), _latest(prompt)
    deviation = float(np.concatenate([part.values for part in parts]).std())
    made = list(parts)
    for i in places:
        part, segment = parts[i], segments[i]
        if len(part.units):
            asked = names.at(segment.turn) if segment.role == "tool" else Named()
            made[i] = _ranked(part, asked, deviation, whole=segment.turn == latest)
    return made


def _ranked(part: Part, asked: Named, deviation: float, *, whole: bool) -> Part:
    units = part.units
    places = [match.span() for match in LITERALS.finditer(units.text)]
    named, errors = _named(units, asked)
    near = _closeness(named)
    values = part.values + deviation * (units.touching(places) + near)
    ranks = np.where(named | whole, FIRST, 0)
    beside = errors | (near > 0)
    beside[np.argmax(values)] = True
    ranks = np.maximum(ranks, np.where(beside, NEXT, 0))
    return replace(
        part,
        values=values,
        ranks=np.where(part.ranks < 0, part.ranks, np.maximum(ranks, part.ranks)),
    )


def _latest(prompt: Prompt) -> int:
    """The turn of what was said right before the question; -1 where there is none."""
    asked = max((one.turn for one in prompt.segments if one.kind == "question"), default=-1)
    said = (one.turn for one in prompt.segments if one.kind == "history" and one.turn < asked)
    return max(said, default=-1)


def _named(units: Units, asked: Named) -> tuple[Bools, Bools]:
    """The units that hold something that is asked for as it is, and those that tell of an error."""
    named, errors = np.zeros(len(units), bool), np.zeros(len(units), bool)
    if asked:
        lines = Lines("\n".join(text.replace("\n", " ") for text in units.texts))
        found, _ = Named(asked.literals).among(lines)
        named[sorted(found)] = True
        errors[sorted(errors_among(lines))] = True
    return named, errors


def _closeness(named: Bools) -> Floats:
    """How near each stands to one that is named: 1 for itself, 0 for what is far."""
    near: Floats = named.astype(np.float64)
    for by in range(1, min(AROUND, len(named) - 1) + 1):
        worth = 1 - by / (AROUND + 1)
        near[by:] = np.maximum(near[by:], worth * named[:-by])
        near[:-by] = np.maximum(near[:-by], worth * named[by:])
    return near
