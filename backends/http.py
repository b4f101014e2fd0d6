"""Any server that speaks the OpenAI-compatible API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import httpx
from httpx_sse import EventSource
from tenacity import AsyncRetrying, Retrying

from tersely.backends import wire
from tersely.backends.parallel import aeach, each
from tersely.backends.probe import aprobe, probe
from tersely.calls import Server, check, translated
from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import BackendError

DONE = "[DONE]"


class HttpBackend(Server):
    """Answers through a server's `/chat/completions`, or `/completions` for raw text.

    At most `parallel` requests are under way at once; see `tersely.calls.Server` for the rest.

    `can` tells what the server can do, as far as you know it: `probe` finds out, and
    `backend.model_copy(update={"can": backend.probe()})` keeps it. `prefill` is how the server is
    asked to go on with a last turn of the assistant (see `wire.Prefill`); empty: it is not known
    to do so. Some servers tell of the token that ends an answer too.
    """

    can: frozenset[Capability] = frozenset({"alternatives", "logprobs", "stream"})
    prefill: wire.Prefill = ""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """`can`, and what follows from the other settings."""
        goes_on: tuple[Capability, ...] = ("prefill",) if self.prefill else ()
        return self.can.union(goes_on, ("parallel",))

    def probe(self) -> frozenset[Capability]:
        """What the server can do, found out by some tiny requests (see `probe.probe`)."""
        return probe(self)

    async def aprobe(self) -> frozenset[Capability]:
        """As `probe`, without blocking."""
        return await aprobe(self)

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests. Raises BackendError, ContextLengthError."""
        with httpx.Client(**self._options()) as client:

            def ask(request: Request) -> Completion:
                with translated():
                    for attempt in Retrying(**self._retrying()):
                        with attempt:
                            response = client.send(self._call(client, request))
                            check(response)
                    return wire.read(request, response.text)

            return each(ask, requests, self.parallel)

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests without blocking. Raises BackendError, ContextLengthError."""
        async with httpx.AsyncClient(**self._options()) as client:

            async def ask(request: Request) -> Completion:
                with translated():
                    async for attempt in AsyncRetrying(**self._retrying()):
                        with attempt:
                            response = await client.send(self._call(client, request))
                            check(response)
                    return wire.read(request, response.text)

            return await aeach(ask, requests, self.parallel)

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece. Raises BackendError, also when the stream breaks off."""
        reply = wire.Reply.to(request)
        with translated(), self._opened(request) as response:
            for event in EventSource(response).iter_sse():
                if event.data == DONE:
                    break
                if text := wire.add(reply, event.data):
                    yield reply.tokens.chunk(text)
        yield _last(reply)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        """Answer piece by piece without blocking. Raises BackendError."""
        reply = wire.Reply.to(request)
        with translated():
            async with self._aopened(request) as response:
                async for event in EventSource(response).aiter_sse():
                    if event.data == DONE:
                        break
                    if text := wire.add(reply, event.data):
                        yield reply.tokens.chunk(text)
        yield _last(reply)

    @contextmanager
    def _opened(self, request: Request) -> Iterator[httpx.Response]:
        """A stream of events that has begun."""
        with httpx.Client(**self._options()) as client:
            for attempt in Retrying(**self._retrying()):
                with attempt:
                    call = self._call(client, request, stream=True)
                    response = client.send(call, stream=True)
                    if response.is_error:
                        response.read()
                    check(response)
            try:
                yield response
            finally:
                response.close()

    @asynccontextmanager
    async def _aopened(self, request: Request) -> AsyncIterator[httpx.Response]:
        async with httpx.AsyncClient(**self._options()) as client:
            async for attempt in AsyncRetrying(**self._retrying()):
                with attempt:
                    call = self._call(client, request, stream=True)
                    response = await client.send(call, stream=True)
                    if response.is_error:
                        await response.aread()
                    check(response)
            try:
                yield response
            finally:
                await response.aclose()

    def _call(
        self, client: httpx.Client | httpx.AsyncClient, request: Request, *, stream: bool = False
    ) -> httpx.Request:
        body = wire.body_of(request, self.model, self.extra, stream=stream, prefill=self.prefill)
        return client.build_request("POST", wire.endpoint(request), content=body)


def _last(reply: wire.Reply) -> Chunk:
    """The chunk that ends a stream. Raises BackendError when the answer is not whole."""
    if reply.finish is None:
        raise BackendError("the stream ended before the answer did", retryable=True)
    return reply.tokens.chunk("", reply.completion())
