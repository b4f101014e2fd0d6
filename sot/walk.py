"""From the first line of a skeleton to the last point: what begins when, and what came of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from math import ceil

from tersely.account import SotAnswer
from tersely.contracts import Request
from tersely.plans import Reply, Step
from tersely.sot.branching import Branch
from tersely.sot.outlining import UNENDED, read
from tersely.sot.plain import plain
from tersely.sot.run import WORDS_A_TOKEN, Run
from tersely.sot.shares import LEAST, USUAL
from tersely.sot.skeleton import Point
from tersely.sot.usable import verdict
from tersely.sot.writing import Asking, Job


class Walk:
    """Writes the points of a run. `outline` is the branch that writes the skeleton, if one does.

    `piped` begins points while the skeleton is still written, `graph` after those they build on.
    Fewer than `least` points are not written at all. Each is asked for `words` at most.
    """

    def __init__(self, run: Run, *, piped: bool, graph: bool, least: int, words: int) -> None:
        self.run, self.piped, self.graph = run, piped, graph
        self.least, self.words = least, words
        self.outline: Branch | None = None

    def go(self) -> Generator[Step, Reply, SotAnswer]:
        """Write all points. Raises what a plain answer raises, where that must be tried."""
        going = True
        while going:
            self._launch()
            yield from self.run.say()
            going = bool((yield from self.run.forks.step()))
        if reason := self._too_few():
            return (yield from plain(self.run, reason))
        for job in self.run.jobs:
            yield from self._alone(job)
        if all(job.state == "lost" for job in self.run.jobs):
            return (yield from plain(self.run, "not one point could be written"))
        return told(self.run)

    @property
    def _listed(self) -> bool:
        """Whether all points are known."""
        return self.outline is None or self.outline.ended

    def _launch(self) -> None:
        """Begin every point that can be begun by now."""
        points = self._known()
        if len(points) < (self.least if self._listed else max(self.least, 2)):
            return
        if not self.run.jobs and self._unusable:
            return
        jobs = {job.point.number: job for job in self.run.jobs}
        for point in points:
            job = jobs.get(point.number) or self.run.job(point)
            job.point = point
            jobs[point.number] = job
        coming = [job for job in self.run.jobs if job.branch is None and not job.ended]
        for i, job in enumerate(coming):
            if self._ready(job.point, jobs):
                self._begin(job, points, len(coming) - i)

    @property
    def _unusable(self) -> str:
        """What is wrong with the skeleton as far as it came; "" where nothing is, or none is."""
        if self.outline is None:
            return ""
        if self.outline.ended and self.outline.result == UNENDED:
            return UNENDED
        return verdict(self.run.skeleton)

    def _known(self) -> list[Point]:
        """The points whose lines are closed."""
        if self.outline is not None and not self.outline.ended:
            read(self.run, self.outline.text)
            points = self.run.skeleton.points if self.piped else []
        else:
            points = self.run.skeleton.resolved
        return points if self.graph else [replace(point, needs=()) for point in points]

    def _ready(self, point: Point, jobs: dict[int, Job]) -> bool:
        """Whether all that a point builds on is there, or never will be."""
        needs = [jobs.get(number) for number in self.run.skeleton.known(point)]
        return all(job.ended if job else self._listed for job in needs)

    def _begin(self, job: Job, points: Sequence[Point], coming: int) -> None:
        begun = sum(one.branch is not None for one in self.run.jobs)
        most = coming if self._listed else self.run.skeleton.most - begun
        usual = coming if self._listed else max(min(USUAL - begun, most), coming)
        job.room = self.run.shares.grant(usual, most)
        if not job.room:
            job.lose("the tokens were spent")
            return
        program = job.write(self._asking(job, points))
        job.branch = self.run.forks.fork(program, deadline=self._deadline(begun, begun + usual))

    def _asking(self, job: Job, points: Sequence[Point]) -> Asking:
        """What the point's writer is shown: the skeleton, up to its own line where it is piped."""
        layout, point = self.run.layout, job.point
        if self.run.route == "items":
            return lambda so_far: layout.item(point, so_far=so_far)
        place = [one.number for one in points].index(point.number)
        parents = [one for one in self.run.jobs if one.point.number in point.needs and one.kept]
        return partial(
            _asked,
            self.run,
            point,
            tuple(points[: place + 1] if self.piped else points),
            tuple(f"{one.heading} {one.kept}" for one in parents),
            max(min(int(job.room * WORDS_A_TOKEN), self.words), 5),
        )

    def _deadline(self, begun: int, coming: int) -> float | None:
        """The end of the time for one of several rounds, where not all fit in one."""
        at_once = self.run.forks.at_once
        rounds, own = ceil(coming / at_once), begun // at_once + 1
        return self.run.after(own / rounds) if own < rounds else None

    def _too_few(self) -> str:
        """Why there is nothing to write side by side, or ""."""
        broken = ""
        if self.outline is not None:
            broken = str(self.outline.error or self.outline.result or "")
        wrong = self._unusable
        if self.run.jobs:
            if broken:
                self.run.tell(f"{broken}: its whole lines are the points")
            elif wrong:
                self.run.tell(f"the points that were begun stand, though of the skeleton {wrong}")
            return ""
        if wrong:
            return broken or f"the skeleton is not usable: {wrong}"
        found = len(self.run.skeleton.points)
        points = "one usable point" if found == 1 else "no usable point"
        return broken or f"the skeleton has {points}"

    def _alone(self, job: Job) -> Generator[Step, Reply, None]:
        """Ask for a point that was lost once more: shorter, and with nothing beside it."""
        if job.state == "lost" and job.asked and not self.run.forks.late:
            reason = job.reason
            job.room, job.retries = max(job.room // 2, LEAST), 0
            layout, point, items = self.run.layout, job.point, self.run.route == "items"
            program = job.write(
                lambda so_far: layout.short(point, items=items), f"point {point.number}, alone"
            )
            job.branch = self.run.forks.fork(program)
            while not job.branch.ended:
                yield from self.run.say()
                yield from self.run.forks.step()
            if job.state != "lost":
                self.run.tell(f"point {point.number} was asked for alone, and shorter ({reason})")
        job.final = True
        yield from self.run.say()


def told(run: Run, *, before: str = "") -> SotAnswer:
    """The whole answer, with what was said `before` its points and all that was lost on the way."""
    _tell_of(run)
    states = {job.state for job in run.jobs}
    if states != {"whole"}:
        run.finish = "other" if "lost" in states and not run.forks.late else "length"
    return run.answer(before + run.telling.text)


def _asked(
    run: Run,
    point: Point,
    skeleton: Sequence[Point],
    parents: Sequence[str],
    words: int,
    so_far: str,
) -> Request:
    return run.layout.point(point, skeleton, parents=parents, words=words, so_far=so_far)


def _tell_of(run: Run) -> None:
    """Tell of all that is not in the answer, or stands there by another number."""
    for job in run.jobs:
        if job.state != "whole":
            run.tell(f"point {job.point.number} is {job.state}: {job.reason}")
    for number, sentences in run.telling.repeated.items():
        run.tell(f"of point {number}, said before: {' '.join(sentences)}")
    for number, reason in run.skeleton.left_out.items():
        run.tell(f"line {number} of the skeleton was left out, {reason}")
    if failed := run.skeleton.sieve.failed:
        run.tell(f"points were compared by their words alone: the embedder failed ({failed})")
    for number, now in run.telling.renumbered.items():
        run.tell(f"point {number} is number {now} in the answer")
