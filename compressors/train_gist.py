"""Train the stage `gist`: tokens through which alone a model sees the text before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tersely.compressors.train_writer import WriterTrainer
from tersely.compressors.writer import Writer, check_turns
from tersely.compressors.writer_figures import Written, surprises, told
from tersely.compressors.writer_lessons import WriterLesson
from tersely.compressors.writer_ways import written_apart
from tersely.soft_artefact import Form

if TYPE_CHECKING:
    from torch import Tensor


class GistTrainer(WriterTrainer):
    """Trains gist tokens that stand for what a prompt begins with, for the stage `gist`.

    What follows the gist tokens sees them and not the text. An answer is learned as it is; of a
    text alone, the model behind the gist learns to expect what it expects behind the text. The
    gist are the tokens' keys and values (`form: kv`) or, where an engine takes none, vectors
    (`embeds`). Where that is unlike the paper: the model that reads is the base model as it is
    and not one that was trained along, and each token begins as one of the text (`anchored`).
    """

    name: ClassVar[str] = "gist"
    paper: ClassVar[str] = "Mu et al. 2023, https://arxiv.org/abs/2304.08467"

    form: Form = "kv"

    @property
    def written_as(self) -> Form:
        return self.form

    def write(self, writer: Writer, lessons: Sequence[WriterLesson]) -> Written:
        if self.form == "kv":
            return writer.kept([(*one.before, *one.text) for one in lessons])
        return written_apart(writer, [one.text for one in lessons], self.span)

    def ready(self) -> None:
        super().ready()
        if self.form == "kv":
            from tersely.weights import causal_lm

            check_turns(causal_lm(self.base, precision=self.precision))

    def loss(
        self, writer: Writer, lessons: Sequence[WriterLesson], draw: np.random.Generator
    ) -> Tensor:
        import torch

        found = told(writer, lessons, self.write(writer, lessons))
        parts = []
        if answered := [i for i, one in enumerate(lessons) if one.answer]:
            parts.append(
                surprises([found[i] for i in answered], [lessons[i].told for i in answered])
            )
        if others := [i for i, one in enumerate(lessons) if not one.answer]:
            parts.append(
                self._unlike(writer, [lessons[i] for i in others], [found[i] for i in others])
            )
        return torch.cat(parts).mean()

    def _unlike(
        self, writer: Writer, lessons: Sequence[WriterLesson], found: Sequence[Tensor]
    ) -> Tensor:
        """The KL divergence from what is expected behind the full text, in nats for each token."""
        import torch

        with torch.no_grad():
            full = told(writer, lessons, [writer.embedded(one.text) for one in lessons])
            teacher = torch.cat(full).float().log_softmax(-1)
        student = torch.cat(list(found)).float().log_softmax(-1)
        return (teacher.exp() * (teacher - student)).sum(-1)
