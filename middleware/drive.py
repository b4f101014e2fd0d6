"""Carry out plans: the only place where their steps meet a backend, sync or async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing

from tersely.contracts import Backend, Chunk, Completion, Mixing
from tersely.errors import ConfigError, StageError
from tersely.middleware.branches import Branches, LoopedBranches
from tersely.middleware.listening import Hearing
from tersely.plans import Drop, Event, Fork, Hear, Listen, Mix, Reply, Search, Step, Steps
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
    with closing(steps), closing(_Driver(backend, searcher)) as driver:
        try:
            step = next(steps)
            while True:
                try:
                    reply = yield from driver.done(step)
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
        async with aclosing(_AsyncDriver(backend, searcher)) as driver:
            try:
                step = next(steps)
                while True:
                    try:
                        async with aclosing(driver.shown(step)) as chunks:
                            async for chunk in chunks:
                                yield chunk
                        reply = driver.heard or await driver.called(step)
                    except Exception as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(reply)
            except StopIteration as done:
                yield Chunk(text="", completion=done.value)


class _Driver:
    """Does what a plan wants done. Closing it breaks off whatever is under way."""

    def __init__(self, backend: Backend, searcher: Searcher | None) -> None:
        self._backend, self._searcher = backend, searcher
        self._branches: LoopedBranches | None = None

    def done(self, step: Step) -> Generator[Chunk, None, Reply]:
        match step:
            case Chunk():
                yield step
                return None
            case Listen():
                return (yield from self._listened(step))
            case Mix():
                return _mixing(self._backend).mix(step.requests, step.weights)
            case Search():
                return _given(self._searcher).search(step.question, step.k)
            case Fork():
                self._branches = self._branches or LoopedBranches(self._backend)
                self._branches.start(step)
                return None
            case Drop():
                if self._branches:
                    self._branches.drop(step.branch)
                return None
            case Hear():
                return self._branches.hear(step.deadline) if self._branches else Event()
            case _:
                return self._backend.complete(step)

    def close(self) -> None:
        if self._branches:
            self._branches.close()

    def _listened(self, step: Listen) -> Generator[Chunk, None, Completion]:
        heard = Hearing(step.until)
        chunks = self._backend.stream(step.request)
        try:
            for chunk in chunks:
                enough = heard.add(chunk)
                if step.aloud and chunk.text:
                    yield Chunk(text=chunk.text)
                if enough:
                    break
        finally:
            if isinstance(chunks, Generator):  # so that no token more is made
                chunks.close()
        return heard.completion


class _AsyncDriver:
    """Does what a plan wants done without blocking; as `_Driver`."""

    def __init__(self, backend: Backend, searcher: Searcher | None) -> None:
        self._backend, self._searcher = backend, searcher
        self._branches = Branches(backend)
        self.heard: Completion | None = None

    async def shown(self, step: Step) -> AsyncGenerator[Chunk, None]:
        """What the caller sees of a step. What was listened to is left in `heard`."""
        self.heard = None
        if isinstance(step, Chunk):
            yield step
        if not isinstance(step, Listen):
            return
        heard = Hearing(step.until)
        chunks = self._backend.astream(step.request)
        try:
            async for chunk in chunks:
                enough = heard.add(chunk)
                if step.aloud and chunk.text:
                    yield Chunk(text=chunk.text)
                if enough:
                    break
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        self.heard = heard.completion

    async def called(self, step: Step) -> Reply:
        """Do what needs no listening."""
        match step:
            case Chunk() | Listen():
                return None
            case Mix():
                mixing = _mixing(self._backend)
                return await asyncio.to_thread(mixing.mix, step.requests, step.weights)
            case Search():
                return await _given(self._searcher).asearch(step.question, step.k)
            case Fork():
                await self._branches.start(step)
                return None
            case Drop():
                await self._branches.drop(step.branch)
                return None
            case Hear():
                return await self._branches.hear(step.deadline)
            case _:
                return await self._backend.acomplete(step)

    async def aclose(self) -> None:
        await self._branches.aclose()


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
