"""Keep as many demonstrations as the question needs, and those nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from tersely.artefact import page
from tersely.compressors.controller import RECIPE, Choose, controller, nearness, ready
from tersely.compressors.prune import Pruner, apart
from tersely.contracts import Context
from tersely.errors import require
from tersely.models import resolve
from tersely.prompt import Kind, Prompt, Segment
from tersely.protect import fences
from tersely.select import FORCED, NEVER, Part
from tersely.units import Bools, Floats, Units, split, united


class DynaICL(Pruner):
    """Keeps the demonstrations nearest to the question, as many as it needs.

    A demonstration is what stands between blank lines in the texts of these `kinds`; it is kept
    or dropped whole, and the order stays. `controller` is the folder of a trained one
    (`tersely train shots`): it tells from the question how many are enough, and is `sure` of it
    with that probability. What it finds needless is dropped even when the budget has room for
    it, and without any budget. Without a controller as many are kept as the budget and `most`
    allow. A prompt that is within its budget is left alone.

    `choose` is how the nearest are found: by the `encoder`, by their words (no model), or `first`
    for the order in which they stand. A demonstration with a kept span in it always stays.

    What differs from the paper: the controller is a small network over a sentence encoder, not
    a tuned language model, and is not tuned further by reinforcement; the budget is that of each
    prompt, in tokens and exact, not shared out over a batch.
    """

    name = "dynaicl"
    paper = "Zhou et al. 2023, https://arxiv.org/abs/2305.11170"
    needs = frozenset({"question", "encoder"})

    kinds: tuple[Kind, ...] = ("example", "context")
    unit: Literal["paragraph"] = "paragraph"
    fill: None = None
    controller: str = ""
    sure: float = Field(default=0.5, gt=0, lt=1)
    most: int | None = Field(default=None, ge=0)
    choose: Choose = "nearest"
    encoder: str = "minilm"

    def ready(self) -> None:
        ready(self.choose, self.encoder)
        if self.controller:
            require("sentence_transformers", extra="rag")
            resolve(page(self.controller, RECIPE).model)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        texts = [text for one in units for text in one.texts]
        scores = nearness(texts, prompt.question, self.choose, self.encoder)
        return apart(scores, units)

    def needless(self, prompt: Prompt, context: Context) -> bool:
        if context.limit is None:
            return self._count(prompt) is None
        return super().needless(prompt, context)

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        """Each demonstration with its worth; those that are too many are barred."""
        parts = super().weighed([_whole(segment) for segment in segments], prompt, context)
        count = self._count(prompt)
        if count is None:
            return parts
        return [
            replace(part, ranks=np.where(kept, part.ranks, NEVER))
            for part, kept in zip(parts, _best(parts, count), strict=True)
        ]

    def _count(self, prompt: Prompt) -> int | None:
        """How many demonstrations may stay at most, if anything but the budget says."""
        bounds = [] if self.most is None else [self.most]
        if self.controller and prompt.question.strip():
            bounds += controller(self.controller).counts([prompt.question], self.sure)
        return min(bounds, default=None)


def _whole(segment: Segment) -> Segment:
    """The segment with its kept spans widened to the demonstrations that they lie in."""
    if not segment.spans:
        return segment
    units = split(segment.text, "paragraph", atoms=[*fences(segment.text), *segment.spans])
    held = units.touching(segment.spans)
    spans = list(zip(units.starts[held].tolist(), units.ends[held].tolist(), strict=True))
    return replace(segment, spans=tuple(united([*segment.spans, *spans])))


def _best(parts: Sequence[Part], count: int) -> list[Bools]:
    """The demonstrations of each text that are worth most, so many in all."""
    ranks = np.concatenate([part.ranks for part in parts])
    values = np.concatenate([part.values for part in parts])
    kept = ranks >= FORCED
    free = np.lexsort((-values, -ranks))
    free = free[~kept[free]]
    kept[free[: max(count - int(kept.sum()), 0)]] = True
    return np.split(kept, np.cumsum([len(part.units) for part in parts])[:-1])
