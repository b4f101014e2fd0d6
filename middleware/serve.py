"""An OpenAI-compatible server over any backend: chat, completions, streams, points side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tersely.contracts import Backend
from tersely.errors import ConfigError, require
from tersely.middleware.serve_answer import Service
from tersely.middleware.serve_errors import Refused
from tersely.middleware.serve_http import Door, Told, failed

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request as HttpRequest

MAX_BYTES = 4 * 1024 * 1024
MAX_TOKENS = 512
ALIVE_AFTER = 10.0


def app(
    backend: Backend,
    *,
    name: str = "",
    api_key: str | None = None,
    max_bytes: int = MAX_BYTES,
    max_tokens: int = MAX_TOKENS,
    pipeline: Any = "default",
    origins: Sequence[str] = (),
    keep_alive: float = ALIVE_AFTER,
) -> Starlette:
    """A server that answers with this backend, as an ASGI application.

    `name` is the model's in requests and answers (left out: the backend's own). With an `api_key`
    every request but `/health` must bear it. Bodies have `max_bytes` bytes at most. Chat answers
    whose length was not asked for have `max_tokens` tokens at most, or as many as there is room
    for. `pipeline` compresses the requests that ask for it. Web pages may use the server only when
    they come from one of the `origins` ("*": any). A stream that is silent for `keep_alive`
    seconds shows that it lives.

    Raises ConfigError, and MissingExtra without starlette.
    """
    require("starlette", extra="serve")
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    if api_key is not None and not api_key.strip():
        raise ConfigError("the API key is empty: give one, or None for none")
    if max_bytes < 1 or max_tokens < 1 or not keep_alive > 0:
        raise ConfigError(
            "max_bytes, max_tokens and keep_alive must be above 0, were"
            f" {max_bytes}, {max_tokens} and {keep_alive}"
        )
    service = Service.of(backend, name or name_of(backend), max_tokens, pipeline, keep_alive)
    door = Door(api_key, max_bytes, tuple(origins))
    return Starlette(
        routes=[
            Route("/health", door.open(service.health), methods=["GET"]),
            Route("/v1/models", door.guarded(service.models), methods=["GET"]),
            Route("/v1/models/{name:path}", door.guarded(service.model), methods=["GET"]),
            Route("/v1/chat/completions", door.guarded(service.chat), methods=["POST"]),
            Route("/v1/completions", door.guarded(service.text), methods=["POST"]),
        ],
        middleware=_pages(origins),
        exception_handlers={HTTPException: _no_such},  # type: ignore[dict-item]
    )


def name_of(backend: Backend) -> str:
    """A backend's model as clients name it: a folder by its last part only."""
    model = str(getattr(backend, "model", "")) or "local"
    return Path(model).name if Path(model).is_dir() else model


def _pages(origins: Sequence[str]) -> list[Any]:
    """What lets web pages from elsewhere in."""
    if not origins:
        return []
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware

    allowed = {"allow_origins": list(origins), "allow_methods": ["GET", "POST"]}
    return [Middleware(CORSMiddleware, allow_headers=["*"], **allowed)]  # type: ignore[arg-type]


async def _no_such(http: HttpRequest, error: Any) -> Told:
    """What is told of a path or a method that there is not."""
    path = f"{http.method} {http.url.path}"
    found = Refused(f"there is no {path[:200]} here", status=error.status_code, code="not_found")
    found.headers.update(error.headers or {})
    return failed(found)
