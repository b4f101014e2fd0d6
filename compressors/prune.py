"""The body that all pruners share: cut into units, value them, keep the best that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersely.ahead import Given
from tersely.contracts import Context, StageModel
from tersely.errors import require
from tersely.kinds import prose
from tersely.models import resolve
from tersely.order import Order, arrangement
from tersely.prompt import Prompt, Segment, Span
from tersely.protect import fences, protected
from tersely.select import FORCED, Part, pack
from tersely.units import Floats, Ints, Unit, Units, split

FINE: frozenset[Unit] = frozenset({"token", "word", "phrase"})
"""Units at which a sentence is taken apart, so that facts in it need protection."""


class Pruner(StageModel):
    """Base of the stages that drop units of text and change nothing else.

    A method is a scorer, a unit and a selection. A recipe gives the scorer (`values`); the unit
    is a setting; selection is exact packing under the budget. Below the sentence, facts are
    never cut and go last (see `tersely.protect`); code blocks are never cut at all, and JSON is
    left alone. Without a budget nothing is dropped.

    `fill` is the unit in which the best sentence that no longer fits is begun, so that the
    budget is used; None leaves it out, for whole sentences only. `order` is how the documents
    (paragraphs) of one text follow each other when something of it was dropped.
    """

    unit: Unit = "sentence"
    fill: Unit | None = "word"
    order: Order = "kept"

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        """What each unit of each text is worth: the best are kept. Shape: (units,) each."""
        raise NotImplementedError

    def ranks(self, units: Units, facts: Sequence[Span]) -> Ints:
        """What goes before all values; here facts, below the sentence. Shape: (units,)."""
        if self.unit not in FINE:
            return np.zeros(len(units), np.int64)
        return units.touching(facts).astype(np.int64)

    def marks(self, segment: Segment, facts: Sequence[Span]) -> Sequence[Span]:
        """Spans that are units by themselves; here what the caller marked."""
        return segment.spans

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        """Each segment cut into units, with their values and ranks."""
        facts = [self._whole(segment) for segment in segments]
        units = self.cut(segments, facts)
        values = self.values(units, prompt, context)
        ranks = [self.ranks(one, spans) for one, spans in zip(units, facts, strict=True)]
        return [
            Part(units=one, values=worth, ranks=_forced(rank, one, segment))
            for one, worth, rank, segment in zip(units, values, ranks, segments, strict=True)
        ]

    def cut(self, segments: Sequence[Segment], facts: Sequence[Sequence[Span]]) -> list[Units]:
        """Each segment in units, none of which cuts a fact."""
        return [
            split(segment.text, self.unit, atoms=spans, marked=self.marks(segment, spans))
            for segment, spans in zip(segments, facts, strict=True)
        ]

    def needless(self, prompt: Prompt, context: Context) -> bool:
        """Whether nothing has to be dropped."""
        return context.limit is None or context.tokens(prompt) <= context.limit

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        if self.needless(prompt, context):
            return prompt
        reach = prose(prompt)
        if not reach:
            return prompt
        weighed = self.weighed([prompt.segments[i] for i in reach], prompt, context)
        parts = [replace(part, arrangement=arrangement(part.units, self.order)) for part in weighed]
        return pack(prompt, dict(zip(reach, parts, strict=True)), context, finer=self.fill)

    def _whole(self, segment: Segment) -> list[Span]:
        """What must not be cut in a text."""
        return protected(segment.text) if self.unit in FINE else fences(segment.text)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The texts of a prompt that are to be valued."""

    segments: Sequence[Segment]
    prompt: Prompt
    context: Context

    @property
    def texts(self) -> list[str]:
        return [segment.text for segment in self.segments]


class Foreseeing(Pruner):
    """Base of the pruners whose model can read for several prompts together.

    A recipe says in `read_for` what that is; what was read has to be remembered.
    """

    def ahead(self, given: Sequence[Given], /) -> None:
        """Read for all prompts of which something has to be dropped."""
        wanted = [
            Wanted([prompt.segments[i] for i in reach], prompt, context)
            for prompt, context in given
            if not self.needless(prompt, context) and (reach := prose(prompt))
        ]
        if wanted:
            self.read_for(wanted)

    def read_for(self, wanted: Sequence[Wanted]) -> None:
        """Have the model read what valuing all these texts takes."""
        raise NotImplementedError

    def units_of(self, wanted: Wanted) -> list[Units]:
        """The units that are valued."""
        facts = [self._whole(segment) for segment in wanted.segments]
        return self.cut(wanted.segments, facts)


class ByLanguageModel(Pruner):
    """Base of the recipes that score with a language model: a name of ours, a folder or hub id."""

    needs = frozenset({"causal_lm"})

    model: str = "smollm2"

    def ready(self) -> None:
        require("torch", "transformers", extra="local")
        resolve(self.model)


def apart(row: NDArray[Any], units: Sequence[Units]) -> list[NDArray[Any]]:
    """Of a row of numbers for the units of all texts, what belongs to each text."""
    return np.split(row, np.cumsum([len(one) for one in units])[:-1])


def room(prompt: Prompt, context: Context) -> float:
    """The share of the open text that the budget allows."""
    total = context.tokens(prompt)
    closed = context.tokens(prompt.with_texts(dict.fromkeys(prompt.open, "")))
    limit = total if context.limit is None else context.limit
    return max(limit - closed, 0) / max(total - closed, 1)


def _forced(ranks: Ints, units: Units, segment: Segment) -> Ints:
    """The ranks, with what the caller marked above all."""
    return np.where(units.touching(segment.spans), FORCED, ranks)
