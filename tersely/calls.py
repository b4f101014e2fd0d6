"""Calls to a server over HTTP: which failures may pass, how long to wait, what is told of them."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cache
from time import time
from typing import Any, TypedDict

import httpx
from httpx_sse import SSEError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from tenacity import (
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from tersely.errors import BackendError, ContextLengthError

LONGEST_PAUSE = 60.0
"""Seconds: what a server asks for beyond that is not waited for."""

MENDS: Mapping[int, str] = {
    401: "check api_key",
    403: "check what the api_key may do",
    404: "check base_url and model",
    429: "too many requests",
}
"""What an HTTP status asks of the user."""

RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})

FINAL_CODES = frozenset({"insufficient_quota"})
"""Errors that no waiting mends, whatever their status."""

TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|context (window|size)"
    r"|max_model_len|model's context length|maximum model length|prompt is too long"
    r"|input is too long",
    re.IGNORECASE,
)
"""How servers say that a request is longer than the model can read."""


class Server(BaseModel):
    """Base of what speaks to an OpenAI-compatible server: where it is, and how it is asked.

    `base_url` ends where the API begins, as in `https://api.openai.com/v1`. What failed for a
    reason that may pass is asked `retries` times more, after a pause that starts at `pause`
    seconds and doubles, or the pause that the server wants. `extra` fields go into every body;
    None there leaves a field out.
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

    @field_validator("base_url")
    @classmethod
    def _with_scheme(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    def _options(self) -> ClientOptions:
        """How clients are made: one for each call, since they belong to one event loop."""
        headers = {"content-type": "application/json", **self.headers}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key.get_secret_value()}"
        return ClientOptions(
            base_url=self.base_url, headers=headers, timeout=self.timeout, verify=certificates()
        )

    def _retrying(self) -> dict[str, Any]:
        return retrying(self.retries, self.pause)


class ClientOptions(TypedDict):
    """What an HTTP client is made with."""

    base_url: str
    headers: dict[str, str]
    timeout: float
    verify: ssl.SSLContext


def retrying(retries: int, first: float) -> dict[str, Any]:
    """The settings of tenacity: again after what may pass, `retries` times more, ever later."""
    return {
        "stop": stop_after_attempt(retries + 1),
        "retry": retry_if_exception(may_pass),
        "wait": lambda state: pause(state, first),
        "reraise": True,
    }


@cache
def certificates() -> ssl.SSLContext:
    """Shared by all clients: reading the certificates takes longer than the rest of a client."""
    return httpx.create_ssl_context()


def pause(state: RetryCallState, first: float) -> float:
    """Seconds to wait before the next attempt: what the server wants, else ever longer."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, httpx.HTTPStatusError):
        wanted = _seconds(error.response.headers.get("retry-after", ""))
        if wanted is not None:
            return min(max(wanted, 0.0), LONGEST_PAUSE)
    return wait_random_exponential(multiplier=first, max=LONGEST_PAUSE)(state)


def _seconds(text: str) -> float | None:
    """The value of a Retry-After header: seconds, or a date."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time()
    except ValueError:
        return None


def check(response: httpx.Response) -> None:
    """Raise what httpx raises when the server refused."""
    if not response.is_success:
        raise httpx.HTTPStatusError("refused", request=response.request, response=response)


def may_pass(error: BaseException) -> bool:
    """Whether asking again may help."""
    match error:
        case httpx.HTTPStatusError():
            return error_of(error.response.status_code, error.response.text).retryable
        case httpx.UnsupportedProtocol() | httpx.ProxyError() | SSEError():
            return False
        case _:
            return isinstance(error, httpx.TransportError)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what httpx raises into our errors."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise error_of(error.response.status_code, error.response.text) from error
    except (httpx.HTTPError, httpx.InvalidURL, SSEError) as error:
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise BackendError(f"the server failed ({said})", retryable=may_pass(error)) from error


def error_of(status: int, text: str) -> BackendError:
    """Our error for a response that refuses a request."""
    try:
        body = json.loads(text)
    except ValueError:
        body = text.strip()
    said = body.get("error", body) if isinstance(body, dict) else body
    mend = f"; {MENDS[status]}" if status in MENDS else ""
    return error_said(said, retryable=status in RETRYABLE, status=f"HTTP {status}", mend=mend)


def error_said(
    said: Any, *, retryable: bool, status: str = "error", mend: str = ""
) -> BackendError:
    """Our error for what a server says of one."""
    fields = said if isinstance(said, dict) else {"message": said}
    code = str(fields.get("code") or fields.get("type") or "")
    message = f"the server refused ({status}): {fields.get('message') or said}{mend}"
    if not retryable and TOO_LONG.search(f"{code} {message}"):
        return ContextLengthError(message)
    return BackendError(message, retryable=retryable and code not in FINAL_CODES)
