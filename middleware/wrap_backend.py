"""A client of the openai or anthropic SDK as the backend of a plan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

from tersely.calls import RETRYABLE, error_of
from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import BackendError, TerselyError
from tersely.middleware.listening import Hearing
from tersely.middleware.shape import CAN, Heard, Shape
from tersely.middleware.threaded import threaded

OWN_HEADERS = ("x-stainless-", "____stainless")
"""How headers begin by which an SDK tells itself what to make of the answer."""

PASSING = ("APIConnectionError", "APITimeoutError")
"""Errors of the SDKs without a status, which may pass."""


_UNSTOPPED: set[tuple[str, str]] = set()
"""Where models were met that refuse stop strings, as those that reason do."""


@dataclass(frozen=True, slots=True)
class SdkBackend:
    """Answers by calls of a client, each sent as one call of the caller's was.

    They have the address, the headers, the timeout and the retries of that call (`options`), and
    its `body` but for what a request says otherwise. The caller's own request, `asked`, goes out
    as it came. All calls are streamed, so that one that is not wanted any more can be broken off.
    """

    client: Any
    shape: Shape
    options: Any
    body: Mapping[str, Any]
    asked: Request

    @property
    def capabilities(self) -> frozenset[Capability]:
        return CAN

    @property
    def model(self) -> str:
        """The model that is asked."""
        return str(self.body.get("model") or "")

    @property
    def base_url(self) -> str:
        """Where it is asked."""
        return str(getattr(self.client, "base_url", "")).rstrip("/")

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests, one after the other. Raises BackendError."""
        return [self._last([*self.stream(request)]) for request in requests]

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests without blocking. Raises BackendError."""

        async def one(request: Request) -> Completion:
            return self._last([chunk async for chunk in self.astream(request)])

        return [*await asyncio.gather(*map(one, requests))]

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece, with a client that is not async. Raises BackendError."""
        hearing, heard = Hearing(), Heard()
        with _translated():
            parts = self._opened(request)
            try:
                for part in parts:
                    if text := self.shape.heard(heard, part):
                        hearing.add(Chunk(text=text))
                        yield Chunk(text=text)
            finally:
                parts.close()
        yield _ended(heard, hearing)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        """Answer piece by piece without blocking. Raises BackendError."""
        if not iscoroutinefunction(self.client.request):
            async with aclosing(threaded(lambda: self.stream(request))) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        hearing, heard = Hearing(), Heard()
        with _translated():
            parts = await self._aopened(request)
            try:
                async for part in parts:
                    if text := self.shape.heard(heard, part):
                        hearing.add(Chunk(text=text))
                        yield Chunk(text=text)
            finally:
                await parts.close()
        yield _ended(heard, hearing)

    def _opened(self, request: Request) -> Any:
        """The SDK's stream of the events of one call."""
        try:
            return self._sent(request)
        except Exception as error:
            if not self._minds(request, error):
                raise
        return self._sent(request)

    async def _aopened(self, request: Request) -> Any:
        try:
            return await self._sent(request)
        except Exception as error:
            if not self._minds(request, error):
                raise
        return await self._sent(request)

    def _minds(self, request: Request, error: Exception) -> bool:
        """Whether the model takes no stop strings: it is not sent any more, the plan cuts too."""
        refused = getattr(error, "status_code", None) == 400 and "stop" in str(error)
        if refused and request.stop:
            _UNSTOPPED.add((self.base_url, self.model))
        return refused and bool(request.stop)

    def _sent(self, request: Request) -> Any:
        if (self.base_url, self.model) in _UNSTOPPED and request.stop:
            request = replace(request, stop=())
        sdk: Any = import_module(self.shape.sdk)
        kind = sdk.AsyncStream if iscoroutinefunction(self.client.request) else sdk.Stream
        sent = {
            "json_data": self.shape.call(self.body, request, whole=request == self.asked),
            "extra_json": None,
            "headers": _headers(self.options.headers),
            "idempotency_key": None,
        }
        return self.client.request(
            cast_to=object,
            options=self.options.model_copy(update=sent),
            stream=True,
            stream_cls=kind[object],
        )

    @staticmethod
    def _last(chunks: Sequence[Chunk]) -> Completion:
        found = chunks[-1].completion
        if found is None:
            raise BackendError("the answer broke off before its end", retryable=True)
        return found


def _ended(heard: Heard, hearing: Hearing) -> Chunk:
    """The chunk that ends a stream. Raises BackendError when the answer is not whole."""
    if heard.finish is None:
        raise BackendError("the stream ended before the answer did", retryable=True)
    return Chunk(text="", completion=heard.whole("".join(hearing.texts)))


def _headers(given: Any) -> Any:
    """The headers of the caller's call, but for those about the shape of its answer."""
    if not isinstance(given, Mapping):
        return given
    return {k: v for k, v in given.items() if not k.lower().startswith(OWN_HEADERS)}


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what an SDK raises into our errors. It has tried again already."""
    try:
        yield
    except TerselyError:
        raise
    except Exception as error:
        status, response = getattr(error, "status_code", None), getattr(error, "response", None)
        if isinstance(status, int) and response is not None:
            raise error_of(status, response.text) from error
        passes = status in RETRYABLE or type(error).__name__ in PASSING
        said = f"{type(error).__name__}: {error}"
        raise BackendError(f"the client failed ({said})", retryable=passes) from error
