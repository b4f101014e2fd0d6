"""LiteLLM's functions, with compressed prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from tersely.middleware.passage import Result
from tersely.middleware.wrapping import Wrapping, asked_of

C = TypeVar("C")

FIRST = {
    "completion": ("model", "messages"),
    "acompletion": ("model", "messages"),
    "responses": ("input", "model"),
    "aresponses": ("input", "model"),
}
"""The functions that can be wrapped, and what their first arguments are."""

SURFACES = {
    "completion": "openai-chat",
    "acompletion": "openai-chat",
    "responses": "openai-responses",
    "aresponses": "openai-responses",
    "anthropic_messages": "anthropic",
}
"""Who reads the prompt of each kind of call."""

HELD = {
    "openai-chat": ("messages",),
    "openai-responses": ("input", "instructions"),
    "anthropic": ("tools", "system", "messages"),
}
"""Where a prompt lies in a call."""

_sent: ContextVar[Mapping[str, Any] | None] = ContextVar("tersely_litellm", default=None)


def fits(function: object) -> bool:
    """Whether this is a function of LiteLLM, or of a router of its, that can be wrapped."""
    package = str(getattr(function, "__module__", "")).partition(".")[0]
    named = getattr(function, "__name__", "") in FIRST
    return package == "litellm" and named and callable(function)


def dress(function: C, wrapping: Wrapping) -> C:
    """A function that compresses as the wrapping says, then calls the given one."""
    own: Any = getattr(function, "_tersely_plain", function)
    made = _awaited(own, wrapping) if iscoroutinefunction(own) else _direct(own, wrapping)
    made._tersely_plain = own
    cast: C = made
    return cast


def _direct(own: Callable[..., Any], wrapping: Wrapping) -> Any:
    @wraps(own)
    def call(*args: Any, **kwargs: Any) -> Any:
        one = _Call(own.__name__, args, kwargs)
        wishes = wrapping.wishes(one.asked)
        one.take(wrapping.run(one.body, wishes, surface=one.surface, model=one.model))
        with sending(one.surface, one.body):
            return own(*one.args, **one.kwargs)

    return call


def _awaited(own: Callable[..., Any], wrapping: Wrapping) -> Any:
    @wraps(own)
    async def call(*args: Any, **kwargs: Any) -> Any:
        one = _Call(own.__name__, args, kwargs)
        wishes = wrapping.wishes(one.asked)
        one.take(await wrapping.arun(one.body, wishes, surface=one.surface, model=one.model))
        with sending(one.surface, one.body):
            return await own(*one.args, **one.kwargs)

    return call


class _Call:
    """One call of a function, with its arguments by name, and what to call it with instead."""

    def __init__(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args, self.kwargs = list(args), dict(kwargs)
        self.asked = asked_of(self.kwargs)
        self.surface = SURFACES[name]
        self.first = FIRST[name]
        self.body = {**dict(zip(self.first, args, strict=False)), **self.kwargs}
        self.model = str(self.body.get("model") or "")

    def take(self, result: Result) -> None:
        """Put what a run gave in the place of what was given."""
        for name, value in changed(self.surface, self.body, result).items():
            self.body[name] = value
            at = self.first.index(name) if name in self.first else len(self.args)
            if at < len(self.args):
                self.args[at] = value
            else:
                self.kwargs[name] = value


def changed(surface: str, given: Mapping[str, Any], result: Result) -> dict[str, Any]:
    """The fields of a call that are another after a run."""
    made: Mapping[str, Any] = result.output
    held = {name: made[name] for name in HELD[surface] if name in made}
    return {name: value for name, value in held.items() if value is not given.get(name)}


@contextmanager
def sending(surface: str, call: Mapping[str, Any]) -> Iterator[None]:
    """Inside the `with`, a callback knows that the prompt of this call was seen to."""
    token = _sent.set(_prompt(surface, call))
    try:
        yield
    finally:
        _sent.reset(token)


def will_send(surface: str, call: Mapping[str, Any]) -> None:
    """From now on, a callback of this task knows that the prompt of this call was seen to."""
    _sent.set(_prompt(surface, call))


def was_sent(surface: str, call: Mapping[str, Any]) -> bool:
    """Whether the prompt of a call was seen to before: LiteLLM tells of one call twice."""
    return _sent.get() == _prompt(surface, call)


def _prompt(surface: str, call: Mapping[str, Any]) -> dict[str, Any]:
    return {name: call[name] for name in HELD[surface] if name in call}
