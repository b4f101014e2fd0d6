"""Requests that are answered side by side while a plan listens to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextvars import copy_context
from threading import Thread
from time import monotonic
from typing import Any, TypeVar

from tersely.contracts import Backend, Chunk, Completion
from tersely.errors import BackendError, ConfigError
from tersely.middleware.listening import Hearing
from tersely.plans import Event, Fork

T = TypeVar("T")

GRACE = 2.0
"""Seconds that a backend has for letting go of an answer that was broken off."""


class Branches:
    """The branches of one plan, in one event loop. Closing it breaks all of them off."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._running: dict[int, asyncio.Task[None]] = {}
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def start(self, fork: Fork) -> None:
        """Begin to ask. Raises ConfigError when the name is taken."""
        if fork.branch in self._running:
            raise ConfigError(f"branch {fork.branch} is under way: give each one its own number")
        self._running[fork.branch] = asyncio.ensure_future(self._asked(fork))
        await asyncio.sleep(0)  # it has been asked when the plan goes on

    async def drop(self, branch: int) -> None:
        """Break one off, and wait until it has let go of its backend."""
        if task := self._running.pop(branch, None):
            await _ended(task)

    async def hear(self, deadline: float | None) -> Event:
        """The next event of a branch that was not dropped."""
        while self._running:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:  # though there be more to hear
                return Event()
            try:
                event = await asyncio.wait_for(self._events.get(), left)
            except TimeoutError:
                return Event()
            if event.branch in self._running:
                if event.completion is not None or event.error is not None:
                    await asyncio.gather(self._running.pop(event.branch), return_exceptions=True)
                return event
        return Event()

    async def aclose(self) -> None:
        for branch in list(self._running):
            await self.drop(branch)

    async def _asked(self, fork: Fork) -> None:
        """One branch from its beginning to its end; what it raises is an event."""
        heard = Hearing(fork.until)
        chunks: AsyncIterator[Chunk] | None = None
        try:
            chunks = self._backend.astream(fork.request)
            async for chunk in chunks:
                enough = heard.add(chunk)
                if chunk.text:
                    self._events.put_nowait(Event(branch=fork.branch, text=chunk.text))
                if enough:
                    break
            self._end(fork, heard.completion)
        except Exception as error:
            self._events.put_nowait(Event(branch=fork.branch, error=error))
        except asyncio.CancelledError:
            if fork.branch not in self._running:  # it was dropped
                raise
            gone = BackendError("the backend cancelled the answer", retryable=True)
            self._events.put_nowait(Event(branch=fork.branch, error=gone))
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    def _end(self, fork: Fork, completion: Completion) -> None:
        self._events.put_nowait(Event(branch=fork.branch, completion=completion))


class LoopedBranches:
    """The same for a caller without an event loop: one runs in a thread of its own."""

    def __init__(self, backend: Backend) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True, name="tersely-branches")
        self._thread.start()
        self._branches = self._run(_made(backend))

    def start(self, fork: Fork) -> None:
        self._run(self._branches.start(fork))

    def drop(self, branch: int) -> None:
        self._run(self._branches.drop(branch))

    def hear(self, deadline: float | None) -> Event:
        return self._run(self._branches.hear(deadline))

    def close(self) -> None:
        """Break all branches off, and end the thread."""
        self._run(self._branches.aclose())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop, in the caller's context, and wait for it."""
        return copy_context().run(asyncio.run_coroutine_threadsafe, work, self._loop).result()


async def _made(backend: Backend) -> Branches:
    return Branches(backend)


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end, but no longer than is decent."""
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE)
