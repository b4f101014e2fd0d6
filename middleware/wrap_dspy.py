"""DSPy's language models that compress what they are asked.

A wrapped model is a copy of a model, of a subclass of the model's own type whose `__call__` and
`acall` compress first. Programs, adapters and optimizers go through these, and DSPy's cache and
history see what was sent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, wraps
from types import new_class
from typing import Any, TypeVar

from tersely.middleware.adapter_dspy import READER, closed, opened
from tersely.middleware.passage import Result
from tersely.middleware.scope import Override
from tersely.middleware.wrapping import Wrapping, asked_of

C = TypeVar("C")

SAME = ("__module__", "__qualname__", "__doc__")


def fits(model: object) -> bool:
    """Whether this is a language model of DSPy."""
    loaded = sys.modules.get("dspy.clients.base_lm")
    return loaded is not None and isinstance(model, loaded.BaseLM)


def dress(model: C, wrapping: Wrapping) -> C:
    """A copy of a model that compresses as the wrapping says."""
    made: Any = undressed(model)
    kind: Any = type(made)
    made.__class__ = dressed(kind)
    made.__dict__["_tersely"] = wrapping
    dressed_model: C = made
    return dressed_model


def undressed(model: C) -> C:
    """A copy of a model that is of its own type again."""
    base = getattr(type(model), "_tersely_base", type(model))
    plain: Any = object.__new__(base)
    plain.__dict__.update(model.__dict__)
    plain.__dict__.pop("_tersely", None)
    copied: C = plain.copy()
    return copied


@cache
def dressed(base: Any) -> Any:
    """The subclass of a model's type that compresses. Its name stays: saved programs tell it."""

    @wraps(base.__call__)
    def call(self: Any, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        one = _Call(self, prompt, messages, kwargs)
        if one.request is not None:
            one.take(self._tersely.run(one.request, one.wishes, **one.how))
        with one.owned():
            return base.__call__(self, one.prompt, messages=one.messages, **one.kwargs)

    @wraps(base.acall)
    async def acall(self: Any, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        one = _Call(self, prompt, messages, kwargs)
        if one.request is not None:
            one.take(await self._tersely.arun(one.request, one.wishes, **one.how))
        with one.owned():
            return await base.acall(self, one.prompt, messages=one.messages, **one.kwargs)

    body: dict[str, Any] = {name: getattr(base, name) for name in SAME}
    body |= {"__call__": call, "acall": acall, "__reduce_ex__": _reduced}
    body["_tersely_base"] = base
    return new_class(base.__name__, (base,), exec_body=lambda space: space.update(body))


def _reduced(model: Any, protocol: int) -> tuple[Any, ...]:
    """Pickle by the model's own type: ours can't be imported."""
    return dress, (undressed(model), model._tersely)


class _Call:
    """One call of a model: what is asked, and how it is read and put back."""

    def __init__(self, model: Any, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> None:
        self.model, self.prompt, self.messages = model, prompt, messages
        self.kwargs = dict(kwargs)
        wrapping: Wrapping = model._tersely
        self.wishes: Override = wrapping.wishes(asked_of(self.kwargs))
        self.given = messages
        self.request = self._request()
        self.how: dict[str, Any] = {"surface": READER, "model": str(getattr(model, "model", ""))}

    def _request(self) -> Any:
        """What is to be compressed; None when nothing is asked in a way that is known."""
        if isinstance(self.messages, list):
            return opened(self.messages)
        if isinstance(self.prompt, str):
            return opened([{"role": "user", "content": self.prompt}])
        return self.kwargs.get("request", self.prompt)

    def take(self, result: Result) -> None:
        """Put what a run gave in the place of what was asked."""
        if result.output is self.request:
            return
        if isinstance(self.messages, list):
            self.messages = closed(result.output)
        elif isinstance(self.prompt, str):
            self.prompt = closed(result.output)[0]["content"]
        elif "request" in self.kwargs:
            self.kwargs["request"] = result.output
        else:
            self.prompt = result.output

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Have DSPy know messages of an adapter as that adapter's own, though they are others.

        It warns of messages that come from elsewhere (DSPy 3.4).
        """
        marker = sys.modules.get("dspy.clients._deprecation")
        origin = getattr(marker, "_adapter_call", None)
        owner = origin.get() if origin is not None else None
        if origin is None or owner is None or owner[1] is not self.given:
            yield
            return
        token = origin.set((self.model, self.messages))
        try:
            yield
        finally:
            origin.reset(token)
