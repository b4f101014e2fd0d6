"""A ratio for each text: what the caller holds dear is cut less."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated

from pydantic import Field

from tersely.compressors.holding import Holding, Recipe, through
from tersely.contracts import Context, Stage
from tersely.prompt import KINDS, Prompt, Segment
from tersely.report import spell

Ratio = Annotated[float, Field(gt=0, le=1)]


class Ratios(Holding):
    """Any recipe, with a ratio for each text: what is dear is cut less than the rest.

    `by` maps a kind, or a path as reports spell it (`messages[3].content`; `*` and `?` stand for
    anything, and a path holds for all that lies below it), to the share of its tokens that a
    text keeps; the first that matches holds. `ratio` is for all others; without it they are
    left to the budget of the prompt. Each text is compressed by itself, in the order of the
    prompt, to exactly its share. If the prompt is over its budget still, the recipe then cuts
    all of it to that. A prompt within its budget is left alone, as everywhere; where no budget
    is set the ratios alone hold.
    """

    name = "ratios"

    recipe: Recipe = Field(default="lexical", validate_default=True)
    ratio: Ratio | None = None
    by: Mapping[str, Ratio] = {}

    @property
    def held(self) -> tuple[Stage, ...]:
        return (self.recipe,)

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        if context.limit is not None and context.tokens(prompt) <= context.limit:
            return prompt
        for place, ratio in self._shares(prompt):
            context.check()
            limit = _limit(prompt, place, ratio, context)
            prompt = through(self.recipe, prompt, context.within(limit), [place])
        if context.limit is None or context.tokens(prompt) <= context.limit:
            return prompt
        return through(self.recipe, prompt, context, prompt.open)

    def _shares(self, prompt: Prompt) -> Iterator[tuple[int, float]]:
        """The texts that have a ratio of their own, in order."""
        for place in prompt.open:
            ratio = self._ratio_of(prompt.segments[place])
            if ratio is not None and ratio < 1:
                yield place, ratio

    def _ratio_of(self, segment: Segment) -> float | None:
        path = spell(segment.path)
        for pattern, ratio in self.by.items():
            if segment.kind == pattern if pattern in KINDS else _path(pattern).fullmatch(path):
                return ratio
        return self.ratio


def _limit(prompt: Prompt, place: int, ratio: float, context: Context) -> int:
    """What the whole prompt may have when one text keeps this share of its tokens."""
    total = context.tokens(prompt)
    part = total - context.tokens(prompt.with_texts({place: ""}))
    return total - part + int(part * ratio)


@cache
def _path(pattern: str) -> re.Pattern[str]:
    """A path as people write it; brackets stand for themselves."""
    wild = {"*": ".*", "?": "."}
    spelled = "".join(wild.get(sign) or re.escape(sign) for sign in pattern)
    return re.compile(rf"(?:{spelled})(?:[.\[].*)?", re.DOTALL)
