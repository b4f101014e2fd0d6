"""Tokens that were there before made less likely."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def penalised(scores: Tensor, seen: Collection[int], penalty: float) -> Tensor:
    """The scores, where what was seen has lost by a penalty above 1, and won by one below 1.

    Scores above 0 are divided by it, others multiplied. Shape: vocabulary. Ids that are none of
    the vocabulary are passed over. Keskar et al. 2019, https://arxiv.org/abs/1909.05858
    """
    import torch

    known = [token for token in seen if 0 <= token < len(scores)]
    at = torch.tensor(known, dtype=torch.long, device=scores.device)
    old = scores[at]
    return scores.index_copy(0, at, torch.where(old < 0, old * penalty, old / penalty))
