"""A text on the scales: its units, and what each of them is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tersely.order import Arrangement
from tersely.protect import protected
from tersely.render import Rendering, rendering
from tersely.units import Bools, Floats, Ints, Unit, Units, split

FORCED = 1_000_000
"""The rank of what is kept whatever the budget says."""

NEVER = -1
"""The rank of what is dropped even where the budget has room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A text on the scales: its units and what each is worth.

    Units of a higher rank are kept before all others, those of rank FORCED always; within a
    rank those of the higher value go first. Shape of both: (units,). With an `arrangement` the
    documents of a text that lost something are written in that order, by the value of their best
    unit, or by `standing` where documents are worth something by themselves. Shape: (units,).
    A `mark` is written wherever something was dropped. `leads` is the unit that comes along with
    each, as a title does, itself where none does; one of rank NEVER comes along only. Shape:
    (units,).
    """

    units: Units
    values: Floats
    ranks: Ints
    arrangement: Arrangement | None = None
    standing: Floats | None = None
    mark: str = ""
    leads: Ints | None = None

    def rendering(self, kept: Bools) -> Rendering:
        """What is written when these units are kept."""
        if self.arrangement is None or kept.all():
            return rendering(self.units, kept, mark=self.mark)
        worth = np.nan_to_num(self.values if self.standing is None else self.standing)
        return self.arrangement.rendering(self.units, kept, worth, self.ranks >= FORCED)


def opened(part: Part, at: int, finer: Unit) -> Part:
    """A part with one unit split more finely; a code block stays whole."""
    units = part.units
    start, end = int(units.starts[at]), int(units.ends[at])
    text = units.text[start:end]
    pieces = split(text, finer, atoms=protected(text))
    if len(pieces) < 2:
        return part
    times = np.ones(len(units), np.int64)
    times[at] = len(pieces)
    return replace(
        part,
        units=Units(
            units.text,
            np.concatenate((units.starts[:at], pieces.starts + start, units.starts[at + 1 :])),
            np.concatenate((units.ends[:at], pieces.ends + start, units.ends[at + 1 :])),
        ),
        values=part.values.repeat(times),
        ranks=part.ranks.repeat(times),
        standing=None if part.standing is None else part.standing.repeat(times),
        leads=None if part.leads is None else _moved(part.leads, at, len(pieces), times),
    )


def _moved(leads: Ints, at: int, pieces: int, times: Ints) -> Ints:
    """Leads when one unit became several; what it led is led by its first piece."""
    moved = np.where(leads > at, leads + pieces - 1, leads).repeat(times)
    if leads[at] == at:
        moved[at : at + pieces] = np.arange(at, at + pieces)
    return moved
