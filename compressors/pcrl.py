"""Keep the words that a policy, taught by a model's own answers, would keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log
from typing import Literal

import numpy as np
from pydantic import Field

from tersely.compressors.policy import labels, policy_at, pooled, require_policy
from tersely.compressors.prune import Pruner
from tersely.contracts import Context
from tersely.prompt import Kind, Prompt, Segment, Span
from tersely.select import NEVER, Part
from tersely.units import Bools, Floats, Ints, Units

HEAD = "words"
"""The policy's only head."""


class PCRL(Pruner):
    """PCRL: keeps the words that a policy learned to keep from a model's answers.

    `policy` is the folder of a trained artefact (`tersely train policy`). Under a budget the
    words with the highest chance of being kept stay; without one the policy decides by itself:
    words that it would keep with a chance of less than `threshold` go.

    What differs from the paper: words are kept or dropped rather than the encoder's tokens, the
    encoder is a sentence encoder, facts and negations are no matter of choice, as are the labels
    of a prompt's parts, and a budget is met exactly.
    """

    name = "pcrl"
    needs = frozenset({"encoder"})
    paper = "Jung and Kim 2023, https://arxiv.org/abs/2308.08758"

    kinds: tuple[Kind, ...] = ("instruction", "context")
    unit: Literal["word"] = "word"
    policy: str = ""
    threshold: float = Field(default=0.5, gt=0, lt=1)

    def ready(self) -> None:
        require_policy(self.policy, self.name, "policy")

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        self.ready()
        policy = policy_at(self.policy, self.name)
        read = pooled(units, policy.encoder, context)
        return [policy.log_odds(HEAD, one.states) for one in read]

    def ranks(self, units: Units, facts: Sequence[Span]) -> Ints:
        """Facts, negations and labels go before all others."""
        return fixed(units, facts).astype(np.int64)

    def needless(self, prompt: Prompt, context: Context) -> bool:
        """Without a budget there still is the policy's own decision."""
        return context.limit is not None and super().needless(prompt, context)

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        """Without a budget, what the policy would not keep is barred."""
        parts = super().weighed(segments, prompt, context)
        if context.limit is not None:
            return parts
        edge = log(self.threshold / (1 - self.threshold))
        return [
            replace(one, ranks=np.where((one.ranks == 0) & (one.values < edge), NEVER, one.ranks))
            for one in parts
        ]


def fixed(units: Units, facts: Sequence[Span]) -> Bools:
    """Which words are no matter of choice. Shape: (units,)."""
    return units.touching([*facts, *labels(units.text)])
