"""Tell where every run of a compressed text was copied from in the caller's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from tersely.errors import UnknownName
from tersely.middleware.align import align
from tersely.origins import Copy, Origins, composed, origins_of
from tersely.prompt import Leaf, Path, Span, traced
from tersely.report import Trace, spell


@dataclass(frozen=True, slots=True)
class Origin:
    """A run of a text as it goes out, and the run of the caller's text that it was copied from.

    Both are spans of characters, and the text in them is the same.
    """

    path: Path
    output: Span
    source: Span


def provenance(trace: Trace) -> tuple[Origin, ...]:
    """The runs of every text that changed, in the order of the output."""
    return tuple(
        Origin(new.path, (begin, begin + length), (start, start + length))
        for old, new in _leaves(trace)
        if old.text != new.text
        for begin, start, length in copies(old, new)
    )


def source_of(trace: Trace, path: Path, output: Span) -> tuple[Span, ...]:
    """Where the characters of a span of the output came from. Raises UnknownName."""
    for old, new in _leaves(trace):
        if new.path == path:
            wanted: Copy = (0, output[0], max(output[1] - output[0], 0))
            found = composed((wanted,), copies(old, new))
            return tuple((start, start + length) for _, start, length in found)
    raise UnknownName("text", spell(path), (spell(leaf.path) for leaf in trace.after.leaves))


def copies(old: Leaf, new: Leaf) -> Origins:
    """The runs that a text took over from what it was before.

    What the stages told, moved to where the segments lie. Where one of them did not tell, or the
    text goes out as it was sent before, all of it is aligned.
    """
    if old.text == new.text:
        return ((0, 0, len(new.text)),) if new.text else ()
    told: list[Copy] = []
    places = zip(_offsets(old), _offsets(new), strict=True)
    for was, now, (source, output) in zip(old.segments, new.segments, places, strict=False):
        runs = traced(was, now)
        if runs is None:
            return aligned(old.text, new.text)
        told += [(begin + output, start + source, length) for begin, start, length in runs]
    return origins_of(*zip(*told, strict=True)) if told else ()


def aligned(before: str, after: str) -> Origins:
    """The runs that two texts share, as far as can be told from the texts alone."""
    runs: list[Copy] = []
    source = output = 0
    for piece in align(before, after):
        length = len(piece.text)
        if piece.mark == "kept":
            runs.append((output, source, length))
        source += length * (piece.mark != "added")
        output += length * (piece.mark != "dropped")
    return tuple(runs)


def _offsets(leaf: Leaf) -> Iterator[int]:
    """Where each segment of a leaf begins."""
    return accumulate((len(segment.text) for segment in leaf.segments), initial=0)


def _leaves(trace: Trace) -> Iterator[tuple[Leaf, Leaf]]:
    return zip(trace.before.leaves, trace.after.leaves, strict=True)
