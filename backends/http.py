"""Any server that speaks the OpenAI-compatible API."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypedDict

import httpx
from httpx_sse import EventSource
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from tenacity import AsyncRetrying, Retrying

from tersely.backends import wire
from tersely.backends.parallel import aeach, each
from tersely.backends.probe import aprobe, probe
from tersely.calls import certificates, check, retrying, translated
from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import BackendError

DONE = "[DONE]"


class HttpBackend(BaseModel):
    """Answers through a server's `/chat/completions`, or `/completions` for raw text.

    `base_url` ends where the API begins, as in `https://api.openai.com/v1`. At most `parallel`
    requests are under way at once. What failed for a reason that may pass is asked `retries`
    times more, after a pause that starts at `pause` seconds and doubles, or the pause that the
    server wants. `extra` fields go into every body; None there leaves a field out.

    `can` tells what the server can do, as far as you know it: `probe` finds out, and
    `backend.model_copy(update={"can": backend.probe()})` keeps it. `prefill` is how the server is
    asked to go on with a last turn of the assistant (see `wire.Prefill`); empty: it is not known
    to do so. Some servers tell of the token that ends an answer too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    model: str
    api_key: SecretStr | None = None
    timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=3, ge=0)
    pause: float = Field(default=0.5, ge=0)
    parallel: int = Field(default=8, ge=1)
    headers: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}
    can: frozenset[Capability] = frozenset({"alternatives", "logprobs", "stream"})
    prefill: wire.Prefill = ""

    @field_validator("base_url")
    @classmethod
    def _with_scheme(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

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
        with httpx.Client(**_options(self)) as client:

            def ask(request: Request) -> Completion:
                with translated():
                    for attempt in Retrying(**retrying(self.retries, self.pause)):
                        with attempt:
                            response = client.send(self._call(client, request))
                            check(response)
                    return wire.read(request, response.text)

            return each(ask, requests, self.parallel)

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests without blocking. Raises BackendError, ContextLengthError."""
        async with httpx.AsyncClient(**_options(self)) as client:

            async def ask(request: Request) -> Completion:
                with translated():
                    async for attempt in AsyncRetrying(**retrying(self.retries, self.pause)):
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
        with httpx.Client(**_options(self)) as client:
            for attempt in Retrying(**retrying(self.retries, self.pause)):
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
        async with httpx.AsyncClient(**_options(self)) as client:
            async for attempt in AsyncRetrying(**retrying(self.retries, self.pause)):
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


class _Options(TypedDict):
    base_url: str
    headers: dict[str, str]
    timeout: float
    verify: ssl.SSLContext


def _options(backend: HttpBackend) -> _Options:
    """How clients are made: one for each call, since they belong to one event loop."""
    headers = {"content-type": "application/json", **backend.headers}
    if backend.api_key:
        headers["authorization"] = f"Bearer {backend.api_key.get_secret_value()}"
    return _Options(
        base_url=backend.base_url,
        headers=headers,
        timeout=backend.timeout,
        verify=certificates(),
    )


def _last(reply: wire.Reply) -> Chunk:
    """The chunk that ends a stream. Raises BackendError when the answer is not whole."""
    if reply.finish is None:
        raise BackendError("the stream ended before the answer did", retryable=True)
    return reply.tokens.chunk("", reply.completion())
