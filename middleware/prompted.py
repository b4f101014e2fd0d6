"""A function that makes a prompt, as one that gives the answer to it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tersely.errors import ConfigError


def asked_by(model: Any, what: Any) -> Any:
    """Ask a model; or, given a function that makes a prompt, one that gives its answer's text.

    The function may be async, and may be decorated by `tersely.optimize`. Raises ConfigError for
    one that yields.
    """
    if not callable(what):
        return model.invoke(what)
    inner = inspect.unwrap(what)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise ConfigError(f"a function that gives one prompt is asked for, was {what!r}")
    return _awaited(model, what) if inspect.iscoroutinefunction(inner) else _plain(model, what)


def _plain(model: Any, function: Callable[..., Any]) -> Callable[..., str]:
    @functools.wraps(function)
    def answered(*args: Any, **kwargs: Any) -> str:
        return str(model.invoke(function(*args, **kwargs)).text)

    return answered


def _awaited(model: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def answered(*args: Any, **kwargs: Any) -> str:
        return str((await model.ainvoke(await function(*args, **kwargs))).text)

    return answered
