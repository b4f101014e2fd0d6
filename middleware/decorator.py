"""`@tersely.optimize`: a function that makes prompts, and makes them shorter."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from tersely.budget import BudgetLike
from tersely.contracts import Stage
from tersely.errors import ConfigError, UnknownName
from tersely.middleware import desk
from tersely.middleware.pipeline import Pipeline, pipeline_of
from tersely.middleware.promptcall import Call, Treatment
from tersely.report import Mode, Report

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


class Settings(TypedDict, total=False):
    """How `optimize` treats a function's prompts.

    `budget` is what a prompt may cost. `context` names the parameters that hold documents, and
    `query` the one that holds the question. `pipeline` is a pipeline, its name, a stage or a YAML
    file; `model` says who will read the prompts, `mode` and `strict` are the pipeline's. What is
    left out is as the pipeline has it.
    """

    budget: BudgetLike
    context: str | Sequence[str]
    query: str | None
    pipeline: Pipeline | str | Stage | Sequence[Any] | Path
    model: str | None
    mode: Mode | None
    strict: bool | None


class Optimized(Generic[P, R]):
    """A prompt function whose prompts are compressed. Made by `optimize`.

    It has the signature, the names and the kind (async, generator) of the function it was made
    from, and binds to instances and classes as that one does.
    """

    __wrapped__: Callable[P, R]

    def __init__(self, function: Callable[P, R], treatment: Treatment) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self._treatment = treatment

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's prompt with fewer tokens."""
        call = Call(self._treatment)
        made: R = _way_of(self.__wrapped__)(self.__wrapped__, call, args, kwargs)
        return made

    def raw(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's own prompt, as if it were not decorated."""
        return self.__wrapped__(*args, **kwargs)

    @property
    def report(self) -> Report | None:
        """The report of this function's latest call in this thread or asyncio task."""
        return self._treatment.latest.read()

    @overload  # class methods, through the class or an instance
    def __get__(
        self: Optimized[Concatenate[type[S], Q], R], instance: S | None, owner: type[S], /
    ) -> Optimized[Q, R]: ...
    @overload  # anything else through the class
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...
    @overload  # methods
    def __get__(
        self: Optimized[Concatenate[S, Q], R], instance: S, owner: type | None = None, /
    ) -> Optimized[Q, R]: ...
    @overload  # static methods through an instance
    def __get__(self, instance: object, owner: type | None = None, /) -> Self: ...
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        """The function bound as Python binds it; reports are kept for all instances together."""
        function: Any = self.__wrapped__
        if not hasattr(type(function), "__get__"):
            return self
        bound = function.__get__(instance, owner)
        return self if bound is function else Optimized(bound, self._treatment)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickled by name, as functions are."""
        bound = inspect.ismethod(self.__wrapped__)
        return (getattr, (self.__self__, self.__name__)) if bound else self.__qualname__

    def __repr__(self) -> str:
        return f"<optimized {self.__wrapped__!r}>"

    if not TYPE_CHECKING:  # a checker would believe every name

        def __getattr__(self, name: str) -> Any:
            if name == "__wrapped__":
                raise AttributeError(name)
            return getattr(self.__wrapped__, name)
    else:
        __name__: str
        __qualname__: str
        __self__: object


@overload
def optimize(function: Callable[P, R], /) -> Optimized[P, R]: ...
@overload
def optimize(
    **settings: Unpack[Settings],
) -> Callable[[Callable[P, R]], Optimized[P, R]]: ...
def optimize(function: Any = None, /, **settings: Any) -> Any:
    """Compress the prompts that a function makes: a text, messages, or a request.

    Works with and without parentheses, on plain and async functions, on generators of either
    kind (each prompt they yield), and on methods; put it above `@classmethod` and
    `@staticmethod`. `raw(...)` calls the function as it was, `report` is the account of its latest
    call. A return value that is no prompt passes through, with the reason in the report.

    Parameters named by `context` (a text, a list of texts or of documents) are compressed before
    the function runs, with the question from `query` in mind. A ratio is spent on them alone. A
    budget of tokens holds for them first and then for the whole prompt: when that is still over,
    what is found in it of these arguments, word for word, shrinks further (the whole prompt, where
    nothing is found).

    An async function's prompts are compressed in a worker thread. See Settings for what can be
    set. Raises ConfigError for a setting that can't work or a name that is no parameter.
    """
    if function is not None and not callable(function) and not isinstance(function, classmethod):
        raise ConfigError(f"optimize takes a function, was given {function!r}")
    treatment = _treatment(**settings)

    def decorate(function: Any) -> Any:
        treatment.check(getattr(function, "__func__", function))
        return Optimized(function, treatment)

    return decorate if function is None else decorate(function)


def _treatment(**settings: Any) -> Treatment:
    """Read the settings. Raises ConfigError with the value and the mend."""
    for name in settings:
        if name not in Settings.__annotations__:
            raise UnknownName("setting of optimize", name, Settings.__annotations__)
    given = {name: value for name, value in settings.items() if value is not None}
    context, query = given.pop("context", ()), given.pop("query", None)
    pipeline = pipeline_of(given.pop("pipeline", "default"))
    if given:
        pipeline = pipeline.but(**given)
    names = (context,) if isinstance(context, str) else tuple(context)
    return Treatment(pipeline=pipeline, context=names, query=query)


def _plain(function: Any, call: Call, args: Any, kwargs: Any) -> Any:
    args, kwargs = call.before(function, args, kwargs)
    return call.after(function(*args, **kwargs))


async def _awaited(function: Any, call: Call, args: Any, kwargs: Any) -> Any:
    args, kwargs = await _aside(call, call.before, function, args, kwargs)
    return await _aside(call, call.after, await function(*args, **kwargs))


def _yielded(function: Any, call: Call, args: Any, kwargs: Any) -> Generator[Any, Any, Any]:
    args, kwargs = call.before(function, args, kwargs)
    with closing(function(*args, **kwargs)) as source:
        step, sent = source.send, None
        while True:
            try:
                made = call.after(step(sent))
            except StopIteration as end:
                return end.value
            try:
                step, sent = source.send, (yield made)
            except Exception as error:
                step, sent = source.throw, error


async def _yielded_async(
    function: Any, call: Call, args: Any, kwargs: Any
) -> AsyncGenerator[Any, Any]:
    args, kwargs = await _aside(call, call.before, function, args, kwargs)
    async with aclosing(function(*args, **kwargs)) as source:
        step, sent = source.asend, None
        while True:
            try:
                made = await step(sent)
            except StopAsyncIteration:
                return
            made = await _aside(call, call.after, made)
            try:
                step, sent = source.asend, (yield made)
            except Exception as error:
                step, sent = source.athrow, error


async def _aside(call: Call, work: Callable[..., Any], *args: Any) -> Any:
    """Work in another thread, so that the event loop goes on; the report is this task's."""
    desk.here()
    done = await asyncio.to_thread(work, *args)
    call.tell()
    return done


_WAYS: tuple[tuple[Callable[[Any], bool], Callable[..., Any]], ...] = (
    (inspect.iscoroutinefunction, _awaited),
    (inspect.isgeneratorfunction, _yielded),
    (inspect.isasyncgenfunction, _yielded_async),
)


def _way_of(function: Any) -> Callable[..., Any]:
    """How a function of its kind is called."""
    call = getattr(function, "__call__", None)  # noqa: B004 - of an object that is callable
    return next((way for is_so, way in _WAYS if is_so(function) or is_so(call)), _plain)
