"""The keys and values of rows that come and go between tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tersely.backends.read import Piece, Read
from tersely.backends.rows import takes_positions
from tersely.weights import CausalLM, caching

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 64
"""Room is made for at least this many tokens at a time."""


class Slots:
    """Rows of any lengths, all with their last token in the same column of one buffer a layer.

    A step writes its columns for all rows, in place; what stands left of a row is masked. A row
    that enters is copied in, and of rows that stay only those move that fill a gap.
    """

    def __init__(self, lm: CausalLM) -> None:
        self.lm = lm
        self.lengths: list[int] = []
        self._layers: list[Layer] = []
        self._mask: Any = None
        self._end = 0
        self._takes_positions = takes_positions(lm)

    def enter(self, reads: Sequence[Read]) -> None:
        """Add rows, as far as they were read. Raises what torch raises for want of memory."""
        if not self._layers:
            self._layers = [layer_class()(pieces[-1]) for pieces in reads[0].layers]
        self._make_room(len(self.lengths) + len(reads), max(map(len, reads)), 0)
        for read in reads:
            row, begin = len(self.lengths), self._end - len(read)
            self._mask[row, :begin], self._mask[row, begin:] = 0, 1
            for layer, pieces in zip(self._layers, read.layers, strict=True):
                layer.put(row, begin, pieces)
            self.lengths.append(len(read))

    def scores(self, tokens: Tensor) -> Tensor:
        """Read more tokens in each row, as many in all; the scores of what comes after each.

        Shape: rows x tokens; rows x tokens x vocabulary, float32. Raises what the model raises.
        """
        import torch
        from transformers import Cache

        more = tokens.shape[1]
        self._make_room(len(self.lengths), 0, more)
        rows, begin, end = len(self.lengths), self._end - max(self.lengths), self._end + more
        for layer in self._layers:
            layer.show(rows, begin, self._end, end)
        layers: list[Any] = list(self._layers)
        options: dict[str, Any] = {}
        if self._takes_positions:
            lengths = torch.tensor(self.lengths, device=self.lm.device)[:, None]
            options["position_ids"] = lengths + torch.arange(more, device=self.lm.device)
        made = self.lm.model(
            input_ids=tokens,
            attention_mask=self._mask[:rows, begin:end],
            logits_to_keep=more,
            **caching(self.lm.model, Cache(layers=layers)),
            **options,
        )
        self._end = end
        self.lengths = [length + more for length in self.lengths]
        scores: Tensor = made.logits[:, -more:].float()
        return scores

    def back(self, tokens: int) -> None:
        """Take back so many of the last tokens of every row."""
        self._end -= tokens
        self.lengths = [length - tokens for length in self.lengths]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order; a row may only move to the front."""
        for to, row in enumerate(rows):
            if to != row:
                self._mask[to] = self._mask[row]
                for layer in self._layers:
                    layer.move(row, to, self._end - self.lengths[row], self._end)
        self.lengths = [self.lengths[row] for row in rows]
        if not rows:
            self._layers, self._mask, self._end = [], None, 0

    def read(self, row: int) -> list[Piece]:
        """What a row has read, a copy for each layer."""
        begin = self._end - self.lengths[row]
        return [layer.piece(row, begin, self._end) for layer in self._layers]

    def _make_room(self, rows: int, left: int, right: int) -> None:
        """Have this many rows, and columns before and after where the last tokens end."""
        import torch

        has = (0, 0) if self._mask is None else self._mask.shape
        if rows <= has[0] and left <= self._end and self._end + right <= has[1]:
            return
        width = max(self.lengths, default=0)
        end = max(width, left)
        columns = -(-(end + right + width // 2) // BLOCK) * BLOCK + BLOCK
        shape = max(rows, has[0]), columns
        part = len(self.lengths), self._end - width, self._end
        mask = torch.zeros(shape, dtype=torch.long, device=self.lm.device)
        for row, length in enumerate(self.lengths):
            mask[row, end - length :] = 1
        moved = [layer.moved(shape, part, end - width) for layer in self._layers]
        for layer, buffers in zip(self._layers, moved, strict=True):  # memory sufficed for all
            layer.keys, layer.values = buffers
        self._mask, self._end = mask, end


class Layer:
    """One layer's keys and values, in the place of a `DynamicLayer` of transformers.

    Shape of a buffer: rows x heads x columns x width.
    """

    is_sliding = False
    is_compileable = False
    is_initialized = True

    def __init__(self, like: Piece) -> None:
        self.keys, self.values = (
            part.new_zeros(0, part.shape[1], 0, part.shape[3]) for part in like
        )
        self._shown = (0, 0, 0, 0)

    def show(self, rows: int, begin: int, new: int, end: int) -> None:
        """From now on, be this part; its columns from `new` on are those to be written."""
        self._shown = rows, begin, new, end

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take the new columns in; the whole part that is shown."""
        rows, begin, new, end = self._shown
        self.keys[:rows, :, new:end] = keys
        self.values[:rows, :, new:end] = values
        return self.keys[:rows, :, begin:end], self.values[:rows, :, begin:end]

    def get_seq_length(self, *_: Any) -> int:
        """The columns that were there before."""
        return self._shown[2] - self._shown[1]

    def get_mask_sizes(self, query_length: Any) -> tuple[int, int]:
        """The columns that a mask covers, and how many are left out before them."""
        return self._shown[3] - self._shown[1], 0

    def put(self, row: int, begin: int, pieces: Sequence[Piece]) -> None:
        """Write a row, one piece behind the other."""
        for keys, values in pieces:
            end = begin + keys.shape[2]
            self.keys[row, :, begin:end] = keys[0]
            self.values[row, :, begin:end] = values[0]
            begin = end

    def move(self, row: int, to: int, begin: int, end: int) -> None:
        """Copy a part of a row to another row."""
        for part in (self.keys, self.values):
            part[to, :, begin:end] = part[row, :, begin:end]

    def piece(self, row: int, begin: int, end: int) -> Piece:
        """A copy of a part of a row."""
        own = slice(row, row + 1), slice(None), slice(begin, end)
        return self.keys[own].clone(), self.values[own].clone()

    def moved(self, shape: tuple[int, int], part: tuple[int, int, int], to: int) -> Piece:
        """Buffers with other numbers of rows and columns, and the part shown there copied in."""
        rows, begin, end = part
        found = []
        for old in (self.keys, self.values):
            new = old.new_zeros(shape[0], old.shape[1], shape[1], old.shape[3])
            new[:rows, :, to : to + end - begin] = old[:rows, :, begin:end]
            found.append(new)
        return found[0], found[1]


@cache
def layer_class() -> type[Layer]:
    """`Layer` as one of transformers' own, which it asks for by type."""
    from transformers.cache_utils import DynamicLayer

    return type("SlotLayer", (Layer, DynamicLayer), {})
