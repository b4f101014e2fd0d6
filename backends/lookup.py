"""Guesses at an answer's next tokens, from what its text has said before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile

from tersely.weights import CausalLM

LONGEST, SHORTEST = 3, 2
"""So many last tokens must have stood there before: fewer foretell little."""


class Lookup:
    """A text, and what followed its last tokens the last time that they stood in it.

    Answers that quote their context are foretold well. Prompt lookup: Saxena 2023,
    https://github.com/apoorvumang/prompt-lookup-decoding
    """

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """Go on by a token."""
        at = len(self._tokens)
        for size in range(SHORTEST, min(LONGEST, at) + 1):
            self._after[tuple(self._tokens[-size:])] = at
        self._tokens.append(token)

    def guess(self, upto: int) -> list[int]:
        """The next tokens, `upto` at most; none where the last ones are new."""
        for size in range(LONGEST, SHORTEST - 1, -1):
            at = self._after.get(tuple(self._tokens[-size:]))
            if at is not None:
                told = self._tokens[at : at + max(upto, 0)]
                return [*takewhile(lambda token: token >= 0, told)]  # below 0: no token but soft
        return []


@dataclass(slots=True)
class Guesses:
    """How many tokens were guessed, and how many of them came true."""

    proposed: int = 0
    accepted: int = 0


@cache
def guesses(lm: CausalLM) -> Guesses:
    """The count for a model, since the process began."""
    return Guesses()
