"""Tell the points of an answer in their order, as soon as those before them have ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tersely.lexical import terms_of
from tersely.sot.cutting import joined
from tersely.sot.skeleton import Point
from tersely.sot.writing import Job
from tersely.units import split

FEWEST_TERMS = 3
"""Words that say something, below which a sentence may be said twice."""


@dataclass(slots=True)
class Telling:
    """What the caller has seen. `unrepeated` leaves out sentences that an earlier point said.

    With a `head`, that makes a point's heading, points are counted anew: no number is missing.
    """

    apart: str = "\n\n"
    unrepeated: bool = False
    head: Callable[[Point], str] | None = None
    pieces: list[str] = field(default_factory=list)
    repeated: dict[int, list[str]] = field(default_factory=dict)
    renumbered: dict[int, int] = field(default_factory=dict)
    _told_of: int = 0
    _place: int = 0
    _heard: set[tuple[str, ...]] = field(default_factory=set)
    _own: set[tuple[str, ...]] = field(default_factory=set)
    _begun: bool = False

    @property
    def text(self) -> str:
        """All that was told."""
        return "".join(self.pieces)

    def due(self, jobs: list[Job]) -> Iterator[str]:
        """What can be told now. `jobs` are those so far, in their order."""
        while self._place < len(jobs):
            job = jobs[self._place]
            text = job.text
            new = text[len(job.said) :]
            if new.strip() and text.startswith(job.said):
                job.said += new
                yield from self._told(job, new)
            if not job.settled:
                return
            self._place, self._begun = self._place + 1, False
            self._heard |= self._own
            self._own.clear()

    def _told(self, job: Job, new: str) -> Iterator[str]:
        text = self._fresh(job, new) if self.unrepeated else new
        if not text.strip():
            return
        if not self._begun:
            start = joined(self._heading(job), text.lstrip(" "))
            text = (self.apart if self.pieces else "") + start
            self._begun = True
        self.pieces.append(text)
        yield text

    def _heading(self, job: Job) -> str:
        """How a point begins, and by which number."""
        self._told_of += 1
        if self.head is None or job.point.number == self._told_of:
            return job.heading
        self.renumbered[job.point.number] = self._told_of
        return self.head(replace(job.point, number=self._told_of))

    def _fresh(self, job: Job, text: str) -> str:
        """The text without sentences that an earlier point has."""
        units, kept, at = split(text, "sentence"), "", 0
        spans = zip(units.starts.tolist(), units.ends.tolist(), strict=True)
        for start, end in spans:
            key = tuple(terms_of(text[start:end]))
            if len(key) >= FEWEST_TERMS and key in self._heard:
                self.repeated.setdefault(job.point.number, []).append(text[start:end])
            else:
                kept += text[at:end]
            self._own.add(key)
            at = end
        return kept + text[at:]
