"""Attention of a few tokens to many, in the shape in which a CPU does it fastest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tersely.attention_hook import stand_before

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FEW = 16
"""Tokens a row that are read at once: one in an ordinary step, several where some are guessed."""

LEAST = 4
"""Half-precision kernels take three times as long for one query as for so many."""

BEYOND = ("position_bias", "s_aux", "sinks", "softcap", "output_attentions")
"""What a model may want of its attention that is left to transformers' own."""

_here = threading.local()


@contextmanager
def grouped(device: torch.device) -> Iterator[None]:
    """Let this thread's models group their queries, on a CPU.

    Query heads that share keys and values become queries of one head: nothing is copied, and all
    are answered in one pass over the keys. The rounding differs; other threads calculate as ever,
    to the last bit.
    """
    if device.type == "cpu":
        stand_before(_before)
    _here.on = True
    try:
        yield
    finally:
        _here.on = False


def _before(theirs: Callable[..., Any]) -> Callable[..., Any]:
    def attend(  # as transformers calls it
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any = None, **given: Any
    ) -> tuple[Tensor, Any]:
        if getattr(_here, "on", False) and _groups(query, key, mask, given):
            return attended(query, key, value, mask, given.get("scaling")), None
        done: tuple[Tensor, Any] = theirs(module, query, key, value, mask, **given)
        return done

    return attend


def _groups(query: Tensor, key: Tensor, mask: Tensor | None, given: dict[str, Any]) -> bool:
    """Whether queries can be grouped: few of them, on a CPU, all heads under one mask."""
    few = query.shape[2] <= FEW and query.device.type == "cpu"
    free = query.shape[2] == 1 if mask is None else mask.shape[1] == 1
    bare = not given.get("dropout") and not any(given.get(name) for name in BEYOND)
    return few and free and bare and query.shape[1] % key.shape[1] == 0


def attended(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """What the queries find. Shape: rows x tokens x heads x width.

    Queries: rows x heads x tokens x width. Keys and values: rows x their heads x columns x width.
    Mask: rows or 1 x 1 x tokens x columns, and none only for one token.
    """
    from torch.nn.functional import scaled_dot_product_attention as attend

    rows, heads, tokens, width = query.shape
    groups = heads // key.shape[1]
    queries = query.reshape(rows, key.shape[1], groups * tokens, width)
    if tokens > 1 and mask is not None and groups > 1:
        mask = mask.repeat(1, 1, groups, 1)
    if tokens == 1 and groups < LEAST and query.dtype.itemsize < 4:
        queries = queries.repeat(1, 1, -(-LEAST // groups), 1)
    found = attend(queries, key, value, attn_mask=mask, scale=scale)[:, :, : groups * tokens]
    return found.reshape(rows, heads, tokens, value.shape[3]).transpose(1, 2).contiguous()
