"""Answers of wrapped clients whose points are written side by side.

A wrapped client hands its requests, compressed and ready, to the HTTP client that it was made
with. A view of that one stands before it: it is of the same type and has the same state, and its
`send` answers a request that suits with bytes as the provider would have sent them, made from a
plan. The SDK reads them as it reads any others, so `create`, raw and streamed responses, helpers
and copies give the SDK's own objects, and what does not suit goes on untouched, byte for byte.
Overriding `create` instead would miss all other ways to call, and objects would have to be made
by hand for every version of the SDKs. The plan's calls go through the SDK again, by `request` of
the same client without the view: keys, headers, timeouts and retries are those of the caller.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from inspect import iscoroutinefunction
from time import monotonic
from types import new_class
from typing import Any

from tersely.contracts import Chunk
from tersely.middleware.drive import adrive, astream, drive, stream
from tersely.middleware.points import Beside, Points, Untouched, failed, untouched
from tersely.middleware.points_chat import Chat
from tersely.middleware.points_messages import Messages
from tersely.middleware.shape import Shape
from tersely.middleware.wrap_backend import SdkBackend
from tersely.middleware.wrap_call import Memo, under_way

SHAPES: Mapping[str, Shape] = {"openai-chat": Chat(), "anthropic": Messages()}
"""The formats in which answers are made. Others go on as they come."""

REAL = "_tersely_real"


def view_of(http: Any) -> Any:
    """An HTTP client as another one that answers by itself what suits. It shares all its state."""
    if hasattr(http, REAL):
        return http
    kind: Any = type(http)
    made = object.__new__(_viewing(kind))
    made.__dict__ = http.__dict__
    setattr(made, REAL, http)
    return made


def real_of(http: Any) -> Any:
    """The HTTP client behind a view, or itself."""
    return getattr(http, REAL, http)


@cache
def _viewing(base: Any) -> Any:
    """The type of views of this type of HTTP client, by the same name."""

    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        response = _answered(request, under_way())
        return self._tersely_real.send(request, **kwargs) if response is None else response

    async def asend(self: Any, request: Any, **kwargs: Any) -> Any:
        response = await _aanswered(request, under_way())
        return await self._tersely_real.send(request, **kwargs) if response is None else response

    body = {
        "__slots__": (REAL,),  # the state is shared, and this is not
        "__del__": lambda self: None,  # the connections are closed with the real one
        "send": asend if iscoroutinefunction(base.send) else send,
    }
    body |= {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    return new_class(base.__name__, (base,), exec_body=lambda space: space.update(body))


@dataclass(slots=True)
class Answering:
    """A request on the wire that a plan may answer."""

    request: Any
    shape: Shape
    body: Mapping[str, Any]
    beside: Beside
    since: float

    @classmethod
    def of(cls, request: Any, memo: Memo | None) -> Answering | None:
        """None where no plan is wished for. Raises Untouched where none can answer."""
        points: Points | None = memo.points if memo else None
        if memo is None or points is None:
            return None
        shape = SHAPES.get(memo.surface)
        if shape is None:
            raise Untouched(f"answers are not taken apart in this format ({memo.surface})")
        body = _body(request)
        asked = shape.read(body)
        backend = SdkBackend(_unviewed(memo.client), shape, memo.options, body, asked)
        beside = Beside.of(points, asked, backend, backend.model)
        return cls(request, shape, body, beside, monotonic())

    @property
    def streamed(self) -> bool:
        """Whether the answer is wanted piece by piece."""
        return self.body.get("stream") is True

    def response(self, **content: Any) -> Any:
        """A response of the HTTP client's own package."""
        kind = "text/event-stream" if self.streamed else "application/json"
        headers = {"content-type": kind}
        made = _package(self.request).Response(
            200, headers=headers, request=self.request, **content
        )
        made.elapsed = timedelta(seconds=monotonic() - self.since)
        return made

    def events(
        self, first: Chunk, pieces: Generator[Chunk, None, None]
    ) -> Generator[bytes, None, None]:
        """The answer as a stream of events."""
        saying = self.shape.saying(self.body, "")
        with closing(pieces):
            yield saying.begin()
            try:
                chunk: Chunk | None = first
                while chunk is not None:
                    if chunk.completion is not None:
                        yield from saying.end(self.beside.settled(chunk.completion))
                    elif chunk.text:
                        yield saying.piece(chunk)
                    chunk = next(pieces, None)
            except Exception as error:
                yield saying.broken(error)

    async def aevents(
        self, first: Chunk, pieces: AsyncGenerator[Chunk, None]
    ) -> AsyncGenerator[bytes, None]:
        """The same without blocking."""
        saying = self.shape.saying(self.body, "")
        async with aclosing(pieces):
            yield saying.begin()
            try:
                chunk: Chunk | None = first
                while chunk is not None:
                    if chunk.completion is not None:
                        for event in saying.end(self.beside.settled(chunk.completion)):
                            yield event
                    elif chunk.text:
                        yield saying.piece(chunk)
                    chunk = await anext(pieces, None)
            except Exception as error:
                yield saying.broken(error)


def _answered(request: Any, memo: Memo | None) -> Any:
    """The response that a plan makes; None where the request is to go on as it is."""
    try:
        one = Answering.of(request, memo)
        if one is None:
            return None
        if not one.streamed:
            answer = drive(one.beside.steps(), one.beside.backend)
            return one.response(content=one.shape.whole(one.body, one.beside.settled(answer)))
        pieces = stream(one.beside.steps(), one.beside.backend)
        events = one.events(next(pieces), pieces)
        return one.response(stream=_streams(_package(request)).sync(events, pieces))
    except Exception as error:  # whatever it was, the plain way is still open
        untouched(failed(error))
        return None


async def _aanswered(request: Any, memo: Memo | None) -> Any:
    """As `_answered`, without blocking."""
    try:
        one = await asyncio.to_thread(Answering.of, request, memo)
        if one is None:
            return None
        if not one.streamed:
            answer = await adrive(one.beside.steps(), one.beside.backend)
            return one.response(content=one.shape.whole(one.body, one.beside.settled(answer)))
        pieces = astream(one.beside.steps(), one.beside.backend)
        events = one.aevents(await anext(pieces), pieces)
        return one.response(stream=_streams(_package(request)).awaited(events, pieces))
    except Exception as error:
        untouched(failed(error))
        return None


def _body(request: Any) -> Mapping[str, Any]:
    """The JSON that is sent. Raises Untouched when it is none."""
    try:
        body = json.loads(request.content)
    except Exception as error:
        raise Untouched("the body is no JSON, or was not read yet") from error
    if not isinstance(body, Mapping):
        raise Untouched("the body is no JSON object")
    return body


def _unviewed(client: Any) -> Any:
    """A client of the SDK's own type with the same state, whose HTTP client is the real one."""
    base = getattr(type(client), "_tersely_base", type(client))
    plain = object.__new__(base)
    own = {k: v for k, v in client.__dict__.items() if k != "_tersely"}
    plain.__dict__ = own | {"_client": real_of(client._client)}
    return plain


def _package(request: Any) -> Any:
    """The package that a request is of: SDKs use httpx, or what followed it."""
    return sys.modules[type(request).__module__.partition(".")[0]]


@dataclass(frozen=True, slots=True)
class _Streams:
    """Bodies of responses, as a package wants them."""

    sync: Any
    awaited: Any


@cache
def _streams(package: Any) -> _Streams:
    class Body(package.SyncByteStream):  # type: ignore[misc]
        def __init__(self, events: Generator[bytes], pieces: Generator[Chunk]) -> None:
            self._events, self._pieces = events, pieces

        def __iter__(self) -> Generator[bytes]:
            return self._events

        def close(self) -> None:
            self._events.close()
            self._pieces.close()  # also when nobody has begun to read

    class AsyncBody(package.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, events: AsyncGenerator[bytes], pieces: AsyncGenerator[Chunk]) -> None:
            self._events, self._pieces = events, pieces

        def __aiter__(self) -> AsyncGenerator[bytes]:
            return self._events

        async def aclose(self) -> None:
            await self._events.aclose()
            await self._pieces.aclose()

    return _Streams(Body, AsyncBody)
