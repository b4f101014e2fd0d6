"""Train the stage `icae`: vectors from which a model can tell a text again, and go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from tersely.compressors.train_writer import WriterTrainer
from tersely.compressors.writer import Writer, predicted
from tersely.compressors.writer_figures import Written, surprises, told
from tersely.compressors.writer_lessons import WriterLesson
from tersely.compressors.writer_ways import written_apart

if TYPE_CHECKING:
    from torch import Tensor


class IcaeTrainer(WriterTrainer):
    """Trains an in-context autoencoder, for the stage `icae`.

    A text of up to `spans` times `span` tokens is written in parts, each by itself. Of a share of
    the lessons, `autoencoding`, the text itself is to be told from the vectors, at a learned cue;
    of the others what follows, or the answer to the question. Where that is unlike the paper:
    no token marks a continuation or a question, and each vector begins as a token of the text
    (`anchored`).
    """

    name: ClassVar[str] = "icae"
    paper: ClassVar[str] = "Ge et al. 2023, https://arxiv.org/abs/2307.06945"

    spans: int = Field(default=2, ge=1)
    autoencoding: float = Field(default=0.5, ge=0, le=1)

    @property
    def reach(self) -> int:
        return self.span * self.spans

    def write(self, writer: Writer, lessons: Sequence[WriterLesson]) -> Written:
        return written_apart(writer, [one.text for one in lessons], self.span)

    def loss(
        self, writer: Writer, lessons: Sequence[WriterLesson], draw: np.random.Generator
    ) -> Tensor:
        import torch

        written = written_apart(writer, [one.text for one in lessons], self.span)
        cue: Any = writer.module.cue
        again = draw.random(len(lessons)) < self.autoencoding
        parts = []
        if same := [i for i, own in enumerate(again) if own]:
            fronts = [torch.cat((written[i], cue)) for i in same]
            texts = [lessons[i].text for i in same]
            found = predicted(writer.lm, fronts, [text[:-1] for text in texts])
            parts.append(surprises(found, [text[1:] for text in texts]))
        if others := [i for i, own in enumerate(again) if not own]:
            some = [lessons[i] for i in others]
            found = told(writer, some, [written[i] for i in others])
            parts.append(surprises(found, [one.told for one in some]))
        return torch.cat(parts).mean()
