"""The body that the stages share which compress a text by what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Protocol

from tersely.contracts import Context, StageModel
from tersely.forms import Form, form_of
from tersely.named import Named, Naming
from tersely.prompt import Kind, Prompt, Segment
from tersely.select import settled

TRIES = 5
"""Sizes that are tried between losing nothing and all that may go."""

LEAP = 1e-9
"""A share that is more than nothing."""

CLOSE = 0.97
"""A size of this share of the limit is near enough to it."""


class Folding(Protocol):
    """A text that was taken apart, and can be written with less and less of it."""

    def text(self, share: float) -> str:
        """The text without this share, by characters, of what may go.

        At 0 nothing is lost; at 1 only what has to stay is left.
        """
        ...


class Structured(StageModel):
    """Base of the stages that take a text apart by its form and write it shorter.

    A stage gives `fold`. First every text is written so that nothing is lost. If that is not short
    enough for the budget, all texts lose the same share of what may go, counted exactly. Rows,
    lines and strings that the question, or the call of the tool, names never go. What a stage
    can't read it leaves as it is, so a wrong guess does no harm. Without a budget, or with
    `lossless`, nothing is lost.
    """

    kinds: tuple[Kind, ...] = ("json", "log", "table", "code", "tool_output", "context")
    lossless: bool = False

    forms: ClassVar[frozenset[Form]]
    """The forms that it reads."""

    lossy: ClassVar[bool] = False
    """Whether a text of this form can't be written shorter without loss."""

    leap: ClassVar[bool] = False
    """Whether a text loses much at once, so that it may do before anything else goes."""

    def recognises(self, text: str) -> bool:
        """Whether a text looks as if it were of this stage's form."""
        return form_of(text) in self.forms

    def fold(self, text: str, asked: Named) -> Folding | None:
        """The text taken apart, which looks right; None where it can't be read after all."""
        raise NotImplementedError

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        if self.lossy and (self.lossless or context.limit is None):
            return prompt
        within = context.limit is not None and context.tokens(prompt) <= context.limit
        if within and not self.lossless:
            return prompt
        foldings: dict[int, Folding] = {}
        names = Naming(prompt)
        for i in prompt.open:
            context.check()
            segment = prompt.segments[i]
            if not self.recognises(segment.text):
                continue
            if made := self.fold(segment.text, names.at(segment.turn)):
                foldings[i] = made
        whole = _written(prompt, foldings, context, 0.0)
        if self.lossless or context.limit is None or context.tokens(whole) <= context.limit:
            return whole
        if self.leap:
            leapt = _written(prompt, foldings, context, LEAP)
            if context.tokens(leapt) <= context.limit:
                return leapt
        return _fitted(prompt, foldings, context, context.tokens(whole))


def _fitted(prompt: Prompt, foldings: Mapping[int, Folding], context: Context, most: int) -> Prompt:
    """The prompt with as much of the texts as the limit allows, or as little as has to stay."""
    limit = context.limit or 0
    best = _written(prompt, foldings, context, 1.0)
    least = context.tokens(best)
    low, high = 0.0, 1.0
    for _ in range(TRIES):
        if least >= limit * CLOSE or most <= least:
            break
        context.check()
        share = low + (high - low) * (most - limit * (1 + CLOSE) / 2) / (most - least)
        made = _written(prompt, foldings, context, share)
        size = context.tokens(made)
        if size <= limit:
            best, high, least = made, share, size
        else:
            low, most = share, size
    return best


def _written(
    prompt: Prompt, foldings: Mapping[int, Folding], context: Context, share: float
) -> Prompt:
    """The prompt with its texts written anew, where that is shorter and keeps what must stay."""
    made: dict[int, Segment] = {}
    for i, folding in foldings.items():
        old = prompt.segments[i]
        new = old.changed(folding.text(share))
        if new.text != old.text and len(new.spans) == len(old.spans):
            made[i] = replace(new, origins=None)
    return settled(prompt, prompt.with_segments(made), context)
