"""Write kept units out as text again."""

from __future__ import annotations

import numpy as np

from tersely.units import Bools, Ints, Units

JOINTS = ("", " ", "\n", "\n\n")
"""What white space is reduced to where units were dropped, by its strength."""

CJK = "\u2e80"
"""From here on scripts write words without a space."""


def render(units: Units, kept: Bools) -> str:
    """The text of the kept units.

    Between neighbours the text is as it was. Where units were dropped, the strongest white space
    of the gap stands: a blank line, a line break, a space, or nothing; a line keeps its
    indentation. Shape of `kept`: (units,).
    """
    if kept.all():
        return units.text
    places = np.flatnonzero(kept)
    if not len(places):
        return ""
    apart = np.flatnonzero(np.diff(places) > 1)
    firsts = places[np.append(0, apart + 1)]
    lasts = places[np.append(apart, len(places) - 1)]
    gaps = strengths(units)
    between = _strongest(gaps, lasts[:-1], firsts[1:]).tolist()
    pieces: list[str] = []
    for first, last, gap in zip(firsts.tolist(), lasts.tolist(), [None, *between], strict=True):
        if gap is not None:
            pieces.append(_joint(units, first, pieces[-1][-1], gap))
        pieces.append(units.text[units.starts[first] : units.ends[last]])
    head = units.text[: units.starts[0]] if kept[0] else JOINTS[gaps[0]]
    tail = units.text[units.ends[-1] :] if kept[-1] else JOINTS[gaps[-1]]
    return head + "".join(pieces) + tail


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
    if strength == 0 and _would_fuse(before, after):
        return " "
    return JOINTS[strength]


def _would_fuse(before: str, after: str) -> bool:
    """Whether two characters side by side would read as one word or number."""
    if before.isdigit() and after.isdigit():
        return True
    return before.isalnum() and after.isalnum() and max(before, after) < CJK
