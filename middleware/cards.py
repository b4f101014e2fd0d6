"""What a page tells about each text of a request: its pieces, its tokens, the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tersely.middleware.align import Piece, align, by_origins
from tersely.middleware.drop import STAGE as DROP
from tersely.middleware.session import FROZEN
from tersely.prompt import Leaf, Segment, Span
from tersely.report import Decision, Trace, spell


@dataclass(frozen=True, slots=True)
class Part:
    """A segment and what became of its text; `spans` were protected before."""

    segment: Segment
    pieces: Sequence[Piece]
    spans: tuple[Span, ...]

    @property
    def state(self) -> str:
        """`locked`, `frozen`, or nothing."""
        if not self.segment.locked:
            return ""
        return "frozen" if self.segment.reason == FROZEN else "locked"


@dataclass(frozen=True, slots=True)
class Card:
    """A text of the request, before and after, and everything that is told about it."""

    leaf: Leaf
    parts: tuple[Part, ...]
    decisions: tuple[Decision, ...]
    before: int
    after: int

    @property
    def path(self) -> str:
        return spell(self.leaf.path)

    @property
    def changed(self) -> bool:
        return any(piece.mark != "kept" for part in self.parts for piece in part.pieces)

    @property
    def state(self) -> str:
        """The state of all parts when they share one, else nothing."""
        states = {part.state for part in self.parts if part.pieces}
        return states.pop() if len(states) == 1 else ""

    @property
    def share(self) -> float:
        """The share of tokens that is left."""
        return self.after / self.before if self.before else 1.0


def cards_of(trace: Trace) -> list[Card]:
    """The texts of a request, in order, with what became of each."""
    return [
        _card(old, new, trace)
        for old, new in zip(trace.before.leaves, trace.after.leaves, strict=True)
        if old.text or new.text
    ]


def _card(old: Leaf, new: Leaf, trace: Trace) -> Card:
    kinds = {segment.kind for segment in new.segments}
    path = spell(new.path)
    told = tuple(d for d in trace.report.decisions if d.path == path and d.kind in kinds)
    staged = [d for d in told if d.stage != DROP]
    before = sum(d.before for kind in kinds for d in _first_round(kind, new, staged))
    before += sum(d.before - d.after for d in told if d.stage == DROP)
    after = before - sum(d.before - d.after for d in told)
    return Card(new, _parts(old, new), told, before, after)


def _first_round(kind: str, leaf: Leaf, told: Sequence[Decision]) -> Sequence[Decision]:
    """The first decision about each segment of a kind: later ones are of later stages."""
    mine = [d for d in told if d.kind == kind]
    stages = [d for d in mine if d.stage != "-"]
    if not stages:
        return mine
    open_ones = sum(s.kind == kind and not s.locked for s in leaf.segments)
    return [*stages[:open_ones], *(d for d in mine if d.stage == "-")]


def _parts(old: Leaf, new: Leaf) -> tuple[Part, ...]:
    pairs = list(zip(old.segments, new.segments, strict=True))
    parts = [Part(now, _pieces(was, now), was.spans) for was, now in pairs]
    if len(parts) > 1 and parts[0].state == "frozen" and old.text != new.text:
        # what was sent is one text and lies in the first segment
        return (Part(new.segments[0], align(old.text, new.text), ()),)
    return tuple(part for part in parts if part.pieces)


def _pieces(was: Segment, now: Segment) -> Sequence[Piece]:
    """What became of a segment's text: as the stages tell it, else by comparing."""
    if was.text == now.text or now.origins is None:
        return align(was.text, now.text)
    return by_origins(was.text, now.text, now.origins)
