"""Wishes of a request that a backend must grant or refuse: the answer is another one without."""

from __future__ import annotations

from collections.abc import Collection

from tersely.contracts import Capability, Request
from tersely.errors import ConfigError
from tersely.soft import KVPrefix


def wishes(request: Request) -> list[Capability]:
    """The capabilities that a backend needs to keep to what a request asks of the answer."""
    asked: dict[Capability, bool] = {
        "grammar": bool(request.grammar.strip()),
        "repetition_penalty": request.repetition_penalty != 1,
        "embeds": any(
            one.kind == "soft" and not isinstance(one.soft, KVPrefix)
            for one in request.prompt.segments
        ),
        "kv_prefix": request.prefix is not None,
        "models": bool(request.model),
    }
    return [wish for wish, wanted in asked.items() if wanted]


CALLED: dict[Capability, str] = {"embeds": "soft segments"}
"""What a wish is in a request, where that has another name."""


def refuse_unable(
    request: Request, able: Collection[Capability], *, mend: str = "use the local backend"
) -> None:
    """Raise ConfigError when a backend that is `able` to do this can't do what is asked.

    `mend` is what the user may do instead. Values are not looked at.
    """
    for wish in wishes(request):
        if wish not in able:
            raise ConfigError(
                f"this backend has no {wish}: {mend}, or leave {CALLED.get(wish, wish)} out of the"
                " request"
            )
