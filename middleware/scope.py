"""Settings for a stretch of code: they hold in its thread and asyncio task and below."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

from tersely.account import SotAccount
from tersely.budget import Budget, BudgetLike
from tersely.errors import ConfigError, UnknownName
from tersely.middleware import desk
from tersely.middleware.session import Session
from tersely.report import Mode, Report, Trace

if TYPE_CHECKING:
    from tersely.middleware.pipeline import Pipeline
    from tersely.middleware.points import Points, SotLike

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
    session: Session | None = None
    sot: Points | None = None

    def over(self, other: Override) -> Override:
        """This one's wishes first, then the other's."""
        if other == _NOTHING or self == _NOTHING:
            return self if other == _NOTHING else other
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return Override(**{k: getattr(other, k) if v is None else v for k, v in mine.items()})

    @classmethod
    def of(cls, wishes: Mapping[str, Any]) -> Override:
        """Read wishes as people write them. Raises ConfigError with the value and the mend."""
        known = [f.name for f in fields(cls)]
        for name in wishes:
            if name not in known:
                raise UnknownName("setting", str(name), known)
        given = {name: value for name, value in wishes.items() if value is not None}
        return cls(**{name: _READERS[name](value) for name, value in given.items()})


def _mode(value: Any) -> Mode:
    if value not in get_args(Mode):
        raise ConfigError(f"mode must be one of {', '.join(get_args(Mode))}, was {value!r}")
    mode: Mode = value
    return mode


def _pipeline(value: Any) -> Pipeline:
    from tersely.middleware.pipeline import pipeline_of

    return pipeline_of(value)


def _question(value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"a question is a text, was {value!r}")
    return value


def _strict(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"strict is True or False, was {value!r}")
    return value


def _sot(value: Any) -> Points:
    from tersely.middleware.points import Points

    return Points.of(value)


def _session_of(value: Any) -> Session:
    return value if isinstance(value, Session) else session_named(value)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "mode": _mode,
    "budget": Budget.of,
    "pipeline": _pipeline,
    "question": _question,
    "strict": _strict,
    "session": _session_of,
    "sot": _sot,
}

_NOTHING = Override()
_override: ContextVar[Override] = ContextVar("tersely_override", default=_NOTHING)
_session: ContextVar[Session | None] = ContextVar("tersely_session", default=None)
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
    sot: SotLike | None = None,
) -> Iterator[None]:
    """Other settings for every call inside the `with`.

    Holds in this thread or asyncio task and in tasks started inside; inner ones go first. `sot` is
    for clients and models that are wrapped with it.
    Raises ConfigError that tells the value and the mend.
    """
    wishes = {
        "mode": mode,
        "budget": budget,
        "pipeline": pipeline,
        "question": question,
        "strict": strict,
        "sot": sot,
    }
    desk.here()
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
    found = session_named(name)
    desk.here()
    token = _session.set(found)
    try:
        yield found
    finally:
        _session.reset(token)


def session_named(name: str) -> Session:
    """The session of that name, from earlier or new. Raises ConfigError when it is no name."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a session's name is a text that is not empty, was {name!r}")
    with _lock:
        found = _sessions.setdefault(name, Session(name))
        _sessions.move_to_end(name)
        while len(_sessions) > KNOWN_SESSIONS:
            _sessions.popitem(last=False)
    return found


def last_report() -> Report | None:
    """The report of the latest request in this thread or asyncio task, or one started from it.

    Frameworks may run a request in a task that nothing links to this one; a `session` or
    `override` block around the call makes that link.
    """
    trace = last_trace()
    return trace.report if trace else None


def last_trace() -> Trace | None:
    """The latest request's prompt before and after, with its report."""
    return desk.here().read(Trace)


def last_account() -> SotAccount | None:
    """What the latest answer took that was asked for with `sot`, and what became of its points.

    Found as `last_report` finds its report; of a stream it is there when the stream has ended.
    """
    return desk.here().read(SotAccount)


def remember(trace: Trace) -> None:
    """Make a trace the latest one of this thread or asyncio task."""
    desk.here().lay(trace)


def remember_account(account: SotAccount) -> None:
    """Make an account the latest one of this thread or asyncio task."""
    desk.here().lay(account)


def current_override() -> Override:
    """What the surrounding `override` blocks ask for."""
    return _override.get()


def current_session() -> Session | None:
    """The session of the surrounding `session` block."""
    return _session.get()
