"""AutoCompressor: summary vectors for one part of a text after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from tersely.compressors.writer import Writer
from tersely.compressors.writer_stage import WriterStage
from tersely.compressors.writer_ways import Ids, written_in_turn

if TYPE_CHECKING:
    from torch import Tensor


class AutoCompressor(WriterStage):
    """Replaces texts by summary vectors that grow part by part, for a local model.

    `model` is the folder that `tersely train autocompressor` left, or one made of a published
    checkpoint (see `tersely.compressors.writer_layouts`). Each part of the `span` that was learned
    is written by the vectors of those before it, and all are kept. Texts stay that have no more
    tokens than there would be vectors, or something that is kept byte for byte, and all do where
    the backend can't read vectors of that model. What differs from the paper: see the trainer
    `autocompressor`.
    """

    name: ClassVar[str] = "autocompressor"
    paper: ClassVar[str] = "Chevalier et al. 2023, https://arxiv.org/abs/2305.14788"

    def write(self, writer: Writer, texts: Sequence[Ids], span: int) -> list[Tensor]:
        return written_in_turn(writer, texts, span)
