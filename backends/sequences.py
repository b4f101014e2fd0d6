"""What a context has read: common beginnings once, and recent ones remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tersely.backends.ledger import Ledger
from tersely.backends.read import beginnings

Floats = NDArray[np.float32]

Piece = tuple[int, int, Sequence[int]]
"""A sequence, how many tokens of it were read, and those that come next."""


class Cache(Protocol):
    """Sequences by their numbers, in so many cells (see `llamacpp_context.Context`)."""

    tokens: int

    def copy(self, source: int, to: int, upto: int) -> None: ...
    def drop(self, sequence: int) -> None: ...
    def read(
        self, pieces: Sequence[Piece], vectors: Mapping[int, Floats] | None = None
    ) -> Floats: ...


class Sequences:
    """Sequences of a context, of which some are only kept for others to begin with.

    What prompts begin with in common is read once, in a sequence of its own, and copied, which
    takes neither time nor memory. At most `most` are kept: those that were used last, for as long
    as there is room. Without `shares` every prompt is read in full.
    """

    def __init__(self, cache: Cache, *, sequences: int, most: int, shares: bool) -> None:
        self._cache = cache
        self._ledger = Ledger(sequences)
        self._most = most
        self._shares = shares
        self._kept: dict[int, None] = {}

    @property
    def kept(self) -> int:
        """The tokens of the sequences that are kept."""
        return sum(map(self.length, self._kept))

    def length(self, sequence: int) -> int:
        """How many tokens a sequence has read."""
        return len(self._ledger.read(sequence))

    def cells(self, sequences: Iterable[int], prompts: Sequence[Sequence[int]]) -> int:
        """What these sequences take and, beside them, some prompts will take."""
        rows = [*sequences]
        return self._ledger.taken(rows) + self.costs(prompts, rows)

    def costs(self, prompts: Sequence[Sequence[int]], among: Iterable[int] | None = None) -> int:
        """The cells that prompts will take besides those that are taken."""
        return self._ledger.costs(prompts, among) if self._shares else sum(map(len, prompts))

    def enter(
        self,
        prompts: Sequence[Sequence[int]],
        to_come: int,
        vectors: Mapping[int, Floats] | None = None,
    ) -> tuple[list[int], Floats]:
        """New sequences that have read these prompts, and the scores of what comes next in each.

        There is room then for so many tokens `to_come`. Raises what the context raises; then there
        are no new ones.
        """
        prompts = [[*prompt] for prompt in prompts]
        self._make_room(prompts, to_come)
        if self._shares:
            for begin in beginnings(prompts):
                self._learn([*begin], vectors)
        new: list[int] = []
        try:
            for prompt in prompts:
                new.append(self._begin(prompt[:-1]))
            rest = [prompt[self.length(row) :] for row, prompt in zip(new, prompts, strict=True)]
            return new, self.read([*zip(new, rest, strict=True)], vectors)
        except Exception:
            self.drop(new)
            raise

    def read(
        self,
        pieces: Sequence[tuple[int, Sequence[int]]],
        vectors: Mapping[int, Floats] | None = None,
    ) -> Floats:
        """Read more tokens in some sequences; the scores of what comes next in each."""
        placed = [(row, self.length(row), tokens) for row, tokens in pieces]
        scores = self._cache.read(placed, vectors)
        for row, tokens in pieces:
            self._ledger.add(row, tokens)
        return scores

    def keep(self, sequence: int) -> None:
        """Remember what a sequence has read, instead of any beginning of it."""
        if not self._shares:
            self.drop([sequence])
            return
        read = self._ledger.read(sequence)
        for known in [*self._kept]:
            old = self._ledger.read(known)
            if old == read[: len(old)]:
                self._forget(known)
        self._kept[sequence] = None
        while len(self._kept) > self._most:
            self._forget_oldest()

    def forget(self, upto: int) -> None:
        """Remember so many tokens at most."""
        while self.kept > upto:
            self._forget_oldest()

    def drop(self, sequences: Iterable[int]) -> None:
        """Forget sequences."""
        for sequence in sequences:
            self._cache.drop(sequence)
            self._ledger.drop(sequence)

    def _begin(self, tokens: Sequence[int]) -> int:
        """A new sequence, with as many of these tokens as some other one has read."""
        upto, source = self._ledger.longest(tokens) if self._shares else (0, None)
        new = self._ledger.begin(source, upto)
        if source is not None:
            self._cache.copy(source, new, upto)
            self._use(source)
        return new

    def _learn(self, tokens: list[int], vectors: Mapping[int, Floats] | None) -> None:
        """Have a beginning that is kept."""
        upto, source = self._ledger.longest(tokens)
        if source is not None and upto == len(tokens):
            self._use(source)
            return
        new = self._begin(tokens)
        try:
            self.read([(new, tokens[upto:])], vectors)
        except Exception:
            self.drop([new])
            raise
        self.keep(new)

    def _make_room(self, prompts: Sequence[Sequence[int]], to_come: int) -> None:
        """Forget what was not used for longest, until prompts and what is to come fit."""
        for prompt in prompts if self._kept else ():
            if (source := self._ledger.longest(prompt[:-1])[1]) is not None:
                self._use(source)
        new = sum(1 for _ in beginnings(prompts))
        while self._kept and (
            len(self._kept) + new > self._most
            or self._ledger.taken() + self.costs(prompts) + to_come > self._cache.tokens
        ):
            self._forget_oldest()

    def _use(self, sequence: int) -> None:
        """Forget it later than all others."""
        if sequence in self._kept:
            del self._kept[sequence]
            self._kept[sequence] = None

    def _forget_oldest(self) -> None:
        self._forget(next(iter(self._kept)))

    def _forget(self, sequence: int) -> None:
        del self._kept[sequence]
        self.drop([sequence])
