"""Prompts that begin alike: what they share is read once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from tersely.backends.places import Places, inputs
from tersely.weights import CausalLM, caching, empty_cache, keeps


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each keeps one of its own, to go on from."""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    shortest = min((len(prompt) for prompt in prompts), default=0)
    return max(min(sum(1 for _ in alike), shortest - 1), 0)


def can_share(lm: CausalLM) -> bool:
    """Whether rows of different lengths may follow what this model has read once.

    Padding then stands in the midst of a row. A mask hides it from plain attention; a window or
    a recurrent state would count it.
    """
    return keeps(lm, {"DynamicLayer"})


def can_pad(lm: CausalLM) -> bool:
    """Whether rows of different lengths may be read side by side; with a state they may not."""
    return keeps(lm, {"DynamicLayer", "DynamicSlidingWindowLayer"})


def prefilled(lm: CausalLM, tokens: Sequence[int], rows: int, given: Places | None = None) -> Any:
    """A cache in which each row has read `tokens`; they are computed once.

    Raises what the model raises.
    """
    import torch

    cache = empty_cache(lm)
    with torch.inference_mode():
        read = inputs(lm, [tokens], given or Places())
        lm.model(**read, logits_to_keep=1, **caching(lm.model, cache))
        cache.batch_repeat_interleave(rows)
    return cache
