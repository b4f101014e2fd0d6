"""Gist tokens: what a prompt begins with, as the keys and values of a few tokens behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from tersely.compressors.soft_reading import Rendering
from tersely.compressors.writer import Writer
from tersely.compressors.writer_artefact import WriterAbout
from tersely.compressors.writer_stage import WriterStage
from tersely.compressors.writer_ways import Ids, written_apart
from tersely.prompt import Kind, Prompt, Segment
from tersely.soft import KVPrefix, SoftPrompt
from tersely.soft_artefact import Role

if TYPE_CHECKING:
    from torch import Tensor


class Gist(WriterStage):
    """Replaces a text by gist tokens, for a local model.

    `model` is the folder that `tersely train gist` left, or one made of a published checkpoint (see
    `tersely.compressors.writer_layouts`). Keys and values stand for the beginning of a prompt only:
    such a gist replaces its first text, and no other. A gist of vectors (trained with `form:
    embeds`) stands anywhere. Texts stay that are longer than the `span` that was learned, have no
    more tokens than the gist, or something that is kept byte for byte, and all do where the backend
    can't read a gist of that model. What differs from the paper: see the trainer `gist`.
    """

    name: ClassVar[str] = "gist"
    paper: ClassVar[str] = "Mu et al. 2023, https://arxiv.org/abs/2304.08467"

    kinds: tuple[Kind, ...] = ("instruction", "context", "tool_output", "example", "log")

    def fault(self, at: int, prompt: Prompt, ids: Ids, about: WriterAbout) -> str:
        if about.form == "kv" and any(one.text or one.soft for one in prompt.segments[:at]):
            return "keys and values stand for the beginning of a prompt, and another text is before"
        if len(ids) > about.span:
            return f"it has {len(ids)} tokens, and the gist learned to stand for {about.span}"
        return super().fault(at, prompt, ids, about)

    def write(self, writer: Writer, texts: Sequence[Ids], span: int) -> list[Tensor]:
        return written_apart(writer, texts, span)

    def written(
        self, writer: Writer, segments: Sequence[Segment], texts: Sequence[Ids]
    ) -> list[SoftPrompt | KVPrefix]:
        if self.about().form != "kv":
            return super().written(writer, segments, texts)
        heads = [Rendering(writer.lm, _place(one)).before for one in segments]
        read = [[*head, *text] for head, text in zip(heads, texts, strict=True)]
        return [
            KVPrefix([(keys.float(), values.float()) for keys, values in layers])
            for layers in writer.kept(read)
        ]


def _place(segment: Segment) -> Role:
    return "system" if segment.role == "system" else "user"
