"""Clients of the openai and anthropic SDKs that compress what they send.

A wrapped client is a copy of a client, of a subclass of the client's own type that overrides the
SDK's hook `_prepare_options`. All calls go through it: raw, streamed, parsed, helpers and beta
paths. Middleware of the anthropic SDK would not do instead: `with_options(middleware=...)`
replaces it, and then prompts would go out uncompressed and nobody would know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from inspect import iscoroutinefunction
from types import new_class
from typing import Any, TypeVar

from tersely.errors import ConfigError
from tersely.middleware.passage import Result
from tersely.middleware.scope import Override
from tersely.middleware.wrap_call import one_request, under_way
from tersely.middleware.wrap_points import real_of, view_of
from tersely.middleware.wrapping import ASKED, Wrapping

C = TypeVar("C")

Hook = Callable[..., Any]

HOOKS = ("_prepare_options", "copy", "request")
"""What a client must have to be wrapped."""

SAME = ("__module__", "__qualname__", "__doc__")

SURFACES = {
    "/chat/completions": "openai-chat",
    "/responses": "openai-responses",
    "/v1/messages": "anthropic",
}
"""The ends of the addresses that prompts are posted to, and who reads them."""


def fits(client: object) -> bool:
    """Whether this is a client that can be wrapped."""
    return not isinstance(client, type) and all(hasattr(client, hook) for hook in HOOKS)


def dress(client: C, wrapping: Wrapping) -> C:
    """A copy of a client that compresses as the wrapping says."""
    plain: Any = undressed(client)
    try:
        made: C = plain.copy()
    except TypeError as error:
        raise ConfigError(f"{type(plain).__name__}.copy() does not work: {error}") from error
    return _in(wrapping, made)


def undressed(client: C) -> C:
    """The same client, seen as its own type and not as ours.

    The SDKs make a copy by calling the type, and treat subclasses in another way.
    """
    base = getattr(type(client), "_tersely_base", None)
    if base is None:
        return client
    plain: C = object.__new__(base)
    plain.__dict__ = client.__dict__
    return plain


def _in(wrapping: Wrapping, client: C) -> C:
    """Put a client in our type, which nobody else holds yet."""
    kind: Any = type(client)
    http = client.__dict__.get("_client")
    if http is not None:
        client.__dict__["_client"] = view_of(http) if wrapping.settings.sot else real_of(http)
    elif wrapping.settings.sot:
        raise ConfigError(f"sot can't take a {kind.__name__}: it has no HTTP client of its own")
    client.__class__ = dressed(kind)
    client.__dict__["_tersely"] = wrapping
    return client


@cache
def dressed(base: Any) -> Any:
    """The subclass of a client's type that compresses. Its name stays: the user agent tells it."""
    hooks = _ahooks(base) if iscoroutinefunction(base._prepare_options) else _hooks(base)
    body: dict[str, Any] = {name: getattr(base, name) for name in SAME}
    body |= {hook.__name__: wraps(getattr(base, hook.__name__))(hook) for hook in hooks}
    copy = _copying(base)
    body |= {"copy": copy, "with_options": copy, "_tersely_base": base}
    return new_class(base.__name__, (base,), exec_body=lambda space: space.update(body))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request before it is sent: where its prompt lies, and what its caller asks for."""

    options: Any
    surface: str
    body: dict[str, Any]
    wishes: Override

    @classmethod
    def of(cls, options: Any, wrapping: Wrapping) -> Outgoing | None:
        """None when the request holds no prompt. Raises ConfigError for a wrong wish."""
        surface = surface_of(options)
        given = options.json_data if options.json_data is not None else {}
        if not surface or not isinstance(given, Mapping):
            return None
        # a later key wins, as when the SDK puts `extra_body` into the body
        body = {**given, **(options.extra_json or {})}
        asked = body.pop(ASKED, None)
        wishes = wrapping.wishes(asked)
        if asked and asked.get("sot") and wrapping.settings.sot is None:
            raise ConfigError("sot is for clients that were wrapped with it: wrap(client, sot=...)")
        if memo := under_way():
            memo.options, memo.surface, memo.points = options.model_copy(), surface, wishes.sot
        return cls(options, surface, body, wishes)

    def with_body(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields of the options that change when this body is sent."""
        parts = (self.options.json_data, self.options.extra_json)
        sent = [part and {k: body[k] for k in part if k != ASKED} for part in parts]
        return {"json_data": sent[0], "extra_json": sent[1] or None}


def surface_of(options: Any) -> str:
    """Who reads the prompt of a request; "" when it holds none."""
    if options.method.lower() != "post":
        return ""
    path = options.url.partition("?")[0]
    return next((name for end, name in SURFACES.items() if path.endswith(end)), "")


def _from_earlier(options: Any) -> Any:
    """The options as an earlier attempt of the same request sent them; None at the first."""
    memo = under_way()
    if memo is None or memo.sent is None or memo.given is not options.json_data:
        return None
    return options.model_copy(update=memo.sent)


def _for_now(outgoing: Outgoing, result: Result) -> Any:
    """The options with the compressed body, noted for attempts that follow."""
    sent = outgoing.with_body(result.output)
    if memo := under_way():
        memo.given, memo.sent = outgoing.options.json_data, sent
    return outgoing.options.model_copy(update=sent)


def _hooks(base: Any) -> tuple[Hook, ...]:
    """What a client does otherwise than its own type."""

    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        with one_request(self):
            return base.request(self, *args, **kwargs)

    def _prepare_options(self: Any, options: Any) -> Any:
        return base._prepare_options(self, _compressed(options, self._tersely))

    return request, _prepare_options


def _ahooks(base: Any) -> tuple[Hook, ...]:
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        with one_request(self):
            return await base.request(self, *args, **kwargs)

    async def _prepare_options(self: Any, options: Any) -> Any:
        return await base._prepare_options(self, await _acompressed(options, self._tersely))

    return request, _prepare_options


def _copying(base: Any) -> Hook:
    @wraps(base.copy)
    def copy(self: Any, **changes: Any) -> Any:
        return _in(self._tersely, undressed(self).copy(**changes))

    return copy


def _compressed(options: Any, wrapping: Wrapping) -> Any:
    if (known := _from_earlier(options)) is not None:
        return known
    asked = Outgoing.of(options, wrapping)
    if asked is None:
        return options
    return _for_now(asked, wrapping.run(asked.body, asked.wishes, surface=asked.surface))


async def _acompressed(options: Any, wrapping: Wrapping) -> Any:
    if (known := _from_earlier(options)) is not None:
        return known
    asked = Outgoing.of(options, wrapping)
    if asked is None:
        return options
    return _for_now(asked, await wrapping.arun(asked.body, asked.wishes, surface=asked.surface))
