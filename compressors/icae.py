"""ICAE: a text as memory slots, from which the model could tell it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from tersely.compressors.writer import Writer
from tersely.compressors.writer_stage import WriterStage
from tersely.compressors.writer_ways import Ids, written_apart

if TYPE_CHECKING:
    from torch import Tensor


class Icae(WriterStage):
    """Replaces texts by memory slots that an in-context autoencoder writes, for a local model.

    `model` is the folder that `tersely train icae` left, or one made of a published checkpoint
    (see `tersely.compressors.writer_layouts`). A long text is written in parts of the `span` that
    was learned, each by itself. Texts stay that have no more tokens than there would be vectors,
    or something that is kept byte for byte, and all do where the backend can't read vectors of
    that model. What differs from the paper: see the trainer `icae`.
    """

    name: ClassVar[str] = "icae"
    paper: ClassVar[str] = "Ge et al. 2023, https://arxiv.org/abs/2307.06945"

    def write(self, writer: Writer, texts: Sequence[Ids], span: int) -> list[Tensor]:
        return written_apart(writer, texts, span)
