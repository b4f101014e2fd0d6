"""What points side by side can gain at best on an engine whose steps were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tersely.sot.profile import Profile, Roads


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Points of so many tokens, behind a skeleton of so many.

    `parts` are how long each is beside the others (empty: all are as long).
    """

    points: int
    tokens: int
    skeleton: int
    parts: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.points}x{self.tokens}{', uneven' if self.parts else ''}"

    @property
    def lengths(self) -> list[int]:
        """The tokens of each point; together they are always as many."""
        ends = [round(self.total * part) for part in self._ends]
        return [end - begin for begin, end in pairwise([0, *ends])]

    @property
    def _ends(self) -> list[float]:
        parts = self.parts or (1.0,) * self.points
        return [sum(parts[: i + 1]) / sum(parts) for i in range(self.points)]

    @property
    def total(self) -> int:
        """The tokens of all points, and of the one answer that is compared with."""
        return self.points * self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Tokens that must be read: the plain prompt, and for points what no prompt before had."""

    plain: float
    sot: float


def whole(engine: Profile, job: Job, read: Reading) -> Roads:
    """Seconds of both ways, where the points begin when the skeleton has ended.

    Every token is read once, and nothing takes time but reading and steps: so much is possible at
    best.
    """
    return _roads(engine, job, read, [job.skeleton] * job.points)


def piped(engine: Profile, job: Job, read: Reading) -> Roads:
    """The same, where each point begins as soon as its own line has ended."""
    begins = [job.skeleton * (i + 1) // job.points for i in range(job.points)]
    return _roads(engine, job, read, begins)


def _roads(engine: Profile, job: Job, read: Reading, begins: Sequence[int]) -> Roads:
    """Step by step; `begins` are the tokens of the skeleton that there must be for each point."""
    plain = read.plain * engine.prefill + job.total * engine.step(1)
    left = job.lengths
    listed, seconds = 0, read.sot * engine.prefill
    while listed < job.skeleton or any(left):
        going = [i for i, begin in enumerate(begins) if left[i] and listed >= begin]
        seconds += engine.step(len(going) + (listed < job.skeleton))
        for i in going:
            left[i] -= 1
        listed = min(listed + 1, job.skeleton)
    return Roads(plain, seconds)


def fewest(engine: Profile, job: Job, read: Reading, *, points: bool) -> int | None:
    """The fewest points of these tokens, or tokens of these points, at which a skeleton pays.

    As a profile predicts it for points that are read alike; None where no number of them does.
    """
    own = max(read.sot - read.plain, 0.0) / job.points + read.plain
    for count in range(2 if points else 1, 65 if points else 2049):
        many, long = (count, job.tokens) if points else (job.points, count)
        if engine.predicted(many, long, job.skeleton, own, read.plain).gain >= 1:
            return count
    return None


def crossing(sizes: Sequence[float], won: Sequence[float]) -> float | None:
    """The size from which on something is won, on lines through what was measured.

    `won` is below 0 where it is lost. Below the first size and beyond the last the nearest line
    goes on; None where it never comes to win.
    """
    if len(sizes) < 2:
        return None
    pairs = sorted(zip(sizes, won, strict=True))
    at = next((i for i, (_, gain) in enumerate(pairs) if gain >= 0), len(pairs) - 1)
    (low, before), (high, after) = pairs[max(at, 1) - 1], pairs[max(at, 1)]
    slope = (after - before) / (high - low)
    return max(low - before / slope, 0.0) if slope > 0 else None


def unread(texts: Sequence[str]) -> int:
    """Characters of all texts that no text before them begins with."""
    known = [
        max((_common(text, other) for other in texts[:i]), default=0)
        for i, text in enumerate(texts)
    ]
    return sum(map(len, texts)) - sum(known)


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))
