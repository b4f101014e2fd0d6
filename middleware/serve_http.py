"""Who may come in, and with how much: keys, sizes, origins."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tersely.middleware.serve_errors import Refused, refusal
from tersely.middleware.serve_stream import ClientGone, Events, Receive, Send, send_json

if TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest

told = logging.getLogger("tersely.serve")

GONE = 499
"""The status of an answer that nobody will read."""

PATIENCE = 16
"""How many times over the allowed size a body is still read to its end, so that a client who
sends it all before it listens hears why it was refused."""


@dataclass(frozen=True, slots=True)
class Told:
    """A response of JSON."""

    value: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await send_json(send, self.status, self.value, self.headers)


Endpoint = Callable[["HttpRequest", "Door"], Awaitable[Told | Events]]
Answering = Callable[["HttpRequest"], Awaitable[Told | Events]]


def known(error: Exception) -> Refused:
    """What is told of a failure; one that nobody foresaw is logged."""
    found = refusal(error)
    if found.status == 500:
        told.error("a request failed", exc_info=error)
    return found


def failed(error: Exception) -> Told:
    """The response to what failed."""
    found = known(error)
    return Told(found.body, found.status, found.headers)


@dataclass(frozen=True, slots=True)
class Door:
    """The conditions on which requests are let in."""

    api_key: str | None
    max_bytes: int
    origins: tuple[str, ...]

    def open(self, endpoint: Endpoint) -> Answering:
        """An endpoint for everyone, whose failures are told in OpenAI's shape."""

        async def answer(http: HttpRequest) -> Told | Events:
            try:
                return await endpoint(http, self)
            except ClientGone:
                return Told({}, GONE)
            except Exception as error:
                return failed(error)

        return answer

    def guarded(self, endpoint: Endpoint) -> Answering:
        """An endpoint for those who have the key and come from where they may."""

        async def checked(http: HttpRequest, door: Door) -> Told | Events:
            self._check_origin(http)
            self._check_key(http)
            return await endpoint(http, door)

        return self.open(checked)

    async def body(self, http: HttpRequest) -> bytes:
        """The body of a request. Raises Refused when it is too big, or is not said to be JSON."""
        kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # a web page from anywhere may send other types without asking first
            raise Refused("send content-type: application/json", status=415)
        pieces: list[bytes] = []
        size = 0
        async for piece in http.stream():
            size += len(piece)
            if size <= self.max_bytes:
                pieces.append(piece)
            elif size > self.max_bytes * PATIENCE:
                break
        if size > self.max_bytes:
            raise Refused(
                f"the body has more than {self.max_bytes} bytes",
                status=413,
                code="request_too_large",
                headers={"connection": "close"},
            )
        return b"".join(pieces)

    def _check_origin(self, http: HttpRequest) -> None:
        origin = http.headers.get("origin")
        if origin is not None and not {"*", origin} & set(self.origins):
            raise Refused(
                "web pages from there may not use this server",
                status=403,
                code="origin_not_allowed",
            )

    def _check_key(self, http: HttpRequest) -> None:
        if self.api_key is None:
            return
        kind, _, key = http.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(key.strip().encode("latin-1"), self.api_key.encode())
        if kind.lower() != "bearer" or not same:
            raise Refused(
                "the API key is missing or wrong",
                status=401,
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
