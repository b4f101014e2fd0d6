"""Split the tokens of an answer over its points, with a reserve for those that need more."""

from __future__ import annotations

from dataclasses import dataclass

USUAL = 6
"""Points that a skeleton usually has: by them the tokens are split while it is still written."""

LEAST = 24
"""Tokens below which a point isn't worth its call."""


@dataclass(slots=True)
class Shares:
    """What is left of an answer's tokens: `main` for points to come, `pool` for whoever is cut.

    All that is granted, less what is given back, is never more than the whole was.
    """

    main: int
    pool: int

    @classmethod
    def of(cls, tokens: int, reserve: float) -> Shares:
        """So many tokens, and this part of them in reserve."""
        pool = int(tokens * reserve)
        return cls(tokens - pool, pool)

    def grant(self, points: int, most: int = 0) -> int:
        """The share of the next of so many points still to come; 0 when nothing is left.

        There may be as many as `most`: each of those, too, will have enough to be worth its call.
        """
        points, left = max(points, 1), self.main + self.pool
        most = max(points, most)
        share = self.main // points
        share = share if share >= LEAST else left // most
        share = max(min(share, left - LEAST * (most - 1)), min(LEAST, left))
        own = min(share, self.main)
        self.main -= own
        self.pool -= share - own
        return share

    def more(self, wanted: int) -> int:
        """Some of the reserve, as much as there is."""
        share = max(min(wanted, self.pool), 0)
        self.pool -= share
        return share

    def give_back(self, tokens: int) -> None:
        """What a point did not need goes to the reserve."""
        self.pool += max(tokens, 0)


def most_points(tokens: int, wanted: int) -> int:
    """How many points so many tokens reach for, at most `wanted`."""
    return max(min(wanted, tokens // LEAST), 1)
