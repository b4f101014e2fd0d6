"""Skeleton-of-Thought: first the points of an answer, then all of them at the same time."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from tersely.asking import question_of
from tersely.contracts import Context, Request
from tersely.plans import Reply, Step, Steps
from tersely.sot.beginning import begun, paid, refused
from tersely.sot.items import items_of
from tersely.sot.outlining import outlined
from tersely.sot.plain import plain
from tersely.sot.profile import Profile
from tersely.sot.router import Router
from tersely.sot.run import FEWEST, Run
from tersely.sot.shares import most_points
from tersely.sot.templates import Templates
from tersely.sot.walk import Walk

OUTLINE = 0.5
"""The part of the time that a skeleton may take: the rest is for its points, or a plain answer."""


class Sot(BaseModel):
    """Has a skeleton written, then each of its points by itself, all at the same time.

    Where the question gives the items (`items`), they are the points, and no skeleton is asked
    for. With fewer than two usable points, or where a gate is shut, the request is answered as it
    came, and the account tells why. With `gate` "auto" what the caller set, then the `router` and
    the engine's `profile` may shut it (None: the one that is kept of the backend, if any); `ask`
    lets the router ask the model for one token where it is unsure. "off" asks no gate, and "force"
    also writes a single point.

    `launch` "piped" begins a point as soon as the line behind its own begins: its writer sees the
    skeleton up to there, and the answer is ready sooner. "whole" waits for the end of the skeleton,
    and all writers see all of it, as published. With `graph` a point that builds on others waits
    for them, and its writer is shown their text.

    The request's `max_tokens` bounds what the points have together: equal shares, less a `reserve`
    for those that are cut, where the backend goes on with an answer. Each is asked for `words`, or
    fewer where its share is less. `points` is the most there may be, and `skeleton_tokens` what
    their list may have. `at_once` calls are under way at a time
    (None: as many as the backend says). A point that fails is asked `retries` times more, then
    alone and shorter; it is left out only when that fails too. At the context's deadline what is
    there is the answer. `unrepeated` leaves out sentences that an earlier point said already, and
    `renumbered` counts the points anew where one is missing. The answer is a
    `tersely.account.SotAnswer`.

    With `grammar` "auto" a backend that keeps to one is held to the form of a skeleton, and a
    `penalty` on what was said before keeps small models from saying it again. A line that has as
    large a part of its words in common with an earlier one as `merge`, or is as near to it by the
    vectors of an `embedder` (an Embedder, or what `registry.embedder` builds: a name, or
    `{name: settings}`), is left out. A skeleton that is of no use (see `usable.verdict`) is
    answered plainly.

    `models` are names that the backend knows (capability `models`), the weakest first: each point
    goes to one by its difficulty (see `difficulty.picked`), and to another where that fails; the
    last of them writes the skeleton, and a plain answer.

    It differs from the paper in all of this but "whole". Raises ConfigError when nothing is asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "sot"
    paper: ClassVar[str] = "Ning et al. 2024, https://arxiv.org/abs/2307.15337"

    gate: Literal["auto", "off", "force"] = "auto"
    router: Router = Router()
    ask: bool = False
    profile: Profile | None = None
    items: bool = True
    graph: bool = False
    launch: Literal["piped", "whole"] = "piped"
    points: int = Field(default=10, ge=2, le=99)
    skeleton_tokens: int = Field(default=160, ge=16)
    words: int = Field(default=60, ge=5)
    reserve: float = Field(default=0.2, ge=0, lt=1)
    at_once: int | None = Field(default=None, ge=1)
    retries: int = Field(default=1, ge=0)
    unrepeated: bool = False
    grammar: Literal["auto", "off"] = "auto"
    penalty: float = Field(default=1.15, ge=1)
    merge: float = Field(default=0.8, gt=0, le=1)
    embedder: Any = None
    models: tuple[str, ...] = ()
    renumbered: bool = False
    templates: Templates | None = None

    def steps(self, request: Request, context: Context, /) -> Steps:
        run = begun(self, request, context)
        items = items_of(question_of(request.prompt)) if self.items else []
        if reason := (yield from self._refused(run, len(items))):
            return (yield from plain(run, reason))
        if len(items) > most_points(request.max_tokens, len(items)):
            few = f"{request.max_tokens} tokens do not reach for {len(items)} items"
            return (yield from plain(run, few))
        walk = Walk(
            run,
            piped=self.launch == "piped",
            graph=self.graph,
            least=1 if self.gate == "force" else FEWEST,
            words=self.words,
        )
        if items:
            run.route = "items"
            run.skeleton.points = items
            run.telling.head = run.telling.head and partial(run.layout.heading, items=True)
        else:
            program = outlined(run, self.skeleton_tokens)
            walk.outline = run.forks.fork(program, deadline=run.after(OUTLINE))
        return (yield from walk.go())

    def _refused(self, run: Run, items: int) -> Generator[Step, Reply, str]:
        """Why the request is to be answered plainly, or ""."""
        if reason := refused(run, self.gate):
            return reason
        if self.gate != "auto":
            return ""
        if not items and (reason := (yield from self._routed(run))):
            return reason
        return paid(run, self.profile, run.job_of(items, self.words))

    def _routed(self, run: Run) -> Generator[Step, Reply, str]:
        verdict = self.router.routed_request(run.request)
        if self.ask:
            program = self.router.asking(run.request, run.context.backend)
            (branch,) = yield from run.forks.gather([run.forks.fork(run.noted(program, "router"))])
            if branch.error is None:
                verdict = branch.result
            else:
                run.tell(f"the router asked in vain ({branch.error})")
        return "" if verdict.suits else verdict.reason
