"""One run of a plan whose points are written side by side: its outline, its points, its end."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tersely import plans
from tersely.account import SotAccount, SotAnswer
from tersely.contracts import Context, FinishReason, Request
from tersely.plans import Reply, Step
from tersely.sot.branching import Forks, Program
from tersely.sot.difficulty import picked
from tersely.sot.shares import USUAL, Shares
from tersely.sot.skeleton import Point, Skeleton
from tersely.sot.telling import Telling
from tersely.sot.templates import Layout
from tersely.sot.writing import Calls, Job

WORDS_A_TOKEN = 0.6
"""Words that a point is asked for, to each token that it may have: it is to end by itself."""

LINE = 8
"""Tokens that a line of a skeleton usually has."""

TRIES = 2
"""How often a skeleton and a plain answer are asked for."""

FEWEST = 2
"""Points below which there is nothing to write side by side."""


@dataclass(slots=True, kw_only=True)
class Run:
    """What a plan works with. `jobs` are its points, in their order, and `skeleton` its list.

    Of several `models`, from the weakest to the strongest, each point goes to one.
    """

    name: str
    request: Request
    context: Context
    layout: Layout
    forks: Forks
    shares: Shares
    telling: Telling
    skeleton: Skeleton
    calls: Calls
    retries: int
    goes_on: bool
    models: Sequence[str] = ()
    route: Literal["items", "skeleton", "list", "plain"] = "skeleton"
    jobs: list[Job] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    finish: FinishReason = "stop"

    def tell(self, note: str) -> None:
        """Tell the caller which way was taken, and why."""
        if note not in self.notes:
            self.notes.append(note)
        self.context.say(f"{self.name}: {note}")

    def job_of(self, items: int, words: int) -> tuple[int, float, float, float, float]:
        """The answer as a profile of the engine judges it, before anything is known of it.

        The number of points, the tokens of each, of the skeleton, of a point's prompt, and of what
        all prompts begin with.
        """
        points = items or min(USUAL, self.skeleton.most)
        tokens = min(self.request.max_tokens / points, words / WORDS_A_TOKEN)
        example = Point(number=1, text="What this point is about")
        told = 0 if items else points * LINE
        base = self.context.tokens(self.layout.base) + told
        asked = self.layout.item(example) if items else self.layout.point(example, ())
        return points, tokens, told, self.context.tokens(asked.prompt) + told, base

    def after(self, part: float) -> float | None:
        """The moment when this part of the time that is left will be over; None without end."""
        deadline, left = self.context.deadline, self.context.left
        return None if deadline is None or left is None else deadline - left * (1 - part)

    def job(self, point: Point, heading: str | None = None, *, final: bool = False) -> Job:
        """A point to be written, the last so far; under a `heading` that is not the layout's."""
        model, why = picked(point, self.models)
        if why:
            self.tell(f"point {point.number} goes to the model {model!r}: {why}")
        job = Job(
            point=point,
            heading=self._heading(point) if heading is None else heading,
            calls=self.calls,
            shares=self.shares,
            retries=self.retries,
            goes_on=self.goes_on,
            final=final,
            models=self.models,
            model=model,
        )
        self.jobs.append(job)
        return job

    def _heading(self, point: Point) -> str:
        return self.layout.heading(point, items=self.route == "items")

    def say(self) -> Generator[Step, Reply, None]:
        """Show what can be shown by now."""
        for piece in self.telling.due(self.jobs):
            yield from plans.say(piece)
        if self.context.watch:
            self.context.watch([job.seen for job in self.jobs])

    def noted(self, program: Program, purpose: str) -> Program:
        """A program whose calls are counted; their answers are used up, not told."""
        reply: Reply = None
        step = next(program)
        while True:
            try:
                reply = yield step
                if isinstance(step, list) and isinstance(reply, list):
                    for request, heard in zip(step, reply, strict=True):
                        self.calls.note(purpose, request, heard, None)
                step = program.send(reply)
            except StopIteration as done:
                return done.value

    def answer(self, text: str) -> SotAnswer:
        """The answer with its account."""
        made = self.context.count(text) if text else 0
        account = SotAccount(
            calls=tuple(self.calls.made),
            exact=self.context.count.exact,
            notes=tuple(self.notes),
            route=self.route,
            points=tuple(job.told for job in self.jobs),
            plain=self.context.tokens(self.request.prompt) + made,
        )
        return SotAnswer(
            text=text,
            prompt_tokens=account.prompt,
            cached_tokens=account.cached,
            completion_tokens=account.completion,
            finish_reason=self.finish,
            model=self.calls.model,
            account=account,
        )
