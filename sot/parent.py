"""The parent of a list that forks: what was written ahead of it, and its headings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tersely.asking import begun
from tersely.contracts import Request
from tersely.sot.branching import NotAsked, Program, outcome
from tersely.sot.headings import Heading, may_open, next_headings
from tersely.sot.run import Run
from tersely.sot.skeleton import Point

PIECES = 6
"""Calls at most for the headings: a model that runs into details is made to go on behind them."""


@dataclass(eq=False, slots=True)
class Parent:
    """Writes the headings of a list, and makes a point of the run of each.

    `before` is what stands ahead of the list, `tokens` what the headings may have, and `over` tells
    why the list ended, where the model did not end it.
    """

    run: Run
    request: Request
    tokens: int
    before: str = ""
    headings: list[Heading] = field(default_factory=list)
    over: str = ""
    _start: tuple[str, int] = ("", 0)

    def listed(self) -> Program:
        """The program that has the headings written, one after the other."""
        left = self.tokens
        for _ in range(PIECES):
            first = len(self.headings)
            self._start = (self.headings[-1].following(), first + 1)
            asked = self.asked(self.shown(first) + self._apart + self._start[0], left)
            heard, error = yield from outcome(asked, until=self._ran_on)
            if isinstance(error, NotAsked):
                return
            rest = self.heard(heard.text)
            made = self._apart.join(one.raw for one in self.headings[first:])
            self.run.calls.note("headings", asked, heard, made.removeprefix(self._start[0]))
            left -= self.run.calls.made[-1].completion
            if error is not None:
                self.over = f"the headings broke off ({type(error).__name__}: {error})"
            came = len(self.headings) > first
            if self._full or not came or left < 1 or not self._detailed(rest):
                return

    def _ran_on(self, text: str) -> bool:
        """Whether something else than headings has begun, or there are enough of them."""
        start, number = self._start
        found, rest = next_headings(start + text, number)
        number += len(found)
        if number > self.run.skeleton.most:
            return True
        return bool(rest.strip()) and not may_open(rest.lstrip(), number)

    def heard(self, text: str) -> str:
        """Take the headings that came in the present call; what stands behind them."""
        start, number = self._start
        found, rest = next_headings(start + text, number)
        self.take(found[len(self.headings) + 1 - number :])
        return rest

    def take(self, found: list[Heading]) -> None:
        """Make points of headings, unless the list is over with one of them."""
        run = self.run
        for one in found:
            if self._full:
                return
            reason, _ = run.skeleton.sieve.fault(one.text, [job.point for job in run.jobs])
            if reason:
                self.over = f"heading {one.number} ({one.text}) ended the list: {reason}"
                return
            self.headings.append(one)
            point = Point(number=one.number, text=one.text)
            run.job(point, one.raw + ("\n" if one.alone else ""), final=True)

    def _detailed(self, rest: str) -> bool:
        """Whether the model ran on into what its last heading is about: else the list has ended."""
        return bool(rest.strip()) and (self.headings[-1].alone or not rest.startswith("\n\n"))

    @property
    def _full(self) -> bool:
        return bool(self.over) or len(self.headings) >= self.run.skeleton.most

    @property
    def _apart(self) -> str:
        return "\n\n" if self.headings[0].alone else "\n"

    def shown(self, number: int) -> str:
        """What was written up to the heading of this number."""
        return self.before + self._apart.join(one.raw for one in self.headings[:number])

    def asked(self, shown: str, tokens: int) -> Request:
        """The request that goes on with what was written."""
        prompt = begun(self.request.prompt, shown)
        return replace(self.request, prompt=prompt, max_tokens=tokens)
