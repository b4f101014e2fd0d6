"""What stands in a prompt's places that no token of the vocabulary fills.

A prompt is a row of numbers. Those of tokens are theirs; a vector or a token of a KV prefix has one
below 0, by its values (see `tersely.soft`). So all that compares prompts, shares what they begin
with and remembers them treats soft input as it treats text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tersely.backends.read import Piece, common
from tersely.weights import CausalLM

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """The vectors behind numbers below 0, and what is read already of prompts that begin so."""

    vectors: dict[int, Tensor] = field(default_factory=dict)
    prefixes: dict[tuple[int, ...], list[Piece]] = field(default_factory=dict)

    def known(self, tokens: Sequence[int]) -> tuple[int, list[Piece]]:
        """How many tokens a KV prefix has of these, and its pieces."""
        for places, pieces in self.prefixes.items():
            if alike := common(places, tuple(tokens)):
                return alike, [
                    (keys[:, :, :alike], values[:, :, :alike]) for keys, values in pieces
                ]
        return 0, []


def together(parts: Iterable[Places]) -> Places:
    """The places of several prompts."""
    made = Places()
    for part in parts:
        made.vectors.update(part.vectors)
        made.prefixes.update(part.prefixes)
    return made


def inputs(lm: CausalLM, rows: Sequence[Sequence[int]], given: Places) -> dict[str, Any]:
    """What a model is called with to read rows of one length: ids, or embeddings where needed."""
    import torch

    ids = torch.tensor([[max(number, 0) for number in row] for row in rows], device=lm.device)
    soft = [(i, j) for i, row in enumerate(rows) for j, number in enumerate(row) if number < 0]
    if not soft:
        return {"input_ids": ids}
    embeds = lm.model.get_input_embeddings()(ids)
    at = tuple(torch.tensor(soft, device=lm.device).unbind(1))
    vectors = torch.stack([given.vectors[rows[i][j]] for i, j in soft])
    return {"inputs_embeds": embeds.index_put(at, vectors.to(embeds.dtype))}
