"""Any server that speaks the OpenAI-compatible API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Self

import httpx
from httpx_sse import EventSource
from tenacity import AsyncRetrying, Retrying

from tersely.backends import recognise, wire
from tersely.backends.dialects import DIALECTS, Dialect, EngineName, Prefill
from tersely.backends.parallel import aeach, each
from tersely.backends.probe import aprobe, probe
from tersely.backends.vectors import check_vectors
from tersely.backends.whole import generate_url
from tersely.calls import Server, check, translated
from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import BackendError
from tersely.wishes import refuse_unable

DONE = "[DONE]"


class HttpBackend(Server):
    """Answers through a server's `/chat/completions`, or `/completions` for raw text.

    At most `parallel` requests are under way at once; see `tersely.calls.Server` for the rest.

    `engine` is the server whose ways are known (see `dialects.DIALECTS`): what it can do and how it
    is asked follow from it, and what it can't do is refused before anything is sent. `recognised`
    finds it out. `openai` is any other server.

    `can` tells what the server can do, where you know better: `probe` finds out, and
    `backend.model_copy(update={"can": backend.probe()})` keeps it. vLLM takes vectors where it was
    started with `--enable-prompt-embeds`, and SGLang with `--disable-radix-cache`: add `embeds`
    then. `weights` tells where the same model lies on this machine (a name of ours, a folder or a
    hub id): prompts with vectors are then sent as embeddings, every token of them, which SGLang
    needs, and vLLM for raw text. `prefill` is how the server is asked
    to go on with a last turn of the assistant, where it differs from the engine's way (see
    `dialects.Prefill`). Some servers tell of the token that ends an answer too.
    """

    engine: EngineName = "openai"
    can: frozenset[Capability] | None = None
    prefill: Prefill = ""
    weights: str = ""

    @property
    def dialect(self) -> Dialect:
        """The ways of the engine, with what was set otherwise."""
        own = DIALECTS[self.engine]
        can = own.can if self.can is None else self.can
        return replace(own, can=can, prefill=self.prefill or own.prefill)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """`can` or what the engine can do, and what follows from the other settings."""
        lacks = self.dialect.embeds == "sglang" and not self.weights
        return self.dialect.capabilities - ({"embeds"} if lacks else set())

    def recognised(self) -> Self:
        """This backend with the engine that the server says it is, asked by two requests at most.

        `parallel` is lowered to the requests that the engine answers side by side, where it tells.
        A server that tells nothing stays what it was set to be. Raises BackendError when nobody
        answers.
        """
        return self.model_copy(update=recognise.recognised(self._options(), self.parallel))

    async def arecognised(self) -> Self:
        """As `recognised`, without blocking."""
        found = await asyncio.to_thread(recognise.recognised, self._options(), self.parallel)
        return self.model_copy(update=found)

    def probe(self) -> frozenset[Capability]:
        """What the server can do, found out by some tiny requests (see `probe.probe`)."""
        return probe(self)

    async def aprobe(self) -> frozenset[Capability]:
        """As `probe`, without blocking."""
        return await aprobe(self)

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests. Raises ConfigError, BackendError, ContextLengthError."""
        _check(self, requests)
        with httpx.Client(**self._options()) as client:

            def ask(request: Request) -> Completion:
                with translated():
                    for attempt in Retrying(**self._retrying()):
                        with attempt:
                            response = client.send(_call(self, client, request))
                            check(response)
                    return wire.read(request, response.text, self.dialect)

            return each(ask, requests, self._at_once)

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests without blocking. Raises as `complete`."""
        await _acheck(self, requests)
        async with httpx.AsyncClient(**self._options()) as client:

            async def ask(request: Request) -> Completion:
                with translated():
                    async for attempt in AsyncRetrying(**self._retrying()):
                        with attempt:
                            response = await client.send(_call(self, client, request))
                            check(response)
                    return wire.read(request, response.text, self.dialect)

            return await aeach(ask, requests, self._at_once)

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece. Raises BackendError, also when the stream breaks off."""
        _check(self, [request])
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
        await _acheck(self, [request])
        reply = wire.Reply.to(request)
        with translated():
            async with self._aopened(request) as response:
                async for event in EventSource(response).aiter_sse():
                    if event.data == DONE:
                        break
                    if text := wire.add(reply, event.data):
                        yield reply.tokens.chunk(text)
        yield _last(reply)

    @property
    def _at_once(self) -> int:
        """How many requests of one call are under way together."""
        return min(self.parallel, self.dialect.at_once or self.parallel)

    @contextmanager
    def _opened(self, request: Request) -> Iterator[httpx.Response]:
        """A stream of events that has begun."""
        with httpx.Client(**self._options()) as client:
            for attempt in Retrying(**self._retrying()):
                with attempt:
                    call = _call(self, client, request, stream=True)
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
                    call = _call(self, client, request, stream=True)
                    response = await client.send(call, stream=True)
                    if response.is_error:
                        await response.aread()
                    check(response)
            try:
                yield response
            finally:
                await response.aclose()


def _call(
    backend: HttpBackend,
    client: httpx.Client | httpx.AsyncClient,
    request: Request,
    *,
    stream: bool = False,
) -> httpx.Request:
    """A request as the engine wants to be asked."""
    dialect, weights = backend.dialect, backend.weights
    body = wire.body_of(
        request, backend.model, backend.extra, stream=stream, dialect=dialect, weights=weights
    )
    whole = bool(request.vectors and weights)
    if whole and dialect.embeds == "sglang":
        return client.build_request("POST", generate_url(backend.base_url), content=body)
    return client.build_request("POST", wire.endpoint(request, whole=whole), content=body)


def _check(backend: HttpBackend, requests: Sequence[Request]) -> None:
    """Raise ConfigError for what the engine can't do, before anything is sent."""
    for request in requests:
        refuse_unable(request, backend.capabilities, mend=_mend(backend))
        check_vectors(request, backend.model, backend.weights)


async def _acheck(backend: HttpBackend, requests: Sequence[Request]) -> None:
    """As `_check`, without blocking: vectors may be checked beside a model that is read for it."""
    if any(request.vectors for request in requests):
        await asyncio.to_thread(_check, backend, requests)
    else:
        _check(backend, requests)


def _mend(backend: HttpBackend) -> str:
    if backend.dialect.embeds == "sglang" and not backend.weights:
        return "set `engine` to one that takes it; for vectors in SGLang set `weights` too"
    return "set `engine` to one that takes it"


def _last(reply: wire.Reply) -> Chunk:
    """The chunk that ends a stream. Raises BackendError when the answer is not whole."""
    if reply.finish is None:
        raise BackendError("the stream ended before the answer did", retryable=True)
    return reply.tokens.chunk("", reply.completion())
