"""LangChain chat models that compress what they are asked.

A wrapped model is a copy of a model, of a subclass of the model's own type whose `_generate`,
`_stream` and their async twins compress the messages first. Whatever is built on top (batch,
bind_tools, structured output, retries, sequences) goes through these.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from inspect import iscoroutinefunction
from types import new_class
from typing import Any, TypeVar

from pydantic import PrivateAttr

from tersely.middleware import desk
from tersely.middleware import points_langchain as points
from tersely.middleware.points import untouched
from tersely.middleware.prompted import asked_by
from tersely.middleware.scope import Override
from tersely.middleware.wrapping import Wrapping, asked_of

C = TypeVar("C")

SURFACE = "langchain"

Method = Callable[..., Any]


def fits(model: object) -> bool:
    """Whether this is a chat model that can be wrapped."""
    loaded = sys.modules.get("langchain_core.language_models.chat_models")
    return loaded is not None and isinstance(model, loaded.BaseChatModel)


def dress(model: C, wrapping: Wrapping) -> C:
    """A copy of a model that compresses as the wrapping says."""
    return _as(model, dressed(_base(model)), {"_tersely": wrapping})


def undressed(model: C) -> C:
    """A copy of a model that is of its own type again."""
    return _as(model, _base(model), {})


def _as(model: C, kind: type[Any], ours: dict[str, Any]) -> C:
    """A copy of a model as another type that has the same fields, with our attributes."""
    made: Any = copy.copy(model)
    kept = {k: v for k, v in (made.__pydantic_private__ or {}).items() if k != "_tersely"}
    object.__setattr__(made, "__class__", kind)
    object.__setattr__(made, "__pydantic_private__", (kept | ours) or None)
    cast: C = made
    return cast


def _base(model: object) -> Any:
    base: Any = getattr(type(model), "_tersely_base", type(model))
    return base


@cache
def dressed(base: Any) -> Any:
    """The subclass of a model's type that compresses. Its name stays: LangChain's ids tell it.

    What the type itself does not do stays undone, since LangChain looks at that before it
    decides to stream.
    """
    from langchain_core.language_models import BaseChatModel

    body: dict[str, Any] = {}
    for name, around in HOOKS.items():
        own = getattr(base, name, None)
        if own is not None and own is not getattr(BaseChatModel, name, None):
            body[name] = around(own)
    body["_agenerate"] = _agenerating(base._agenerate)
    body |= {
        name: _told_to_caller(base, name) for name in ("ainvoke", "abatch", "astream", "batch")
    }
    body |= {"configurable_fields": _configurable(base), "__reduce_ex__": _reduced}
    body["__call__"] = asked_by
    made = _named(base, base, body | {"_tersely": PrivateAttr()})
    made._tersely_base = base
    return made


def _named(base: Any, parent: Any, body: dict[str, Any]) -> Any:
    """A subclass that goes by the name of the model's own type."""
    body |= {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    return new_class(base.__name__, (parent,), exec_body=lambda space: space.update(body))


def _configurable(base: Any) -> Method:
    @wraps(base.configurable_fields)
    def configurable_fields(self: Any, **fields: Any) -> Any:
        # LangChain will make such a model anew from its type, which has to know the settings
        kind = _named(base, dressed(base), {"_tersely": PrivateAttr(default=self._tersely)})
        return base.configurable_fields(_as(self, kind, {"_tersely": self._tersely}), **fields)

    return configurable_fields


def _reduced(model: Any, protocol: int) -> tuple[Any, ...]:
    """Pickle by the model's own type: ours can't be imported."""
    return dress, (undressed(model), model._tersely)


_inside: ContextVar[object] = ContextVar("tersely_model", default=None)
"""The model that works on messages which are compressed already."""


@contextmanager
def working(model: object) -> Iterator[None]:
    """Inside the `with`, what the model is asked goes out as it is."""
    token = _inside.set(model)
    try:
        yield
    finally:
        _inside.reset(token)


def _generating(own: Method) -> Method:
    @wraps(own)
    def _generate(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        messages, wishes = _compressed(self, messages, kwargs)
        turn = _turn(self, messages, wishes, args, kwargs, blocking=True)
        if turn and (result := points.answered(turn)):
            return result
        with working(self):
            return own(self, messages, *args, **kwargs)

    return _generate


def _agenerating(own: Method) -> Method:
    @wraps(own)
    async def _agenerate(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        messages, wishes = await _acompressed(self, messages, kwargs)
        turn = _turn(self, messages, wishes, args, kwargs)
        if turn and (result := await points.aanswered(turn)):
            return result
        with working(self):
            return await own(self, messages, *args, **kwargs)

    return _agenerate


def _streaming(own: Method) -> Method:
    @wraps(own)
    def _stream(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        messages, wishes = _compressed(self, messages, kwargs)
        turn = _turn(self, messages, wishes, args, kwargs, name=own.__name__, blocking=True)
        if turn and (yield from points.streamed(turn)):
            return
        with closing(_each(own(self, messages, *args, **kwargs))) as chunks:
            while True:
                # only while the model itself runs: between chunks its caller may use it anew
                with working(self):
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                yield chunk

    return _stream


def _each(chunks: Iterable[Any]) -> Generator[Any, None, None]:
    """Chunks of any kind of iterable, as something that can be closed."""
    yield from chunks


def _astreaming(own: Method) -> Method:
    @wraps(own)
    async def _astream(self: Any, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        messages, wishes = await _acompressed(self, messages, kwargs)
        if turn := _turn(self, messages, wishes, args, kwargs, name=own.__name__):
            done = False
            async with aclosing(points.astreamed(turn)) as made:
                async for piece in made:
                    done = True
                    yield piece
            if done:
                return
        async with aclosing(own(self, messages, *args, **kwargs)) as chunks:
            while True:
                with working(self):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk

    return _astream


HOOKS: dict[str, Callable[[Method], Method]] = {
    "_generate": _generating,
    "_stream": _streaming,
    "_astream": _astreaming,
    "_stream_chat_model_events": _streaming,
    "_astream_chat_model_events": _astreaming,
}
"""Where messages reach a model, and how each is preceded by compressing."""


def _told_to_caller(base: Any, name: str) -> property:
    """A method whose reports reach whoever looks it up.

    Sequences look up a step's method and run it in a task with a context of its own; by then it
    is too late to know who asked.
    """

    def method(self: Any) -> Method:
        desk_here = desk.here()
        own: Method = getattr(super(dressed(base), self), name)
        if not iscoroutinefunction(own):
            return own

        @wraps(own)
        async def call(*args: Any, **kwargs: Any) -> Any:
            desk.start_from(desk_here)
            return await own(*args, **kwargs)

        return call

    return property(method)


def _compressed(model: Any, messages: Any, kwargs: dict[str, Any]) -> tuple[Any, Override | None]:
    """The messages to send instead, and what holds for this call (None: it was seen to before).

    What the caller asks of us leaves `kwargs`.
    """
    asked = asked_of(kwargs)
    if _inside.get() is model:
        return messages, None
    wrapping: Wrapping = model._tersely
    wishes = wrapping.wishes(asked)
    return wrapping.run(messages, wishes, surface=SURFACE, model=model_name(model)).output, wishes


async def _acompressed(
    model: Any, messages: Any, kwargs: dict[str, Any]
) -> tuple[Any, Override | None]:
    asked = asked_of(kwargs)
    if _inside.get() is model:
        return messages, None
    wrapping: Wrapping = model._tersely
    wishes = wrapping.wishes(asked)
    result = await wrapping.arun(messages, wishes, surface=SURFACE, model=model_name(model))
    return result.output, wishes


def _turn(
    model: Any,
    messages: Any,
    wishes: Override | None,
    args: tuple[Any, ...],
    kwargs: Any,
    *,
    name: str = "",
    blocking: bool = False,
) -> points.Turn | None:
    """The call as a plan may answer it; None where no plan is wished for, or none can."""
    if wishes is None or wishes.sot is None:
        return None
    if name.endswith("_events"):
        untouched("a stream of events is wanted, and a plan has none")
        return None
    stop = args[0] if args else kwargs.get("stop")
    settings = {k: v for k, v in kwargs.items() if k not in ("stop", "run_manager")}
    return points.Turn(
        plain=undressed(model),
        points=wishes.sot,
        model=model_name(model),
        messages=messages,
        stop=stop,
        settings=settings,
        blocking=blocking,
    )


def model_name(model: Any) -> str:
    """The name of the model that reads the prompt, as far as the wrapper tells it."""
    names = (getattr(model, attribute, None) for attribute in ("model_name", "model", "model_id"))
    return next((name for name in names if isinstance(name, str)), "")
