"""One request of a wrapped client, from its caller to the wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tersely.middleware.points import Points


@dataclass(slots=True)
class Memo:
    """The request under way: the body as it was given and as it is sent, and what is wished.

    The hook runs for every attempt. All send the same bytes, and the pipeline runs once. `client`
    is who asks, and `options` are the SDK's own for this call. `points` is None where the answer
    is not one that a plan could give.
    """

    client: Any
    given: Any = None
    sent: Mapping[str, Any] | None = None
    options: Any = None
    surface: str = ""
    points: Points | None = None


_memo: ContextVar[Memo | None] = ContextVar("tersely_request", default=None)


def under_way() -> Memo | None:
    """The request that is under way here."""
    return _memo.get()


@contextmanager
def one_request(client: Any) -> Iterator[None]:
    """What is sent inside is one request of this client."""
    token = _memo.set(Memo(client))
    try:
        yield
    finally:
        _memo.reset(token)
