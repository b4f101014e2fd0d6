"""Keep the sentences whose meaning is nearest to the question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from tersely.compressors.prune import Foreseeing, Wanted, apart
from tersely.compressors.sentences import read_for, similarity
from tersely.contracts import Context
from tersely.documents import documents_of
from tersely.errors import require
from tersely.lexical import best_of_group, standardised
from tersely.models import resolve
from tersely.order import HEADING, TITLE, documents_to_move
from tersely.prompt import Prompt, Segment
from tersely.select import FORCED, NEVER, Part
from tersely.units import Bools, Floats, Unit, Units


class Recomp(Foreseeing):
    """RECOMP, extractive: whole sentences nearest to the question by a sentence encoder.

    Sentences less like the question than `threshold` (a cosine) are dropped even where the budget
    has room, and so are all but the `most` best; a text of which none is left becomes a mark
    (the paper's selective augmentation). These two work without a budget as well. With
    `document` the best sentence of its paragraph lifts a sentence, as in `lexical`; with
    `titles` a sentence is read after the title of its section. `model` is a name of ours, a
    folder (`tersely train sentences` makes one) or a hub id.

    What differs from the paper: sentences stay in the order of the text, the budget is met
    exactly, nearness is the cosine and not the dot product, and the encoder is a general one
    until you train your own.
    """

    name = "recomp"
    needs = frozenset({"question", "encoder"})
    paper = "Xu et al. 2023, https://arxiv.org/abs/2310.04408"

    unit: Literal["sentence", "line", "paragraph"] = "sentence"
    fill: Unit | None = None
    model: str = "minilm"
    threshold: float | None = Field(default=None, ge=-1, le=1)
    most: int | None = Field(default=None, ge=1)
    document: float = Field(default=0.0, ge=0)
    titles: bool = False

    def ready(self) -> None:
        require("sentence_transformers", extra="rag")
        resolve(self.model)

    def needless(self, prompt: Prompt, context: Context) -> bool:
        if context.limit is None:
            return self.threshold is None and self.most is None
        return super().needless(prompt, context)

    def read_for(self, wanted: Sequence[Wanted]) -> None:
        asked = [one for one in wanted if one.prompt.question]
        told = [(self._read(self.units_of(one)), one.prompt.question) for one in asked]
        read_for(told, self.model, wanted[0].context)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        scores = self._cosines(units, prompt, context)
        if self.document:
            group = best_of_group(scores, documents_of(units))
            scores = standardised(scores) + self.document * standardised(group)
        return apart(scores, units)

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        """Sentences below the threshold, and all but the best few, are never kept."""
        parts = super().weighed(segments, prompt, context)
        units = [part.units for part in parts]
        fit = self._fit(np.concatenate([part.values for part in parts]), units, prompt, context)
        return [
            replace(part, ranks=np.where(good | (part.ranks >= FORCED), part.ranks, NEVER))
            for part, good in zip(parts, apart(fit, units), strict=True)
        ]

    def _fit(
        self, values: Floats, units: Sequence[Units], prompt: Prompt, context: Context
    ) -> Bools:
        """Which units may be kept at all. Shape: (units of all texts,)."""
        fit = np.ones(len(values), np.bool_)
        if not prompt.question:
            return fit
        if self.threshold is not None:
            fit = self._cosines(units, prompt, context) >= self.threshold
        if self.most is not None:
            best = np.argsort(np.where(fit, -values, np.inf), kind="stable")
            fit[best[self.most :]] = False
        return fit

    def _cosines(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Floats:
        """How near each unit is to the question; all the same when nothing is asked."""
        read = self._read(units)
        if not prompt.question:
            return np.zeros(len(read))
        return similarity(read, prompt.question, self.model, context)

    def _read(self, units: Sequence[Units]) -> list[str]:
        """What the encoder is given of each unit."""
        return [text for one in units for text in (_titled(one) if self.titles else one.texts)]


def _titled(units: Units) -> Iterator[str]:
    """Each unit after the first line of its document, where that is a title."""
    documents = documents_to_move(units)
    titles = [_title(text) for text in documents.texts]
    inside = np.searchsorted(documents.starts, units.starts, "right") - 1
    first = np.isin(units.starts, documents.starts)
    for text, which, opens in zip(units.texts, inside.tolist(), first.tolist(), strict=True):
        title = titles[which]
        yield text if opens or not title else f"{title}\n{text}"


def _title(document: str) -> str:
    line, _, rest = document.partition("\n")
    line = line.rstrip()
    titled = TITLE.fullmatch(line) or HEADING.match(line)
    return line if rest.strip() and titled else ""
