"""Texts that one model reads side by side, and goes on reading token by token."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from tersely.backends.places import Places, inputs
from tersely.backends.prefix import prefilled
from tersely.weights import CausalLM, caching, empty_cache

if TYPE_CHECKING:
    from torch import Tensor


class Rows:
    """Prompts in one batch, padded on the left, with one cache.

    The first `shared` tokens, in which all prompts are alike, are read once for all (see
    `prefix`). `read` counts the prompt tokens that are computed, padding left out.
    """

    def __init__(
        self,
        lm: CausalLM,
        prompts: Sequence[Sequence[int]],
        shared: int = 0,
        given: Places | None = None,
    ) -> None:
        import torch

        self.lm = lm
        own = [prompt[shared:] for prompt in prompts]
        self.read = shared + sum(len(prompt) for prompt in own)
        longest = max(len(prompt) for prompt in own)
        padding = [longest - len(prompt) for prompt in own]
        rows = [[0] * pad + [*prompt] for pad, prompt in zip(padding, own, strict=True)]
        given = given or Places()
        self._new = inputs(lm, rows, given)
        self._width = longest
        self._padded = any(padding)  # else no mask: models with a state would multiply by it
        starts = torch.tensor(padding, device=lm.device).unsqueeze(1)
        mask = (torch.arange(longest, device=lm.device) >= starts).long()
        self._mask = torch.cat([mask.new_ones(len(own), shared), mask], dim=1)
        begin = prompts[0][:shared]
        self._cache = prefilled(lm, begin, len(own), given) if shared else empty_cache(lm)
        self._takes_positions = takes_positions(lm)

    def scores(self) -> Tensor:
        """Read what was added; the scores of the next token. Shape: rows x vocabulary, float32.

        Raises what the model raises.
        """
        options: dict[str, Any] = {}
        if self._takes_positions:
            positions = (self._mask.cumsum(1) - 1).clamp(min=0)
            options["position_ids"] = positions[:, -self._width :]
        made = self.lm.model(
            **self._new,
            attention_mask=self._mask if self._padded else None,
            logits_to_keep=1,
            **caching(self.lm.model, self._cache),
            **options,
        )
        last: Tensor = made.logits[:, -1].float()
        return last

    def add(self, tokens: Tensor) -> None:
        """Add one token to each row. Shape: rows."""
        import torch

        self._new, self._width = {"input_ids": tokens.unsqueeze(1)}, 1
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        import torch

        kept = torch.tensor(rows, device=self.lm.device)
        self._cache.batch_select_indices(kept)
        self._new = {name: part[kept] for name, part in self._new.items()}
        self._mask = self._mask[kept]


def takes_positions(lm: CausalLM) -> bool:
    """Whether a model is told where each token stands; others see it by the mask."""
    return "position_ids" in signature(lm.model.forward).parameters
