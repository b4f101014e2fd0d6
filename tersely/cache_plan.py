"""When it pays to change what a provider's prompt cache holds.

A token of the prompt costs 1. One that the provider reads from its cache costs `read`, one that it
writes there `write` (see `tersely.prices`). What is changed within a cached prefix is written anew,
with all that follows it; that is worth it if enough later calls send the shorter prompt again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

from tersely.prices import Price

MARGIN = 1.05
"""How many times the length that a provider tells is taken to be long enough to be cached: what it
adds to a request is not known to the token."""

GUESSED = 1.25
"""The same where a model's tokens are only estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """A change within the prompt of a conversation, in tokens.

    `ahead` stand before the first character that changes; of those from there on there are
    `before`, and `after` once it is done. Making the change costs as much as `cost` tokens of the
    prompt. `idle` are the seconds since the prompt was sent last, None when it never was.
    """

    ahead: int
    before: int
    after: int
    cost: float = 0.0
    idle: float | None = None

    @property
    def share(self) -> float:
        """The part of what follows that goes."""
        return 1 - self.after / self.before if self.before else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a change pays, and why.

    `pays_after` is how many calls after this one it takes (0: at once; None: it never does), and
    `gain` what it spares over the calls that were counted on, in tokens of the prompt; below 0 is
    a loss. `cold` tells that nothing was cached.
    """

    pays: bool
    reason: str
    pays_after: int | None
    gain: float
    cold: bool


def judged(rewrite: Rewrite, price: Price, later: float = 0) -> Verdict:
    """Whether to make a change now, if the prompt is sent `later` times more after this call.

    Every later call is taken to come before the cache forgets.
    """
    cold = is_cold(rewrite.idle, price)
    once = _once(rewrite, price, cold)
    each = _each(rewrite, price)
    gain = once + each * later
    needed = _needed(once, each)
    reason = _reason(needed, later, cold)
    if each < 0 and rewrite.after < rewrite.before:
        reason = f"the rest would be too short to be cached (under {price.minimum} tokens)"
    return Verdict(pays=gain > 0, reason=reason, pays_after=needed, gain=gain, cold=cold)


def is_cold(idle: float | None, price: Price) -> bool:
    """Whether a cache has forgotten a prompt that was sent `idle` seconds ago (None: never)."""
    return idle is None or idle > price.ttl


def break_even(share: float, price: Price) -> float:
    """How many later calls pay for rewriting a long cached text of which a share goes.

    T = (write (1 - share) - read) / (read share); 0 when it pays at once.
    """
    if share <= 0:
        return inf
    return max((price.write * (1 - share) - price.read) / (price.read * share), 0.0)


def least_share(price: Price) -> float:
    """The share of a cached text that has to go for rewriting it to pay within one call.

    Who rewrites at every turn would have to take away that much every time.
    """
    return 1 - price.read / price.write


def spared(tokens: int, share: float, price: Price, later: float = 0) -> float:
    """What leaving out a share of a text spares that was never sent before: never less than 0."""
    return share * tokens * (price.write + price.read * later)


def is_shrunk_below(before: int, after: int, price: Price, exact: bool = True) -> bool:
    """Whether a stable prefix would cost more once it is shorter: too short to be cached."""
    is_short = before >= price.minimum and after < long_enough(price, exact)
    return is_short and after < before and after > price.read * before


def long_enough(price: Price, exact: bool = True) -> int:
    """The tokens with which a prefix is surely cached; more where they are only estimated."""
    return ceil(price.minimum * (MARGIN if exact else GUESSED))


def _once(rewrite: Rewrite, price: Price, cold: bool) -> float:
    """What the change spares in the call that makes it."""
    kept = rewrite.ahead + rewrite.before
    made = rewrite.ahead + rewrite.after
    if cold:
        return _written(kept, price) - _written(made, price) - rewrite.cost
    if kept < price.minimum:  # nothing is cached
        return kept - _written(made, price) - rewrite.cost
    held = rewrite.ahead if rewrite.ahead >= price.minimum else 0
    fresh = made - held
    wrote = fresh * (price.write if made >= price.minimum else 1)
    return price.read * kept - (price.read * held + wrote) - rewrite.cost


def _each(rewrite: Rewrite, price: Price) -> float:
    """What the change spares in each later call."""
    made = rewrite.ahead + rewrite.after
    return _read(rewrite.ahead + rewrite.before, price) - _read(made, price)


def _written(tokens: int, price: Price) -> float:
    return tokens * (price.write if tokens >= price.minimum else 1)


def _read(tokens: int, price: Price) -> float:
    return tokens * (price.read if tokens >= price.minimum else 1)


def _needed(once: float, each: float) -> int | None:
    """After how many later calls there is a gain."""
    if once > 0:
        return 0
    if each <= 0:
        return None
    calls = ceil(-once / each)
    return calls if once + each * calls > 0 else calls + 1


def _reason(needed: int | None, later: float, cold: bool) -> str:
    if needed is None:
        return "it would never pay"
    if needed == 0:
        return "nothing of it is cached, so that it pays at once" if cold else "it pays at once"
    calls = f"{needed} more call{'s' * (needed > 1)}"
    return f"it pays after {calls}" + (f", and {later:g} are expected" if later else "")
