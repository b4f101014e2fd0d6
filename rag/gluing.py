"""Glue passages of one source where they touch or overlap, so that no text is shown twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tersely.origins import origins_of
from tersely.rag.bundle import Stretch
from tersely.retrieval import Passage

JOINTS = ("", " ", "\n\n")
"""What stands between passages that lie so many characters apart: white space was there."""

_Placed = tuple[int, Stretch]
"""A stretch, and where it stood in the row."""


def glued(stretches: Sequence[Stretch]) -> list[Stretch]:
    """The same text in as few stretches as can be, each where the first of its parts stood.

    Only whole passages whose offsets tell the length of their text are glued, and only where what
    they share reads the same in both. The score is that of the better part.
    """
    rows: dict[str, list[_Placed]] = {}
    found: list[_Placed] = []
    for i, one in enumerate(stretches):
        if joinable(one):
            rows.setdefault(one.passage.source, []).append((i, one))
        else:
            found.append((i, one))
    for row in rows.values():
        found += _joined(sorted(row, key=_place))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def known(passage: Passage) -> bool:
    """Whether a passage tells where it stands in which source."""
    return bool(passage.source) and passage.end - passage.start == len(passage.text)


def joinable(stretch: Stretch) -> bool:
    """Whether a stretch is a run of a known source with nothing left out."""
    return known(stretch.passage) and not stretch.pruned


def _place(pair: _Placed) -> tuple[int, int]:
    return pair[1].passage.start, -pair[1].passage.end


def _joined(row: Iterable[_Placed]) -> Iterator[_Placed]:
    """A row of one source, in its order, with neighbours made one."""
    held: _Placed | None = None
    for pair in row:
        together = _together(held[1], pair[1]) if held else None
        if held and together:
            held = min(held[0], pair[0]), together
            continue
        if held:
            yield held
        held = pair
    if held:
        yield held


def _together(one: Stretch, other: Stretch) -> Stretch | None:
    """Two stretches as one; None where they lie apart or differ in what they share."""
    first, second = one.passage, other.passage
    gap = second.start - first.end
    if gap >= len(JOINTS):
        return None
    shared = min(max(-gap, 0), len(second.text))
    at = second.start - first.start
    if first.text[at : at + shared] != second.text[:shared]:
        return None
    text = first.text + JOINTS[max(gap, 0)] + second.text[shared:]
    rest = len(second.text) - shared
    runs = [*one.origins, (len(text) - rest, second.start + shared, rest)]
    columns = zip(*runs, strict=True)
    best = first if first.score >= second.score else second
    passage = replace(best, text=text, start=first.start, end=first.start + len(text))
    ids = (*one.ids, *(name for name in other.ids if name not in one.ids))
    return Stretch(passage, passage, ids, origins_of(*map(list, columns)))
