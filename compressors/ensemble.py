"""Several pruners say together what is worth keeping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, PlainValidator, model_validator

from tersely.ahead import Given, ReadsAhead, can_read_ahead
from tersely.compressors.holding import SCHEMA, WRITTEN, Holding
from tersely.compressors.prune import Pruner
from tersely.contracts import Context
from tersely.lexical import standardised
from tersely.prompt import Prompt, Segment
from tersely.registry import as_stage
from tersely.select import Part
from tersely.units import Floats, Ints, Units


def _pruner(source: Any) -> Pruner:
    found = as_stage(source)
    if not isinstance(found, Pruner):
        named = getattr(found, "name", type(found).__name__)
        raise ValueError(f"{named} gives no values to units of text: an ensemble holds pruners")
    return found


Voter = Annotated[Pruner, PlainValidator(_pruner), WRITTEN, SCHEMA]
"""A pruner as a setting, given as any stage is."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Ensemble(Holding, Pruner):
    """Keeps what several pruners together hold to be worth most, each with a weight.

    Texts are cut as the first recipe cuts them. The values that each recipe gives are brought
    to mean 0 and deviation 1 over all texts and added up, times `weights` (none: all count the
    same). Where a recipe cuts otherwise, a unit is worth the mean over its characters. What one
    of the recipes keeps before all values, the whole of a unit, is kept so here. `kinds`,
    `fill` and `order` are those of the first recipe unless they are set.
    """

    name = "ensemble"

    recipes: tuple[Voter, ...] = Field(
        default=("lexical", "truncate"), validate_default=True, min_length=1
    )
    weights: tuple[Weight, ...] = ()

    @property
    def held(self) -> tuple[Pruner, ...]:
        return self.recipes

    def followed(self) -> Mapping[str, Any]:
        return {name: getattr(self.recipes[0], name) for name in Pruner.model_fields}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.weights and len(self.weights) != len(self.recipes):
            raise ValueError(f"weights: {len(self.recipes)} recipes have {len(self.weights)}")
        if self.weights and not any(self.weights):
            raise ValueError("weights: one of them must be above 0")
        if self.unit != self.recipes[0].unit:
            raise ValueError(f"unit: it is the first recipe's, {self.recipes[0].unit!r}")
        return self

    @property
    def reads_ahead(self) -> bool:
        """Whether a recipe's model can read for several prompts together."""
        return can_read_ahead(self.recipes)

    def ahead(self, given: Sequence[Given], /) -> None:
        """Have each recipe read that can."""
        needed = [(prompt, own) for prompt, own in given if not self.needless(prompt, own)]
        for one in self.recipes:
            if isinstance(one, ReadsAhead) and needed:
                one.ahead(needed)

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        """The units of the first recipe, with what all of them say about each."""
        votes = [one.weighed(segments, prompt, context) for one in self.recipes]
        units = [part.units for part in votes[0]]
        sizes = np.cumsum([len(one) for one in units])
        values = np.zeros(int(sizes[-1]) if len(sizes) else 0)
        ranks = np.full(len(values), np.iinfo(np.int64).min)
        for vote, weight in zip(votes, self.weights or [1.0] * len(votes), strict=True):
            mapped = [onto(part, one) for part, one in zip(vote, units, strict=True)]
            if mapped:
                values += weight * standardised(finite(np.concatenate([v for v, _ in mapped])))
                ranks = np.maximum(ranks, np.concatenate([r for _, r in mapped]))
        cuts = sizes[:-1]
        return [
            Part(units=one, values=worth, ranks=rank)
            for one, worth, rank in zip(
                units, np.split(values, cuts), np.split(ranks, cuts), strict=True
            )
        ]


def onto(part: Part, units: Units) -> tuple[Floats, Ints]:
    """What a part says about other units of the same text.

    The value is the mean over the characters that it covers, 0 where it covers none; the rank
    is the lowest of them. Shape: (units,) each.
    """
    mine = part.units
    if np.array_equal(mine.starts, units.starts) and np.array_equal(mine.ends, units.ends):
        return finite(part.values), part.ranks
    if not len(units):
        return np.zeros(0), np.zeros(0, np.int64)
    lengths = mine.ends - mine.starts
    owner = np.repeat(np.arange(len(mine)), lengths)
    places = np.arange(len(owner)) + (mine.ends - np.cumsum(lengths))[owner]
    covered = np.zeros(len(units.text) + 1)
    covered[places] = 1
    worth = np.zeros(len(covered))
    worth[places] = finite(part.values)[owner]
    top = np.iinfo(np.int64).max
    rank = np.full(len(covered), top)
    rank[places] = part.ranks[owner]
    bounds = np.column_stack((units.starts, units.ends)).ravel()
    amount = np.add.reduceat(covered, bounds)[::2]
    lowest = np.minimum.reduceat(rank, bounds)[::2]
    means = np.add.reduceat(worth, bounds)[::2] / np.maximum(amount, 1)
    return means, np.where(lowest == top, 0, lowest)


def finite(values: Floats) -> Floats:
    """The values with infinite ones as far out as the farthest of the others; no value is 0."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    return np.nan_to_num(values, nan=0.0, posinf=high, neginf=low)
