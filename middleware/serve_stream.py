"""Answers on their way to a client: events, signs of life, and what ends when it is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tersely.contracts import Backend, Chunk, Completion, Request
from tersely.errors import ContextLengthError
from tersely.middleware.serve_errors import Refused, refusal
from tersely.prompt import sendable

T = TypeVar("T")

Message = Any  # starlette's is a mutable mapping of anything
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

SHORTEST = 16
"""Tokens below which an answer whose length was left to the server is not shortened."""

AHEAD = 4
"""Pieces that are made before the client took the one before."""


class ClientGone(Exception):
    """The client closed its connection."""


async def heeded(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The outcome of some work, which is cancelled when the client goes. Raises ClientGone."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        await ended(task, gone)


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have let go of what they hold."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def heard(backend: Backend, request: Request) -> AsyncGenerator[Chunk, None]:
    """The pieces of an answer; the backend lets go of it in the end."""
    chunks: AsyncIterator[Chunk] = backend.astream(request)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


@dataclass(frozen=True, slots=True)
class Fitting:
    """A backend as it is asked by those who did not say how long the answer may be.

    Where a prompt leaves too little room, the answer may be half as long, or half of that.
    """

    backend: Backend

    async def whole(self, requests: Sequence[Request]) -> list[Completion]:
        while True:
            try:
                return await self.backend.acomplete(requests)
            except ContextLengthError:
                requests = [halved(request) for request in requests]
                if requests[0].max_tokens < SHORTEST:
                    raise

    async def pieces(self, request: Request) -> AsyncGenerator[Chunk, None]:
        begun = False
        while True:
            try:
                async with aclosing(heard(self.backend, request)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except ContextLengthError:
                request = halved(request)
                if begun or request.max_tokens < SHORTEST:
                    raise


def halved(request: Request) -> Request:
    """A request for half of the answer."""
    return replace(request, max_tokens=request.max_tokens // 2)


async def merged(
    streams: Sequence[AsyncGenerator[Chunk, None]],
) -> AsyncGenerator[tuple[int, Chunk], None]:
    """The pieces of several answers as they come, each with its number.

    What one of them raises is raised here, and ends the others.
    """
    if len(streams) == 1:
        async with aclosing(streams[0]) as chunks:
            async for chunk in chunks:
                yield 0, chunk
        return
    coming: asyncio.Queue[tuple[int, Chunk | Exception | None]] = asyncio.Queue(AHEAD)

    async def pass_on(index: int) -> None:
        try:
            async with aclosing(streams[index]) as chunks:
                async for chunk in chunks:
                    await coming.put((index, chunk))
            await coming.put((index, None))
        except Exception as error:
            await coming.put((index, error))

    tasks = [asyncio.ensure_future(pass_on(i)) for i in range(len(streams))]
    try:
        left = len(streams)
        while left:
            index, what = await coming.get()
            if isinstance(what, Exception):
                raise what
            if what is None:
                left -= 1
            else:
                yield index, what
    finally:
        await ended(*tasks)


@dataclass(slots=True)
class Events:
    """A response of server-sent events.

    Its status waits for the first event: what fails by then is an ordinary error. After `pause`
    seconds without an event a comment shows that the server lives. When the client goes, what
    makes the events is cancelled.
    """

    events: AsyncGenerator[dict[str, Any], None]
    pause: float
    headers: dict[str, str] = field(default_factory=dict)
    failed: Callable[[Exception], Refused] = refusal

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            await heeded(receive, self._sent(send))
        except ClientGone:
            return

    async def _sent(self, send: Send) -> None:
        begun = False
        try:
            async with aclosing(self._lines()) as lines:
                async for line in lines:
                    if not begun:
                        begun = True
                        await send(
                            start(200, {"content-type": "text/event-stream", **self.headers})
                        )
                    await send(part(line))
            await send(part(DONE, more=False))
        except Exception as error:
            told = self.failed(error)
            if begun:
                await send(part(event(told.body), more=False))
            else:
                await send_json(send, told.status, told.body, told.headers)

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        """The events as bytes, and comments where they are slow to come."""
        async with aclosing(self.events) as events:
            coming = asyncio.ensure_future(_next(events))
            try:
                while True:
                    done, _ = await asyncio.wait({coming}, timeout=self.pause)
                    if not done:
                        yield ALIVE
                    elif (made := coming.result()) is None:
                        return
                    else:
                        yield event(made)
                        coming = asyncio.ensure_future(_next(events))
            finally:
                await ended(coming)


async def _next(events: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any] | None:
    return await anext(events, None)


def event(value: Any) -> bytes:
    """A server-sent event that carries JSON."""
    return b"data: " + encoded(value) + b"\n\n"


def encoded(value: Any) -> bytes:
    """A value as JSON; what UTF-8 can't carry becomes a question mark."""
    return sendable(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode()


def start(status: int, headers: dict[str, str]) -> Message:
    """What opens a response."""
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def part(data: bytes, *, more: bool = True) -> Message:
    """A part of a response's body."""
    return {"type": "http.response.body", "body": data, "more_body": more}


async def send_json(send: Send, status: int, value: Any, headers: dict[str, str]) -> None:
    """Send a whole response."""
    data = encoded(value)
    told = {"content-type": "application/json", "content-length": str(len(data)), **headers}
    await send(start(status, told))
    await send(part(data, more=False))
