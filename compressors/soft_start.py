"""Where learning starts from: the keys and values, or the embeddings, of a text in fewer slots."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tersely.compressors.soft_attention import Look, looks
from tersely.compressors.soft_reading import Begun, length
from tersely.weights import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

Start = Literal["matched", "averaged", "first"]
"""How the slots are taken from the text, see `SoftTrainer`."""

SINK = 1
"""Tokens at the beginning that keep a slot each: a head that finds nothing looks at the first."""

RIDGE = 1e-3
"""How much what is fitted is held to what it was, in units of the mean of the squares."""

UNSEEN = 1e-4
"""The weight of a question by which a slot is not looked at, where 1 is looked at only."""


def keys_and_values(
    lm: CausalLM, full: Begun, count: int, how: Start, probes: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Keys and values in turn for each layer. Shape: (1, heads, count, width) each.

    `probes` are rows that go on from the full text. Raises ModelError for a model whose attention
    can't be taken.
    """
    if how == "first":
        return [part[:, :, :count].float() for pair in full for part in pair]
    return averaged(lm, full, count) if how == "averaged" else matched(lm, full, count, probes)


def vectors(
    lm: CausalLM,
    ids: Sequence[int],
    full: Begun,
    count: int,
    how: Start,
    probes: Sequence[Sequence[int]],
) -> Tensor:
    """Embeddings for the last `ids` of what was read in full. Shape: (count, hidden size)."""
    import torch

    with torch.no_grad():
        own: Tensor = lm.model.get_input_embeddings()(
            torch.tensor([*ids], device=lm.device)
        ).float()
    if how == "first":
        return own[:count]
    if how == "averaged":
        return torch.stack([own[one.start : one.stop].mean(0) for one in chunks(count, len(own))])
    return own[looked_at(lm, full, probes, after=length(full) - len(own), count=count)]


def averaged(lm: CausalLM, full: Begun, count: int) -> list[Tensor]:
    """The means of keys and of values over chunks of equal length.

    Keys are turned back from their positions, averaged, and turned to their slot's.
    """
    import torch

    parts = chunks(count, length(full))
    made: list[Tensor] = []
    for keys, values in full:
        plain = turned(lm, keys.float(), torch.arange(length(full)), back=True)
        made += [
            turned(lm, _means(plain, parts), torch.arange(count)),
            _means(values.float(), parts),
        ]
    return made


def matched(lm: CausalLM, full: Begun, count: int, probes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Keys and values at which the model's own queries find what they find in the full text.

    In each head the slots are the tokens that the probes look at most; keys and values are then
    fitted (see `_fitted`). Keys are turned so that they are as far from what follows as they were.
    """
    import torch

    made: list[Tensor] = []
    for (keys, values), heads in zip(full, looks(lm, full, probes), strict=True):
        fitted = [
            _fitted(keys[0, i].float(), values[0, i].float(), look, count)
            for i, look in enumerate(heads)
        ]
        nearer = torch.full((count,), count - length(full))
        stacked = torch.stack([keys for keys, _ in fitted])[None]
        made += [turned(lm, stacked, nearer), torch.stack([values for _, values in fitted])[None]]
    return made


def looked_at(
    lm: CausalLM, full: Begun, probes: Sequence[Sequence[int]], *, after: int, count: int
) -> list[int]:
    """The places of the tokens that probes look at most over all heads, counted from `after`."""
    import torch

    total = torch.zeros(length(full))
    for (keys, _), heads in zip(full, looks(lm, full, probes), strict=True):
        for i, look in enumerate(heads):
            total += _importance(look.shares(keys[0, i].float())).cpu()
    return sorted(total[after:].topk(count).indices.tolist())


def chunks(count: int, size: int) -> list[range]:
    """The places of each slot: the first ones alone, all others in chunks of equal length."""
    alone = min(SINK, count - 1)
    edges = np.linspace(alone, size, count - alone + 1).astype(int).tolist()
    return [*(range(i, i + 1) for i in range(alone)), *(range(a, b) for a, b in pairwise(edges))]


def turned(lm: CausalLM, keys: Tensor, by: Tensor, *, back: bool = False) -> Tensor:
    """Keys turned by some positions more, or less; as they are where a model turns none.

    Shape: (1, heads, tokens, width), (tokens,).
    """
    base = lm.model.base_model
    turn = _turn(base)
    if turn is None:
        return keys
    cos, sin = base.rotary_emb(keys, by[None].to(keys.device))
    size = (cos.square() + sin.square()).sqrt()  # some models make keys longer as they turn them
    cos, sin = cos / size, sin / size
    made: Tensor = turn(keys, keys, cos, -sin if back else sin)[1]
    return made


def _turn(base: Any) -> Any:
    """The function by which a model turns queries and keys, if it does."""
    if getattr(base, "rotary_emb", None) is None:
        return None
    return getattr(sys.modules[type(base).__module__], "apply_rotary_pos_emb", None)


def _means(part: Tensor, slots: Sequence[range]) -> Tensor:
    import torch

    return torch.stack([part[:, :, one.start : one.stop].mean(2) for one in slots], dim=2)


def _importance(shares: Tensor) -> Tensor:
    """How much each token is looked at; by few but hard counts more. Shape: (tokens,)."""
    return shares.square().mean(0)


def _fitted(keys: Tensor, values: Tensor, look: Look, count: int) -> tuple[Tensor, Tensor]:
    """The slots of one head.

    Each token belongs to the chosen one whose key is nearest. A slot's key is fitted so that it is
    looked at as much as all of its tokens together, by least squares over the logarithms, weighted
    by how much that is; then the values of all slots, so that the sum that a query finds is the
    same. Shape: (tokens, width) twice -> (count, width) twice.
    """
    import torch

    shares = look.shares(keys)
    chosen = _importance(shares).topk(count).indices.sort().values
    slots = keys[chosen].clone()
    nearest = torch.cdist(keys, slots).argmin(1)
    logs = look.queries @ keys.T
    for i in range(count):
        own = nearest == i
        if int(own.sum()) > 1:
            wanted = logs[:, own].logsumexp(-1)
            weight = shares[:, own].sum(-1) + UNSEEN
            slots[i] += _solved(look.queries, (wanted - look.queries @ slots[i])[:, None], weight)[
                :, 0
            ]
    found = look.shares(slots)
    kept = values[chosen]
    return slots, kept + _solved(found, shares @ values - found @ kept)


def _solved(given: Tensor, wanted: Tensor, weight: Tensor | None = None) -> Tensor:
    """By what to multiply, in the sense of least squares, near 0 where nothing is known."""
    import torch

    weighted = given if weight is None else given * weight[:, None]
    squares = weighted.T @ given
    ridge = RIDGE * squares.diagonal().mean() + torch.finfo(squares.dtype).tiny
    held = squares + ridge * torch.eye(len(squares), device=squares.device)
    made: Tensor = torch.linalg.solve(held, weighted.T @ wanted)
    return made
