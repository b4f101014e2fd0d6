"""What was read of prompts, and what of it is remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Piece = tuple["Tensor", "Tensor"]
"""One layer's keys and values of some tokens. Shape: 1 x heads x tokens x width, each."""

WORTH = 32
"""A common beginning of fewer tokens is read again: that costs less than keeping it."""


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A row that was read: for each layer its pieces, one behind the other."""

    layers: Sequence[Sequence[Piece]]

    def __len__(self) -> int:
        return sum(keys.shape[2] for keys, _ in self.layers[0])


class Memory:
    """The keys and values of recent beginnings; those that were used last are kept."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, ...], list[Piece]] = OrderedDict()

    def __len__(self) -> int:
        """The tokens that are kept."""
        return sum(map(len, self._known))

    def longest(self, tokens: Sequence[int]) -> tuple[int, list[Piece]]:
        """How many of the tokens some text that is kept begins with, and those of its pieces.

        None, where they are too few to be of use.
        """
        tokens = tuple(tokens)
        alike, text = max(
            ((common(tokens, known), known) for known in self._known), default=(0, ())
        )
        if alike < WORTH:
            return 0, []
        self._known.move_to_end(text)
        pieces = self._known[text]
        return alike, [(keys[:, :, :alike], values[:, :, :alike]) for keys, values in pieces]

    def keep(self, tokens: Sequence[int], pieces: list[Piece]) -> None:
        """Keep what these tokens became, instead of any beginning of them."""
        tokens = tuple(tokens)
        for known in [known for known in self._known if tokens[: len(known)] == known]:
            del self._known[known]
        self._known[tokens] = pieces

    def shrink(self, tokens: int) -> None:
        """Forget what was not used for longest, until no more than so many tokens are kept."""
        while self._known and len(self) > tokens:
            self._known.popitem(last=False)


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def beginnings(prompts: Sequence[Sequence[int]]) -> Iterator[Sequence[int]]:
    """What several prompts go on from, where it is worth while; shorter ones first."""
    yield from _beginnings(sorted(tuple(prompt) for prompt in prompts), 0)


def _beginnings(prompts: Sequence[Sequence[int]], known: int) -> Iterator[Sequence[int]]:
    """The same for sorted prompts that have so many tokens in common."""
    least = known + WORTH
    for run in _runs([prompt for prompt in prompts if len(prompt) > least], least):
        if len(run) > 1:
            shared = min(common(run[0], run[-1]), min(map(len, run)) - 1)
            yield run[0][:shared]
            yield from _beginnings(run, shared)


def _runs(prompts: Sequence[Sequence[int]], alike: int) -> Iterator[list[Sequence[int]]]:
    """Neighbours that have at least so many tokens in common."""
    run: list[Sequence[int]] = []
    for prompt in prompts:
        if run and common(run[-1], prompt) < alike:
            yield run
            run = []
        run.append(prompt)
    if run:
        yield run
