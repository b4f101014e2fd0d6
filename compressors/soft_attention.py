"""What a model's queries look at while it reads on: taken from its own attention, in any model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tersely.attention_hook import stand_before
from tersely.compressors.soft_reading import Begun, length, logits
from tersely.errors import ModelError
from tersely.weights import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

MOST = 8192
"""Queries of a head that are kept; more say little that is new."""

_here = threading.local()


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """The queries that look at one head's keys, scaled, and how much else they look at.

    `own` is the logarithm of the sum over what stands behind the beginning. Shape:
    (queries, width), (queries,).
    """

    queries: Tensor
    own: Tensor

    def shares(self, keys: Tensor) -> Tensor:
        """The attention that each key of a beginning gets. Shape: (queries, keys)."""
        import torch

        logs = self.queries @ keys.T
        every = torch.logaddexp(logs.logsumexp(-1), self.own)
        return (logs - every[:, None]).exp()


def looks(lm: CausalLM, full: Begun, probes: Sequence[Sequence[int]]) -> list[list[Look]]:
    """For each layer and head of keys, what looks at it while the model reads on with each probe.

    Raises ModelError for a model whose attention is not transformers' own.
    """
    import torch

    seen: list[list[tuple[Look, ...]]] = [[] for _ in full]
    for probe in probes:
        with torch.inference_mode(), _watching() as calls:
            logits(lm, full, [probe])
        if len(calls) != len(full):
            raise ModelError(
                f"attention can't be taken from {lm.model.config.model_type!r} models:"
                " take another start"
            )
        for heads, call in zip(seen, calls, strict=True):
            heads.append(tuple(_by_head(*call, length(full))))
    return [[_joined(parts) for parts in zip(*heads, strict=True)] for heads in seen]


def _by_head(queries: Tensor, keys: Tensor, scale: float, begun: int) -> Iterator[Look]:
    """The queries at each head of keys. Shape: (1, heads, tokens, width) twice."""
    import torch

    shared, size = queries.shape[1] // keys.shape[1], queries.shape[2]
    later = torch.ones(size, size, dtype=torch.bool, device=keys.device).triu(1)
    for head in range(keys.shape[1]):
        asking = queries[0, head * shared : (head + 1) * shared].float() * scale
        own = (asking @ keys[0, head, begun:].float().T).masked_fill(later, float("-inf"))
        yield Look(asking.flatten(0, 1), own.logsumexp(-1).flatten())


def _joined(parts: Sequence[Look]) -> Look:
    """The looks of all probes, evenly thinned out where they are many."""
    import torch

    queries, own = torch.cat([one.queries for one in parts]), torch.cat([one.own for one in parts])
    every = -(-len(own) // MOST)
    return Look(queries[::every], own[::every])


@contextmanager
def _watching() -> Iterator[list[tuple[Tensor, Tensor, float]]]:
    """The queries, keys and scale of each attention that this thread calculates."""
    stand_before(_before)
    _here.calls = []
    try:
        yield _here.calls
    finally:
        _here.calls = None


def _before(theirs: Callable[..., Any]) -> Callable[..., Any]:
    def attend(module: Any, query: Tensor, key: Tensor, *given: Any, **named: Any) -> Any:
        calls = getattr(_here, "calls", None)
        if calls is not None:
            calls.append((query, key, named.get("scaling") or query.shape[-1] ** -0.5))
        return theirs(module, query, key, *given, **named)

    return attend
