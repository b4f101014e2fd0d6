"""Who is told of every request: functions of the user's own, each given the report."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tersely.report import Report

Listener = Callable[[Report], None]

told = logging.getLogger("tersely.listeners")

_listeners: tuple[Listener, ...] = ()


def listen(listener: Listener) -> Callable[[], None]:
    """Call a function with the report of every request from now on; call what comes back to stop.

    It is called in the thread that compressed, in the context of the caller. What it raises is
    logged and stops no request.
    """
    global _listeners
    _listeners = (*_listeners, listener)

    def stop() -> None:
        global _listeners
        _listeners = tuple(one for one in _listeners if one is not listener)

    return stop


def tell(report: Report) -> None:
    """Give a report to all who listen."""
    for listener in _listeners:
        try:
            listener(report)
        except Exception as error:
            told.warning("a listener failed: %s: %s", type(error).__name__, error)
