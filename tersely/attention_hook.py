"""A place before transformers' own attention, for all who watch it or do it faster."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

Attend = Callable[..., Any]


@cache
def stand_before(before: Callable[[Attend], Attend]) -> None:
    """Put before transformers' attention what `before` makes of it, once for each.

    A model's own setting keeps the name it asks for.
    """
    from transformers import AttentionInterface

    interface: Any = AttentionInterface
    interface.register("sdpa", before(interface()["sdpa"]))
