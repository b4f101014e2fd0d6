"""Settings for a stretch of code: they hold in its thread and asyncio task and below."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

from tersely.budget import Budget, BudgetLike
from tersely.errors import ConfigError, UnknownName
from tersely.middleware.session import Session
from tersely.report import Mode, Report, Trace

if TYPE_CHECKING:
    from tersely.middleware.pipeline import Pipeline

KNOWN_SESSIONS = 1024
"""How many named sessions are remembered; the one unused for longest goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What a caller asks of one call or a stretch of code; None leaves it as it is."""

    mode: Mode | None = None
    budget: Budget | None = None
    pipeline: Pipeline | None = None
    question: str | None = None
    strict: bool | None = None

    def over(self, other: Override) -> Override:
        """This one's wishes first, then the other's."""
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return Override(**{k: getattr(other, k) if v is None else v for k, v in mine.items()})

    @classmethod
    def of(cls, wishes: dict[str, Any]) -> Override:
        """Read wishes as people write them. Raises ConfigError with the value and the mend."""
        known = [f.name for f in fields(cls)]
        for name in wishes:
            if name not in known:
                raise UnknownName("setting", name, known)
        mode = wishes.get("mode")
        if mode is not None and mode not in get_args(Mode):
            raise ConfigError(f"mode must be one of {', '.join(get_args(Mode))}, was {mode!r}")
        budget = wishes.get("budget")
        pipeline = wishes.get("pipeline")
        if pipeline is not None:
            from tersely.middleware.pipeline import pipeline_of

            pipeline = pipeline_of(pipeline)
        return cls(
            **{**wishes, "budget": None if budget is None else Budget.of(budget)}
            | {"pipeline": pipeline}
        )


_NOTHING = Override()
_override: ContextVar[Override] = ContextVar("tersely_override", default=_NOTHING)
_session: ContextVar[Session | None] = ContextVar("tersely_session", default=None)
_task_trace: ContextVar[Trace | None] = ContextVar("tersely_trace", default=None)
_thread_trace = threading.local()
_sessions: OrderedDict[str, Session] = OrderedDict()
_lock = threading.Lock()


@contextmanager
def override(
    *,
    mode: Mode | None = None,
    budget: BudgetLike = None,
    pipeline: Pipeline | str | None = None,
    question: str | None = None,
    strict: bool | None = None,
) -> Iterator[None]:
    """Other settings for every call inside the `with`.

    Holds in this thread or asyncio task and in tasks started inside; inner ones go first.
    """
    wishes = {
        "mode": mode,
        "budget": budget,
        "pipeline": pipeline,
        "question": question,
        "strict": strict,
    }
    token = _override.set(Override.of(wishes).over(_override.get()))
    try:
        yield
    finally:
        _override.reset(token)


@contextmanager
def session(name: str) -> Iterator[Session]:
    """Calls inside the `with` belong to the conversation of that name.

    A text that was sent once in a session goes out with the same bytes ever after. The same
    name gives the same session again, also from another thread.
    """
    with _lock:
        found = _sessions.setdefault(name, Session(name))
        _sessions.move_to_end(name)
        while len(_sessions) > KNOWN_SESSIONS:
            _sessions.popitem(last=False)
    token = _session.set(found)
    try:
        yield found
    finally:
        _session.reset(token)


def last_report() -> Report | None:
    """The report of the latest request in this thread or asyncio task."""
    trace = last_trace()
    return trace.report if trace else None


def last_trace() -> Trace | None:
    """The latest request's prompt before and after, with its report."""
    if _in_task():
        return _task_trace.get()
    found: Trace | None = getattr(_thread_trace, "latest", None)
    return found


def current_override() -> Override:
    """What the surrounding `override` blocks ask for."""
    return _override.get()


def current_session() -> Session | None:
    """The session of the surrounding `session` block."""
    return _session.get()


def remember(trace: Trace) -> None:
    """Make a trace the latest one of this thread or asyncio task."""
    if _in_task():
        _task_trace.set(trace)
    else:  # not a ContextVar: LangChain runs each step in a copy of the context
        _thread_trace.latest = trace


def _in_task() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
