"""`tersely serve`: an OpenAI-compatible server over a model on this machine."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from tersely.errors import ConfigError, require
from tersely.middleware.cli_options import SOFT, Display

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from tersely.contracts import Backend

DEFAULT_MODEL = "smollm2"

REMOTE = ("http", "langchain")
"""Backends whose model is not here: they are not asked anything before somebody asks."""

GRACE = 5
"""Seconds that answers under way have after Ctrl-C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Who answers."""

    model: Annotated[
        str, Argument(help="A name from `tersely models list`, a folder or a hub id.")
    ] = DEFAULT_MODEL
    backend: Annotated[str, Option(help="The engine: local, or another one of the registry.")] = (
        "local"
    )
    precision: Annotated[str | None, Option(help="auto, float32, bfloat16, float16 or int8.")] = (
        None
    )
    batch_size: Annotated[int | None, Option(help="Answers that are made at once.")] = None
    batch_tokens: Annotated[int | None, Option(help="Prompt tokens that are read at once.")] = None
    kv_tokens: Annotated[int | None, Option(help="Tokens whose keys and values are held.")] = None
    prefix_tokens: Annotated[
        int | None, Option(help="Tokens of recent prompts that are remembered.")
    ] = None
    setting: Annotated[
        list[str], Option("--set", help="Any other setting of the engine, as name=value.")
    ] = field(default_factory=list)
    soft: Annotated[list[str], SOFT] = field(default_factory=list)

    def opened(self) -> Backend:
        """The backend that the options describe. Raises ConfigError."""
        from tersely import registry
        from tersely.middleware.softened import Softened

        apart = ("backend", "setting", "soft")
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in apart}
        settings = {name: value for name, value in given.items() if value is not None}
        settings |= dict(_setting(one) for one in self.setting)
        backend = registry.backend(self.backend, **settings)
        return Softened.by(backend, self.soft) if self.soft else backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """Where the server listens, and whom it lets in."""

    host: Annotated[str, Option(help="The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000
    api_key_env: Annotated[
        str | None, Option(help="The environment variable with the key that clients must send.")
    ] = None
    insecure: Annotated[
        bool, Option("--insecure", help="Let anyone in who can reach --host, without a key.")
    ] = False
    origin: Annotated[
        list[str], Option(help="A web origin whose pages may use the server; may be repeated.")
    ] = field(default_factory=list)
    max_bytes: Annotated[int | None, Option(min=1, help="The biggest request body.")] = None

    def key(self) -> str | None:
        """The key that clients must send, if any. Raises ConfigError."""
        if self.api_key_env is not None:
            if not (key := os.environ.get(self.api_key_env, "").strip()):
                raise ConfigError(f"the environment variable {self.api_key_env} is not set")
            return key
        if not (self.insecure or _is_loopback(self.host)):
            raise ConfigError(
                f"--host {self.host} can be reached by others: name a key with --api-key-env, or"
                " let everyone in with --insecure"
            )
        return None


def serve(
    *,
    served: Served,
    guarded: Guarded,
    name: Annotated[str, Option(help="The model's name for clients; its own when left out.")] = "",
    max_tokens: Annotated[
        int | None, Option(min=1, help="How long a chat answer may be that was not bounded.")
    ] = None,
    pipeline: Annotated[
        str, Option(help="Compresses on request: a YAML file, or a pipeline by name.")
    ] = "default",
    display: Display,
) -> None:
    """Serve a model by the OpenAI-compatible API, until Ctrl-C."""
    for package in ("starlette", "uvicorn"):
        require(package, extra="serve")
    from tersely.middleware.pipeline import pipeline_of
    from tersely.middleware.serve import app, name_of

    key = guarded.key()
    backend = served.opened()
    named = name or name_of(backend)
    limits = {"max_bytes": guarded.max_bytes, "max_tokens": max_tokens}
    made = app(
        backend,
        name=named,
        api_key=key,
        pipeline=pipeline_of(Path(pipeline) if pipeline.endswith((".yaml", ".yml")) else pipeline),
        origins=guarded.origin,
        **{what: limit for what, limit in limits.items() if limit is not None},
    )
    with listening(guarded.host, guarded.port) as place:
        if served.backend not in REMOTE:
            _warm(backend)
        typer.echo(_hello(base_url(place), named, display, needs_key=key is not None))
        typer.get_text_stream("stdout").flush()
        run(made, place)


def run(made: Starlette, place: socket.socket) -> None:
    """Serve an application on an open socket until it is told to end.

    Answers under way have some seconds to end after that; then they are broken off.
    """
    import uvicorn

    config = uvicorn.Config(
        made,
        lifespan="off",
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    try:
        uvicorn.Server(config).run(sockets=[place])
    except KeyboardInterrupt:  # raised again by uvicorn when all is closed
        typer.echo("stopped", err=True)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigError when that place can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"can't listen on {host} port {port}: {error.strerror or error}; name another --port"
        ) from error


def base_url(place: socket.socket) -> str:
    """Where a client finds the server that listens there."""
    host, port = place.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def _warm(backend: Backend) -> None:
    """Have the weights read, so that what is wrong with them is told now."""
    from tersely.contracts import Request
    from tersely.prompt import Prompt, Segment

    hello = Segment(text="Hello", kind="question", locked=True)
    backend.complete([Request(prompt=Prompt((hello,), turns=1), max_tokens=1)])


def _hello(url: str, model: str, display: Display, *, needs_key: bool) -> str:
    if display.as_json:
        return json.dumps({"base_url": url, "model": model, "needs_key": needs_key})
    if display.quiet:
        return url
    key = "the key" if needs_key else "none"
    return (
        f"{url}\n"
        f'OpenAI(base_url="{url}", api_key="{key}").chat.completions.create(model="{model}", ...)\n'
        'with extra_body={"sot": "auto"} points are written side by side; Ctrl-C ends the server'
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _setting(text: str) -> tuple[str, Any]:
    """A setting as `name=value`, the value as JSON or else as it is. Raises ConfigError."""
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise ConfigError(f"--set takes name=value, was {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
