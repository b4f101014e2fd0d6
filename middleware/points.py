"""How points side by side are wished for, and one request on its way to be answered so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Literal, get_args

from tersely import plans, registry
from tersely.account import PointTold, SotAccount, SotAnswer
from tersely.contracts import Backend, Completion, Context, Request
from tersely.errors import ConfigError
from tersely.middleware import scope
from tersely.middleware.billing import Billed
from tersely.plans import Fork, Plan, Reply, Step, Steps
from tersely.tokens import counter

Gate = Literal["auto", "force", "off"]

SotLike = Gate | bool | Mapping[str, Any] | Plan
"""`auto` asks whether a question suits, `force` does not, `off` is the plain way; or settings."""

ROOM = 4096
"""Tokens that the points share where the caller bounded nothing."""


@dataclass(frozen=True, slots=True)
class Points:
    """How an answer of several points is wanted: the plan (None: plainly), and in which time."""

    plan: Plan | None = None
    deadline: float | None = None

    @classmethod
    def of(cls, wish: SotLike | Points) -> Points:
        """Read a wish as people write it. Raises ConfigError with the value and the mend."""
        match wish:
            case Points():
                return wish
            case bool():
                return cls.of("auto" if wish else "off")
            case str():
                return cls._set({"mode": wish})
            case Mapping():
                return cls._set(wish)
            case Plan():
                return cls(wish)
        raise ConfigError(
            f"sot takes {', '.join(get_args(Gate))}, a mapping of settings or a plan, was {wish!r}"
        )

    @classmethod
    def _set(cls, wishes: Mapping[str, Any]) -> Points:
        settings = dict(wishes)
        mode, seconds = settings.pop("mode", "auto"), settings.pop("deadline", None)
        if mode not in get_args(Gate):
            raise ConfigError(f"sot must be one of {', '.join(get_args(Gate))}, was {mode!r}")
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise ConfigError(f"sot: deadline is in seconds, above 0, was {seconds!r}")
        plan = registry.plan("sot", **{"gate": "auto" if mode == "off" else mode, **settings})
        return cls(None if mode == "off" else plan, seconds)


class Untouched(Exception):
    """The request is to be answered as it came, and nothing was spent so far; why."""


@dataclass(slots=True)
class Beside:
    """One request that is to be answered by a plan, and what its calls were billed."""

    points: Points
    request: Request
    context: Context
    backend: Billed = field(repr=False)

    @classmethod
    def of(
        cls,
        points: Points,
        request: Request,
        backend: Backend,
        model: str,
        *,
        watch: Callable[[Sequence[PointTold]], None] | None = None,
    ) -> Beside:
        """A request to a backend, whose tokens are counted as this model counts."""
        deadline = None if points.deadline is None else monotonic() + points.deadline
        context = Context(count=counter(model), deadline=deadline, watch=watch)
        billed = Billed(backend, context)
        return cls(points, request, replace(context, backend=billed), billed)

    def steps(self) -> Steps:
        """The plan's steps. Raises Untouched where the plain answer would be its first expense."""
        if self.points.plan is None:
            raise Untouched("points side by side are switched off")
        steps = self.points.plan.steps(self.request, self.context)
        try:
            reply: Reply = None
            step = next(steps)
            while True:
                if not self.backend.spent and self._is_plain(step):
                    raise Untouched(self._why)
                try:
                    reply = yield step
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as done:
            answer: Completion = done.value
            return answer
        finally:
            steps.close()

    def all_steps(self) -> Steps:
        """The plan's steps, the plain answer among them."""
        if self.points.plan is None:
            return plans.listen(self.request, aloud=True)
        return self.points.plan.steps(self.request, self.context)

    def settled(self, answer: Completion) -> Completion:
        """The answer with what its calls were billed; its account becomes the latest one."""
        if isinstance(answer, SotAnswer):
            scope.remember_account(answer.account)
        bill = self.backend
        return replace(
            answer,
            prompt_tokens=bill.prompt,
            cached_tokens=bill.cached,
            completion_tokens=bill.completion,
        )

    def _is_plain(self, step: Step) -> bool:
        return isinstance(step, Fork) and step.request == self.request

    @property
    def _why(self) -> str:
        said = self.context.said
        return said[-1].partition(": ")[2] if said else "the plan asks plainly"


def untouched(reason: str) -> None:
    """Tell that a request was answered as it came: that becomes the latest account."""
    scope.remember_account(SotAccount(notes=(reason,)))


def failed(error: Exception) -> str:
    """Why points were given up, when something went wrong."""
    if isinstance(error, Untouched):
        return str(error)
    return f"the points failed ({type(error).__name__}: {error})"
