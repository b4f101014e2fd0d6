"""How texts of any length are written: in parts by themselves, or each knowing those before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

from tersely.compressors.writer import Writer

if TYPE_CHECKING:
    from torch import Tensor

Ids = Sequence[int]


def spans(text: Ids, span: int) -> list[Ids]:
    """A text in the fewest parts of like size that have no more than `span` tokens."""
    if not text:
        return [text]
    count = ceil(len(text) / span)
    edges = [round(i * len(text) / count) for i in range(count + 1)]
    return [text[start:end] for start, end in pairwise(edges)]


def written_apart(writer: Writer, texts: Sequence[Ids], span: int) -> list[Tensor]:
    """Each part of a text by itself, all parts at once. Shape: (parts x tokens, hidden) each."""
    import torch

    parts = [spans(text, span) for text in texts]
    made = iter(writer.vectors([part for own in parts for part in own]))
    return [writer.closed(torch.cat([next(made) for _ in own])) for own in parts]


def written_in_turn(writer: Writer, texts: Sequence[Ids], span: int) -> list[Tensor]:
    """Each part of a text by what was written of those before it, all of which is kept.

    Shape: (parts x tokens, hidden) each.
    """
    known = nothing(writer, len(texts))
    for turn in in_turn([spans(text, span) for text in texts]):
        known = gone_on(writer, known, turn)
    return [writer.closed(one) for one in known]


def nothing(writer: Writer, count: int) -> list[Tensor]:
    """What is known of texts of which nothing was read."""
    return [writer.embedded(())] * count


def in_turn(parts: Sequence[Sequence[Ids]]) -> list[dict[int, Ids]]:
    """The first parts of all texts, then the second parts of those that have one, and so on."""
    longest = max(map(len, parts), default=0)
    return [
        {i: own[turn] for i, own in enumerate(parts) if turn < len(own)} for turn in range(longest)
    ]


def gone_on(writer: Writer, known: Sequence[Tensor], turn: dict[int, Ids]) -> list[Tensor]:
    """What is known after some texts were read on: the new vectors behind those there were."""
    import torch

    made = dict(zip(turn, writer.vectors([*turn.values()], [known[i] for i in turn]), strict=True))
    return [
        torch.cat((one.to(made[i].dtype), made[i])) if i in made else one
        for i, one in enumerate(known)
    ]
