"""What every method has to beat: nothing, cutting the end off, and chance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tersely.compressors.prune import Pruner
from tersely.contracts import Context, StageModel
from tersely.prompt import Prompt, Span
from tersely.units import Floats, Ints, Unit, Units


class Nothing(StageModel):
    """Leaves every text as it is."""

    name = "none"

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        return prompt


class Truncate(Pruner):
    """Keeps the beginning of every text, the same share of each, and drops the rest.

    A code block or a fact that does not fit is left out whole, and what follows it fills the
    budget.
    """

    name = "truncate"

    unit: Unit = "word"

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        return [-one.starts / max(len(one.text), 1) for one in units]

    def ranks(self, units: Units, facts: Sequence[Span]) -> Ints:
        """Nothing goes before position."""
        return np.zeros(len(units), np.int64)


class Random(Pruner):
    """Drops units by chance, the same ones for the same text and seed."""

    name = "random"

    unit: Unit = "word"

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        return [_chances(one, context.seed) for one in units]

    def ranks(self, units: Units, facts: Sequence[Span]) -> Ints:
        """Chance alone decides."""
        return np.zeros(len(units), np.int64)


def _chances(units: Units, seed: int) -> Floats:
    """A number below 1 for each unit, drawn from the text itself."""
    content = hashlib.blake2b(units.text.encode(errors="surrogatepass"), digest_size=8).digest()
    return np.random.default_rng([seed, *content]).random(len(units))
