"""Reading in batches: work of like size together, and not begun when it can't be done in time.

What a batch is filled up to changes the last bits of what a model says of each piece in it, and in
bfloat16 more than those. So that nothing depends on what happens to be read beside it, a scorer
fills each piece up to a width that follows from its own size (`width_of`), and its batches hold one
width (`even`): on a CPU a row of a batch is then the same to the bit, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import TypeVar

from tersely.contracts import Context

T = TypeVar("T")

STEPS = 16
"""Widths between a power of two and the next: a piece is filled up by 3 % on the average."""

FINEST = 4
"""Widths are multiples of it."""


def width_of(size: int, most: int) -> int:
    """The width that a piece of so many tokens is read at: its own size, rounded up, or `most`."""
    step = max((1 << max(size - 1, 0).bit_length() >> 1) // STEPS, FINEST)
    return max(size, min(-(-size // step) * step, most))


class Pace:
    """How fast each reader is on this machine, as last measured. Sizes are in any one unit."""

    def __init__(self) -> None:
        self._a_second: dict[object, float] = {}

    def note(self, reader: object, size: int, seconds: float) -> None:
        self._a_second[reader] = size / max(seconds, 1e-9)

    def seconds(self, reader: object, size: int) -> float:
        """How long a reader will take; 0 when it was never timed."""
        return size / self._a_second.get(reader, float("inf"))

    def batches(
        self,
        work: Sequence[T],
        size: Callable[[T], int],
        most: int,
        *,
        reader: object,
        context: Context | None,
        even: bool = False,
    ) -> Iterator[list[T]]:
        """Pieces of like size together, as many as one call of the reader should take.

        A batch, filled up to its largest piece, is of `most` at most, unless one piece alone is
        larger; an `even` one holds pieces of one size. The time until the next batch is asked for
        is the pace of the reader. Under a time budget the first batch is a single piece, which
        tells the pace; without a context there is none. Raises OutOfTime before a batch when all
        that is left can't be read in time.
        """
        left = sum(map(size, work))
        timed = context is not None and context.deadline is not None
        for batch in _alike(work, size, most, first_alone=timed, even=even):
            if context is not None:
                context.check(self.seconds(reader, left))
            began = perf_counter()
            yield batch
            done = sum(map(size, batch))
            self.note(reader, done, perf_counter() - began)
            left -= done


def _alike(
    work: Sequence[T], size: Callable[[T], int], most: int, *, first_alone: bool, even: bool
) -> Iterator[list[T]]:
    batch: list[T] = []
    for one in sorted(work, key=size):
        full = first_alone or (len(batch) + 1) * size(one) > most
        if batch and (full or (even and size(one) != size(batch[0]))):
            yield batch
            batch, first_alone = [], False
        batch.append(one)
    if batch:
        yield batch
