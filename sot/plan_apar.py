"""Fork the points off an answer that turns into a list, where its headings end."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from tersely.asking import after
from tersely.contracts import Context, Request
from tersely.plans import Steps
from tersely.sot.beginning import at_once, paid, refused
from tersely.sot.branching import Forks
from tersely.sot.listing import Listing
from tersely.sot.plain import plain
from tersely.sot.profile import Profile
from tersely.sot.run import Run
from tersely.sot.shares import Shares, most_points
from tersely.sot.skeleton import Skeleton
from tersely.sot.telling import Telling
from tersely.sot.templates import CHAT, Layout
from tersely.sot.usable import Sieve
from tersely.sot.writing import Calls

HINT = (
    "If the answer makes several points, write them as a numbered list, each with a short heading"
    " and a colon."
)


class Apar(BaseModel):
    """Begins a plain answer, and forks a branch for each item of the list that it comes to.

    There is no skeleton to wait for. Where the first item's heading is closed ("1. **Costs**:"),
    its detail becomes a branch of its own, which goes on with all that was written up to there; the
    answer goes on with the next heading, and so on. What all of them begin with is read once by an
    engine that shares prefixes. Without a list the answer is the plain one, and nothing was lost.
    The answer is a `tersely.account.SotAnswer`, told in order as it comes.

    `hint` is put behind the question ("" leaves it as it is). `points` is the most there may be,
    and `heading_tokens` what their headings may have. `max_tokens` of the request bounds the whole:
    what is left of it behind the headings is shared out, less a `reserve` for points that are cut.
    A heading that says the same as an earlier one (see `Sot`, `merge`) ends the list. A point that
    fails is asked `retries` times more. `gate` "auto" asks what the caller set and the engine's
    `profile`, "off" nothing.

    It needs a backend that goes on with an answer (capability `prefill`, or raw text). It differs
    from the paper in that nothing is trained: the list itself tells where to fork, and not a token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "apar"
    paper: ClassVar[str] = "Liu et al. 2024, https://arxiv.org/abs/2401.06761"

    gate: Literal["auto", "off"] = "auto"
    profile: Profile | None = None
    hint: str = HINT
    points: int = Field(default=10, ge=2, le=99)
    heading_tokens: int = Field(default=160, ge=16)
    reserve: float = Field(default=0.2, ge=0, lt=1)
    at_once: int | None = Field(default=None, ge=1)
    retries: int = Field(default=1, ge=0)
    merge: float = Field(default=0.8, gt=0, le=1)
    unrepeated: bool = False

    def steps(self, request: Request, context: Context, /) -> Steps:
        run = self._run(request, context)
        if reason := self._refused(run):
            return (yield from plain(run, reason))
        hinted = after(request.prompt, self.hint) if self.hint else request.prompt
        return (yield from Listing(run, hinted, self.heading_tokens, self.reserve).go())

    def _run(self, request: Request, context: Context) -> Run:
        backend = context.backend
        goes_on = request.raw or (backend is not None and "prefill" in backend.capabilities)
        return Run(
            name=self.name,
            request=request,
            context=context,
            layout=Layout(request, CHAT, goes_on=goes_on),
            forks=Forks(at_once=self.at_once or at_once(backend), deadline=context.deadline),
            shares=Shares.of(request.max_tokens, 0.0),
            telling=Telling(unrepeated=self.unrepeated),
            skeleton=Skeleton(
                most_points(request.max_tokens, self.points), Sieve(merge=self.merge)
            ),
            calls=Calls(context),
            retries=self.retries,
            goes_on=goes_on,
            route="list",
        )

    def _refused(self, run: Run) -> str:
        """Why the answer is plain from the beginning, or ""."""
        if not run.goes_on:
            return "the backend does not go on with an answer: nothing can be forked off it"
        if reason := refused(run, self.gate):
            return reason
        return paid(run, self.profile, run.job_of(0, WORDS)) if self.gate == "auto" else ""


WORDS = 60
"""Words that a point usually has."""
