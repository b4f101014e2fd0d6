"""Where the latest trace and account lie: each thread and each asyncio task has its own desk.

A plain ContextVar would not do: frameworks run one call in a copy of the context, in a task or
in a pool's thread, and what is set there is lost to the caller. A trace is therefore laid on the
desk where the request ran and on the desks of all who started it. Requests that run side by side
don't see each other's.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import ref

T = TypeVar("T")

Owner = asyncio.Task[Any] | threading.Thread


@dataclass(slots=True, eq=False, weakref_slot=True)
class Desk:
    """The latest of each kind from one thread or task, and from all that was started there."""

    starter: Desk | None
    owner: ref[Owner]
    own: dict[type[Any], Any] = field(default_factory=dict)
    latest: dict[type[Any], Any] = field(default_factory=dict)

    def lay(self, told: object) -> None:
        """Put a trace or an account here, and before everyone who started this."""
        kind = type(told)
        self.own[kind] = told
        desk: Desk | None = self
        while desk is not None:
            desk.latest[kind] = told
            desk = desk.starter

    def read(self, kind: type[T]) -> T | None:
        """The latest of a kind from here or below, else what the starter itself had last."""
        found: T | None = self.latest.get(kind)
        desk = self.starter
        while found is None and desk is not None:
            found, desk = desk.own.get(kind), desk.starter
        return found


_current: ContextVar[Desk | None] = ContextVar("tersely_desk", default=None)
_thread = threading.local()


def here() -> Desk:
    """The desk of this task, or of this thread where no task runs."""
    given = _current.get()
    me = _task() or threading.current_thread()
    if given is not None and given.owner() is me:
        return given
    # a thread keeps its desk through copies of its context, until someone else lends it out
    kept: Desk | None = getattr(_thread, "desk", None)
    if isinstance(me, threading.Thread) and kept is not None and kept.starter is given:
        _current.set(kept)
        return kept
    desk = Desk(starter=given, owner=ref(me))
    _current.set(desk)
    if isinstance(me, threading.Thread):
        _thread.desk = desk
    return desk


def start_from(desk: Desk) -> None:
    """Take a desk as the starter of what runs here, where no other is known."""
    if _current.get() is None:
        _current.set(desk)


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None
