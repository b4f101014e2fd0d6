"""Carry out plans: the only place where their steps meet a backend, sync or async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field

from tersely.contracts import Backend, Chunk, Completion, Mixing, Request
from tersely.errors import ConfigError, StageError
from tersely.plans import Listen, Mix, Reply, Search, Step, Steps
from tersely.retrieval import Searcher


def drive(steps: Steps, backend: Backend, searcher: Searcher | None = None) -> Completion:
    """Carry out a plan and return its answer.

    An error of the backend or the searcher is raised inside the plan, at the step that asked, so
    that the plan may go on without; what it does not handle is raised here. The plan is closed in
    any case.
    """
    return _last([*stream(steps, backend, searcher)])


async def adrive(steps: Steps, backend: Backend, searcher: Searcher | None = None) -> Completion:
    """Carry out a plan without blocking; as `drive`. Cancelling closes the plan."""
    async with aclosing(astream(steps, backend, searcher)) as chunks:
        return _last([chunk async for chunk in chunks])


def stream(
    steps: Steps, backend: Backend, searcher: Searcher | None = None
) -> Generator[Chunk, None, None]:
    """Carry out a plan and show what it says as it comes; as `drive`.

    The last chunk carries the answer.
    """
    with closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    reply = yield from _carried_out(step, backend, searcher)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as done:
            yield Chunk(text="", completion=done.value)


async def astream(
    steps: Steps, backend: Backend, searcher: Searcher | None = None
) -> AsyncGenerator[Chunk, None]:
    """Carry out a plan without blocking; as `stream`. Cancelling closes the plan."""
    with closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    reply: Reply = None
                    if isinstance(step, Chunk):
                        yield step
                    elif isinstance(step, Listen):
                        heard = _Heard(step)
                        async with aclosing(_alistened(heard, backend)) as chunks:
                            async for chunk in chunks:
                                yield chunk
                        reply = heard.completion
                    else:
                        reply = await _acalled(step, backend, searcher)
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as done:
            yield Chunk(text="", completion=done.value)


@dataclass(slots=True)
class _Heard:
    """What was heard of an answer so far."""

    step: Listen
    texts: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    whole: Completion | None = None

    def add(self, chunk: Chunk) -> bool:
        """Add a piece; whether that is enough."""
        self.texts.append(chunk.text)
        self.tokens += chunk.tokens
        self.logprobs += chunk.logprobs
        self.whole = chunk.completion
        return self.step.until is not None and self.step.until("".join(self.texts))

    def shown(self, chunk: Chunk) -> bool:
        return self.step.aloud and bool(chunk.text)

    @property
    def completion(self) -> Completion:
        """The answer as it came, or as far as it came."""
        return self.whole or Completion(
            text="".join(self.texts),
            completion_tokens=len(self.tokens),
            finish_reason="cancelled",
            logprobs=tuple(self.logprobs),
            tokens=tuple(self.tokens),
        )


def _carried_out(
    step: Step, backend: Backend, searcher: Searcher | None
) -> Generator[Chunk, None, Reply]:
    """Do what a plan wants done."""
    match step:
        case Chunk():
            yield step
            return None
        case Listen():
            return (yield from _listened(step, backend))
        case Mix():
            return _mixing(backend).mix(step.requests, step.weights)
        case Search():
            return _given(searcher).search(step.question, step.k)
        case _:
            return backend.complete(step)


def _listened(step: Listen, backend: Backend) -> Generator[Chunk, None, Completion]:
    heard = _Heard(step)
    chunks = backend.stream(step.request)
    try:
        for chunk in chunks:
            enough = heard.add(chunk)
            if heard.shown(chunk):
                yield Chunk(text=chunk.text)
            if enough:
                break
    finally:
        if isinstance(chunks, Generator):  # so that no token more is made
            chunks.close()
    return heard.completion


async def _alistened(heard: _Heard, backend: Backend) -> AsyncGenerator[Chunk, None]:
    """As `_listened`; the answer is left in `heard`."""
    chunks = backend.astream(heard.step.request)
    try:
        async for chunk in chunks:
            enough = heard.add(chunk)
            if heard.shown(chunk):
                yield Chunk(text=chunk.text)
            if enough:
                break
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def _acalled(
    step: Sequence[Request] | Mix | Search, backend: Backend, searcher: Searcher | None
) -> Reply:
    """Do what needs no listening."""
    match step:
        case Mix():
            return await asyncio.to_thread(_mixing(backend).mix, step.requests, step.weights)
        case Search():
            return await _given(searcher).asearch(step.question, step.k)
        case _:
            return await backend.acomplete(step)


def _mixing(backend: Backend) -> Mixing:
    if not isinstance(backend, Mixing):
        raise ConfigError(f"{type(backend).__name__} can't mix answers: use the local backend")
    return backend


def _given(searcher: Searcher | None) -> Searcher:
    if searcher is None:
        raise ConfigError("the plan searches, and was given nothing to search in: pass a searcher")
    return searcher


def _last(chunks: Sequence[Chunk]) -> Completion:
    """The answer that the last chunk carries."""
    found = chunks[-1].completion
    if found is None:
        raise StageError("the plan ended without an answer")
    return found
