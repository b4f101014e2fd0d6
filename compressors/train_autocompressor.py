"""Train the stage `autocompressor`: vectors for a part of a text, by those of the parts before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from tersely.compressors.train_writer import WriterTrainer
from tersely.compressors.writer import Writer, predicted
from tersely.compressors.writer_figures import Written, surprises, told
from tersely.compressors.writer_lessons import WriterLesson
from tersely.compressors.writer_ways import Ids, gone_on, in_turn, nothing, written_in_turn

if TYPE_CHECKING:
    from torch import Tensor

SHORTEST = 0.5
"""The share of `span` that the shortest part of a text has while it learns."""


class AutoCompressorTrainer(WriterTrainer):
    """Trains summary vectors that grow part by part, for the stage `autocompressor`.

    A text of up to `segments` times `span` tokens is cut at random into parts of `span` tokens or
    fewer. From each part, and the vectors of those before it, `tokens` more are written; each
    next part, and what follows in the end, is to be foretold from all of them. Gradients reach
    back `through` so many parts. Where that is unlike the paper: the model that reads is the base
    model as it is, and each vector begins as a token of the text (`anchored`).
    """

    name: ClassVar[str] = "autocompressor"
    paper: ClassVar[str] = "Chevalier et al. 2023, https://arxiv.org/abs/2305.14788"

    segments: int = Field(default=3, ge=2)
    through: int = Field(default=2, ge=1)

    @property
    def reach(self) -> int:
        return self.span * self.segments

    def write(self, writer: Writer, lessons: Sequence[WriterLesson]) -> Written:
        return written_in_turn(writer, [one.text for one in lessons], self.span)

    def loss(
        self, writer: Writer, lessons: Sequence[WriterLesson], draw: np.random.Generator
    ) -> Tensor:
        import torch

        shortest = max(2, int(self.span * SHORTEST))
        lengths = draw.integers(shortest, self.span + 1, size=2 * self.segments).tolist()
        known, parts = nothing(writer, len(lessons)), []
        for number, turn in enumerate(in_turn([cut(one.text, lengths) for one in lessons])):
            if number:
                parts.append(self._foretold(writer, known, turn))
            if number % self.through == 0:
                known = [one.detach() for one in known]
            known = gone_on(writer, known, turn)
        found = told(writer, lessons, known)
        parts.append(surprises(found, [one.told for one in lessons]))
        return torch.cat(parts).mean()

    def _foretold(self, writer: Writer, known: Sequence[Tensor], turn: dict[int, Ids]) -> Tensor:
        """How surprising the next parts are by what is known."""
        rows = [part[:-1] for part in turn.values()]
        found = predicted(writer.lm, [known[i] for i in turn], rows)
        return surprises(found, [part[1:] for part in turn.values()])


def cut(text: Ids, lengths: Sequence[int]) -> list[Ids]:
    """A text in parts of these lengths; the last has what is left, if it is more than a token."""
    parts, at = [], 0
    for length in lengths:
        parts.append(text[at : at + length])
        at += length
        if len(text) - at < 2:
            break
    return parts
