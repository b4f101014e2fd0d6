"""Which sequence has read what, where sequences share what they have read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, islice

from tersely.backends.read import beginnings, common


class Ledger:
    """Sequences by their numbers, the tokens that each has read, and the cells that these take.

    A token that is read takes a cell, one that is copied from another sequence shares its cell. It
    is free again when the last sequence that has it is dropped.
    """

    def __init__(self, sequences: int) -> None:
        self._free = [*reversed(range(sequences))]
        self._tokens: dict[int, list[int]] = {}
        self._cells: dict[int, list[int]] = {}
        self._new = count()

    @property
    def full(self) -> bool:
        """Whether no other sequence can begin."""
        return not self._free

    def begin(self, source: int | None = None, upto: int = 0) -> int:
        """A new sequence, with so many tokens of another one; its number."""
        new = self._free.pop()
        self._tokens[new] = [] if source is None else self._tokens[source][:upto]
        self._cells[new] = [] if source is None else self._cells[source][:upto]
        return new

    def add(self, sequence: int, tokens: Sequence[int]) -> None:
        """A sequence reads more tokens."""
        self._tokens[sequence] += tokens
        self._cells[sequence] += islice(self._new, len(tokens))

    def drop(self, sequence: int) -> None:
        """A sequence is forgotten, and its number is free."""
        del self._tokens[sequence], self._cells[sequence]
        self._free.append(sequence)

    def read(self, sequence: int) -> Sequence[int]:
        """What a sequence has read."""
        return self._tokens[sequence]

    def taken(self, sequences: Iterable[int] | None = None) -> int:
        """The cells that these sequences take, or all."""
        numbers = self._cells if sequences is None else sequences
        return len(set[int]().union(*(self._cells[number] for number in numbers)))

    def longest(self, tokens: Sequence[int]) -> tuple[int, int | None]:
        """How many of these tokens some sequence begins with, and which one."""
        wanted = [*tokens]
        found = ((common(wanted, read), number) for number, read in self._tokens.items())
        upto, source = max(found, default=(0, None))
        return (upto, source) if upto else (0, None)

    def costs(self, prompts: Sequence[Sequence[int]], among: Iterable[int] | None = None) -> int:
        """The cells that prompts will take besides those of these sequences, or of all.

        Each prompt begins with the longest that is known of it, and so does what several have in
        common, which is read ahead of them (see `beginnings`).
        """
        known = [self._tokens[number] for number in (self._tokens if among is None else among)]
        total = 0
        for begin in map(list, beginnings(prompts)):
            total += len(begin) - max((common(begin, one) for one in known), default=0)
            known.append(begin)
        for prompt in map(list, prompts):
            total += len(prompt) - max((common(prompt[:-1], one) for one in known), default=0)
        return total
