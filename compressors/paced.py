"""Reading in batches: work of like size together, and not begun when it can't be done in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import TypeVar

from tersely.contracts import Context

T = TypeVar("T")


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
    ) -> Iterator[list[T]]:
        """Pieces of like size together, as many as one call of the reader should take.

        A batch, filled up to its largest piece, is of `most` at most, unless one piece alone is
        larger. The time until the next batch is asked for is the pace of the reader. Under a time
        budget the first batch is a single piece, which tells the pace; without a context there
        is none. Raises OutOfTime before a batch when all that is left can't be read in time.
        """
        left = sum(map(size, work))
        timed = context is not None and context.deadline is not None
        for batch in _alike(work, size, most, first_alone=timed):
            if context is not None:
                context.check(self.seconds(reader, left))
            began = perf_counter()
            yield batch
            done = sum(map(size, batch))
            self.note(reader, done, perf_counter() - began)
            left -= done


def _alike(
    work: Sequence[T], size: Callable[[T], int], most: int, *, first_alone: bool
) -> Iterator[list[T]]:
    batch: list[T] = []
    for one in sorted(work, key=size):
        if batch and (first_alone or (len(batch) + 1) * size(one) > most):
            yield batch
            batch, first_alone = [], False
        batch.append(one)
    if batch:
        yield batch
