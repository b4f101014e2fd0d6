"""Write kept units out as text again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tersely.origins import Origins, origins_of
from tersely.units import Bools, Ints, Units

JOINTS = ("", " ", "\n", "\n\n")
"""What white space is reduced to where units were dropped, by its strength."""

CJK = "\u2e80"
"""From here on scripts write words without a space."""


NEW = -1
"""Where a piece came from that was not there before."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """A text in pieces: what stands before, between and after runs of kept units, and these.

    `sources` tell where each piece began, or NEW. Pieces of odd number are runs, and `firsts`
    their first units.
    """

    pieces: list[str]
    sources: list[int]
    firsts: Ints

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def origins(self) -> Origins:
        """Where each run of the text was taken from."""
        sources = np.array(self.sources, np.int64)
        lengths = np.fromiter(map(len, self.pieces), np.int64, len(self.pieces))
        old = sources != NEW
        return origins_of((np.cumsum(lengths) - lengths)[old], sources[old], lengths[old])


def render(units: Units, kept: Bools) -> str:
    """The text of the kept units.

    Between neighbours the text is as it was. Where units were dropped, the strongest white space
    of the gap stands: a blank line, a line break, a space, or nothing; a line keeps its
    indentation. Shape of `kept`: (units,).
    """
    return rendering(units, kept).text


def rendering(units: Units, kept: Bools, cuts: Bools | None = None, mark: str = "") -> Rendering:
    """The same in pieces. At `cuts` a new run begins in any case. Shape of both: (units,).

    A `mark` stands wherever units were dropped; with `cuts` only within what they bound.
    """
    places = np.flatnonzero(kept)
    if not len(places):
        text = units.text if kept.all() else ""
        return Rendering([text], [0], places)
    new = np.diff(places) > 1
    if cuts is not None:
        new |= cuts[places[1:]]
    apart = np.flatnonzero(new)
    firsts = places[np.append(0, apart + 1)]
    lasts = places[np.append(apart, len(places) - 1)]
    gaps = strengths(units)
    between = _strongest(gaps, lasts[:-1], firsts[1:]).tolist()
    pieces = [units.text[: units.starts[0]] if kept[0] else JOINTS[gaps[0]]]
    sources = [0 if kept[0] else NEW]
    starts, ends = units.starts[firsts].tolist(), units.ends[lasts].tolist()
    whole = (np.append(0, lasts[:-1]) + 1 == firsts).tolist()
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if i and whole[i]:
            pieces.append(units.text[ends[i - 1] : start])
            sources.append(ends[i - 1])
        elif i:
            pieces.append(_joint(units, int(firsts[i]), pieces[-1][-1], between[i - 1]))
            sources.append(NEW)
        pieces.append(units.text[start:end])
        sources.append(start)
    pieces.append(units.text[units.ends[-1] :] if kept[-1] else JOINTS[gaps[-1]])
    sources.append(int(units.ends[-1]) if kept[-1] else NEW)
    made = Rendering(pieces, sources, firsts)
    return _marked(made, mark, gaps, lasts, cuts) if mark else made


def _marked(made: Rendering, mark: str, gaps: Ints, lasts: Ints, cuts: Bools | None) -> Rendering:
    """The same with a mark in each gap, and the white space of the gap on both sides of it."""
    pieces = made.pieces
    between = _strongest(gaps, lasts[:-1], made.firsts[1:]).tolist()
    owners = np.zeros(len(gaps)) if cuts is None else np.cumsum(cuts)
    same = (owners[lasts[:-1]] == owners[made.firsts[1:]]).tolist()
    for i, (strength, inside) in enumerate(zip(between, same, strict=True), start=1):
        if inside and made.sources[2 * i] == NEW:
            pieces[2 * i] = JOINTS[strength] + mark + pieces[2 * i]
    if cuts is None and made.sources[0] == NEW:
        pieces[0] += mark + JOINTS[int(gaps[1 : made.firsts[0] + 1].max())]
    if cuts is None and made.sources[-1] == NEW:
        pieces[-1] = JOINTS[int(gaps[lasts[-1] + 1 : -1].max())] + mark + pieces[-1]
    return made


def strengths(units: Units) -> Ints:
    """How strong the white space before each unit is, and after the last: 0 to 3.

    Shape: (units + 1,).
    """
    points = np.frombuffer(units.text.encode("utf-32-le", "surrogatepass"), np.uint32)
    lines = np.flatnonzero(points == ord("\n"))
    opens = np.append(0, units.ends)
    closes = np.append(units.starts, len(units.text))
    breaks = np.searchsorted(lines, closes) - np.searchsorted(lines, opens)
    return np.where(closes > opens, 1 + np.minimum(breaks, 2), 0)


def _strongest(gaps: Ints, lasts: Ints, firsts: Ints) -> Ints:
    """The strongest white space between each kept run and the next."""
    if not len(lasts):
        return lasts
    ranges = np.column_stack((lasts + 1, firsts + 1)).ravel()
    strongest: Ints = np.maximum.reduceat(gaps, ranges)[::2]
    return strongest


def _joint(units: Units, first: int, before: str, strength: int) -> str:
    """What stands between two runs of kept units."""
    gap = units.text[int(units.ends[first - 1]) : int(units.starts[first])]
    if strength >= 2:
        return JOINTS[strength] + (gap.rpartition("\n")[2] if "\n" in gap else "")
    after = units.text[int(units.starts[first])]
    if strength == 0 and would_fuse(before, after):
        return " "
    return JOINTS[strength]


def would_fuse(before: str, after: str) -> bool:
    """Whether two characters side by side would read as one word or number."""
    if before.isdigit() and after.isdigit():
        return True
    return before.isalnum() and after.isalnum() and max(before, after) < CJK
