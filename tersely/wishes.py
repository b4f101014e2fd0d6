"""Wishes of a request that a backend must grant or refuse: the answer is another one without."""

from __future__ import annotations

from collections.abc import Collection

from tersely.contracts import Capability, Request
from tersely.errors import ConfigError


def wishes(request: Request) -> list[Capability]:
    """The capabilities that a backend needs to keep to what a request asks of the answer."""
    asked: dict[Capability, bool] = {
        "grammar": bool(request.grammar.strip()),
        "repetition_penalty": request.repetition_penalty != 1,
        "models": bool(request.model),
    }
    return [wish for wish, wanted in asked.items() if wanted]


def refuse_unable(
    request: Request, able: Collection[Capability], *, mend: str = "use the local backend"
) -> None:
    """Raise ConfigError when a backend that is `able` to do this can't do what is asked.

    `mend` is what the user may do instead. Values are not looked at.
    """
    for wish in wishes(request):
        if wish not in able:
            raise ConfigError(
                f"this backend has no {wish}: {mend}, or leave {wish} out of the request"
            )
