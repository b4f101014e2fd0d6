"""Distil a model that has the full text into one that has a few vectors in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tersely.compressors.soft_reading import Begun, begun, logits
from tersely.soft import KVPrefix, SoftPrompt
from tersely.weights import CausalLM

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ParameterDict

NEAR = 16
"""Tokens by which rows of one batch may differ in length more than they must."""

LEAST = 1e-9
"""The least chance that is told apart from none."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A turn and its answer, with what the model that has the full text expects behind each token.

    Of its distribution the likeliest tokens are kept, and the rest as one. Shape: (tokens,),
    (tokens, kept) twice.
    """

    ids: tuple[int, ...]
    likeliest: Tensor
    chances: Tensor


def taught(
    lm: CausalLM, full: Begun, rows: Sequence[Sequence[int]], *, kept: int, batch: int
) -> Iterator[Lesson]:
    """What the model that has read the full text expects in each row, which it reads once."""
    import torch

    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for at in range(0, len(order), batch):
        some = [rows[i] for i in order[at : at + batch]]
        with torch.no_grad():
            read = logits(lm, full, some)
            best = [one.float().log_softmax(-1).topk(min(kept, one.shape[-1])) for one in read]
        for row, one in zip(some, best, strict=True):
            yield Lesson(tuple(row), one.indices.int().cpu(), one.values.exp().cpu())


def divergence(found: Sequence[Tensor], lessons: Sequence[Lesson]) -> Tensor:
    """The mean KL divergence from what was taught, in nats a token, to be learned from.

    Tokens of which the lesson knows only their sum count as one, which can but lower it.
    """
    import torch

    student = torch.cat(list(found)).float().log_softmax(-1)
    device = student.device
    likeliest = torch.cat([one.likeliest for one in lessons]).to(device).long()
    chances = torch.cat([one.chances for one in lessons]).to(device)
    reached = student.gather(-1, likeliest)
    other = (1 - chances.sum(-1)).clamp(min=LEAST)
    others = (1 - reached.exp().sum(-1)).clamp(min=LEAST)
    alike = (chances * (chances.clamp(min=LEAST).log() - reached)).sum(-1)
    return (alike + other * (other.log() - others.log())).mean()


@dataclass(frozen=True, slots=True, eq=False)
class Student:
    """What stands in the place of a text while it is learned.

    It is a start, and steps away from it in units of how large the values of each channel are, so
    that one rate is right for keys and values of all layers. Vectors stand behind `before`.
    """

    lm: CausalLM
    start: tuple[Tensor, ...]
    module: ParameterDict
    before: tuple[int, ...] | None = None

    @classmethod
    def new(
        cls, lm: CausalLM, start: Sequence[Tensor], before: Sequence[int] | None = None
    ) -> Student:
        """One that has learned nothing: keys and values in turn, or vectors behind `before`."""
        import torch
        from torch.nn import Parameter, ParameterDict

        plain = tuple(part.detach().to(lm.device, torch.float32) for part in start)
        named = {str(i): Parameter(torch.zeros_like(part)) for i, part in enumerate(plain)}
        return cls(lm, plain, ParameterDict(named), None if before is None else tuple(before))

    def begun(self) -> Begun:
        """What the model reads on from; gradients reach what is learned."""
        parts = self._parts()
        if self.before is not None:
            return begun(self.lm, self.before, parts[0])
        return list(zip(parts[::2], parts[1::2], strict=True))

    def loss(self, lessons: Sequence[Lesson]) -> Tensor:
        """The mean divergence from what was taught, to be learned from."""
        return divergence(logits(self.lm, self.begun(), [one.ids for one in lessons]), lessons)

    def far(self, batches: Sequence[Sequence[Lesson]]) -> float:
        """The mean divergence in lessons that it does not learn from."""
        import torch

        with torch.no_grad():
            sums = [float(self.loss(some)) * sum(len(one.ids) for one in some) for some in batches]
        return sum(sums) / sum(len(one.ids) for some in batches for one in some)

    def soft(self, model: str) -> KVPrefix | SoftPrompt:
        """What was learned, in the precision that the model reads."""
        parts = [part.detach().to(self.lm.dtype) for part in self._parts()]
        if self.before is not None:
            return SoftPrompt(parts[0], model)
        return KVPrefix([(k[0], v[0]) for k, v in zip(parts[::2], parts[1::2], strict=True)], model)

    def _parts(self) -> list[Tensor]:
        return [part + _sizes(part) * self.module[str(i)] for i, part in enumerate(self.start)]


def _sizes(part: Tensor) -> Tensor:
    """How large each channel is. Shape: (..., tokens, width) -> (..., 1, width)."""
    return part.square().mean(dim=-2, keepdim=True).sqrt()


def batches(sizes: Sequence[int], batch: int, seed: Sequence[int]) -> list[list[int]]:
    """All rows once, those of like length together, in an order by the seed."""
    draw = np.random.default_rng(list(seed))
    order = np.argsort(np.array(sizes) + draw.uniform(0, NEAR, len(sizes)), kind="stable")
    cut = [order[at : at + batch].tolist() for at in range(0, len(order), batch)]
    return [cut[i] for i in draw.permutation(len(cut)).tolist()]
