"""Put one message in the place of a conversation's older ones, when that is due and pays.

The message stands behind the system's and is sent with the same bytes until the next compaction,
which begins from it: so the provider's prompt cache keeps matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tersely.cache_plan import Rewrite, Verdict, is_cold, is_shrunk_below, judged, long_enough
from tersely.errors import ConfigError, first_fault
from tersely.plans import Plan
from tersely.prices import Price, price_of, prices
from tersely.registry import plan, spelled

SHARE = 0.5
"""What a summary is taken to have of the turns that it stands for, before it is made."""


class Compaction(BaseModel):
    """When the older messages of a conversation become one, and which stay.

    It is due when a request has more than `limit` tokens (none given: the budget's). From `early`
    times that on it is also done as soon as it costs nothing, because the provider's cache has
    forgotten the conversation, or pays within `later` more calls that are expected (see
    `tersely.cache_plan`). Never otherwise: one that would spare less than `least` times the limit
    is not done either, so that what is cached is not rewritten for little.

    What comes out has `to` times the limit at most, so that there is room before the next time; it
    is more where what is kept word for word takes that. Facts go, the oldest first, only to get
    there.

    Old results of tools go first, in their places, the oldest first, until the request has `early`
    times the limit: by their form, then as markers (see `tersely.middleware.shrinking`). Only where
    that is not enough do older turns become one message. With `results` off they do so at once.
    `recall` keeps the originals, so that the markers can tell how to have them again; without, they
    say that nobody can.

    The last `keep` exchanges stay as they are, as do the system's messages, what the user said
    last, and messages that hold more than text; calls and their results stay or go together. An
    exchange begins where the user speaks, and where the assistant goes on after a result. `words`
    tells whether all that the user said stays byte for byte ("kept"), or may be told shorter within
    the message that stands for older turns ("short"). `writer` is the plan that writes that
    message: its name, or `{name: {setting: value}}`. `prices` is a file with prices that go before
    ours.

    Up to `wait` times the limit nothing is rewritten that would cost more than the conversation
    spared so far: with `inf` it never costs more than doing nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    limit: int | None = Field(default=None, ge=0)
    keep: int = Field(default=4, ge=1)
    early: float = Field(default=0.5, gt=0, le=1)
    later: float = Field(default=0, ge=0)
    least: float = Field(default=0.1, ge=0, lt=1)
    to: float = Field(default=0.9, gt=0, le=1)
    wait: float = Field(default=1, ge=1)
    words: Literal["kept", "short"] = "kept"
    results: bool = True
    recall: Any = Field(default=None, exclude=True, repr=False)
    prices: str = ""
    writer: Any = Field(default="history", validate_default=True)

    @field_validator("writer")
    @classmethod
    def _a_plan(cls, value: Any) -> Any:
        if isinstance(value, Plan):
            return value
        if isinstance(value, str):
            return plan(value)
        if isinstance(value, dict) and len(value) == 1:
            ((name, settings),) = value.items()
            return plan(str(name), **(settings or {}))
        raise ValueError("a writer is a plan, its name, or {name: {setting: value}}")

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """Read it as people write it: a limit in tokens, or a mapping. Raises ConfigError."""
        if value is None or isinstance(value, cls):
            return value
        try:
            given = {"limit": value} if isinstance(value, int) else value
            made = cls.model_validate(given)
        except ValidationError as error:
            raise ConfigError(f"history {first_fault(error)}") from error
        if made.prices:
            prices(made.prices)
        return made

    def plain(self) -> dict[str, Any]:
        """What differs from the defaults, as YAML has it."""
        settings = self.model_dump(exclude_defaults=True, exclude={"writer"})
        writer = spelled(self.writer)
        return settings if writer == "history" else settings | {"writer": writer}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A request before it is sent: its tokens, and where the cache stands.

    Of `size` tokens `ahead` stand before the older turns; these had `old` as they came; `limit` and
    `least` are in tokens, and so is what was `spared` so far. `idle` are the seconds since the last
    request, None where none is known. `exact` tells that tokens are no estimate.
    """

    size: int
    ahead: int
    old: int
    limit: int
    least: int
    early: float
    later: float
    wait: float
    idle: float | None
    spared: float
    price: Price
    exact: bool = True

    @classmethod
    def of(
        cls,
        terms: Compaction,
        limit: int,
        model: str,
        so_far: tuple[float | None, float],
        sizes: Sequence[int],
    ) -> Self:
        """The moment of a request whose whole, head and older turns have these `sizes`.

        `so_far` are the seconds since the last one, and what was spared.
        """
        size, ahead, old = sizes
        idle, spared = so_far
        return cls(
            size=size,
            ahead=ahead,
            old=old,
            limit=limit,
            least=int(limit * terms.least),
            early=terms.early,
            later=terms.later,
            wait=terms.wait,
            idle=idle,
            spared=spared,
            price=price_of(model, terms.prices),
        )

    def verdict(self, spared: int, cost: float = 0.0) -> Verdict:
        """Whether it pays to spare so many tokens of the older turns."""
        before = self.size - self.ahead
        change = Rewrite(
            ahead=self.ahead, before=before, after=before - spared, cost=cost, idle=self.idle
        )
        return judged(change, self.price, self.later)

    @property
    def due(self) -> str:
        """Why compaction is to be done now; "" where it is not."""
        if self.size > self.limit:
            return f"{self.size} tokens are over the limit of {self.limit}"
        if self.size <= self.early * self.limit or self.idle is None:
            return ""
        if is_cold(self.idle, self.price):
            return f"the cache is cold after {self.idle:.0f} s, so that rewriting costs nothing"
        if self.later and self.verdict(int(self.old * SHARE)).pays:
            return f"it pays within the {self.later:g} more calls that are expected"
        return ""

    @property
    def waits(self) -> str:
        """Why compaction is not even tried yet; "" where it is."""
        if not self.limit < self.size <= self.limit * self.wait:
            return ""
        return self._dear(int(self.old * SHARE), 0.0)

    def refusal(self, spared: int, cost: float) -> str:
        """Why a compaction that spares so much is not done all the same; "" where it is."""
        if spared <= 0:
            return "what binds and the facts are as long as the turns themselves"
        if spared < self.least:
            return f"it would spare {spared} tokens, fewer than {self.least}"
        if self.size > self.limit * self.wait:
            return ""
        after = self.size - spared
        later = self.wait > 1 and after < long_enough(self.price, self.exact)
        if later or is_shrunk_below(self.size, after, self.price, self.exact):
            return f"the rest would be too short to be cached (under {self.price.minimum} tokens)"
        if self.size > self.limit:
            return self._dear(spared, cost)
        verdict = self.verdict(spared, cost)
        return "" if verdict.pays else verdict.reason

    def _dear(self, spared: int, cost: float) -> str:
        """Why it would cost more than was spared so far; "" where it would not."""
        verdict = self.verdict(spared, cost)
        if verdict.pays or verdict.gain + self.spared >= 0:
            return ""
        lost, so_far = round(-verdict.gain), round(self.spared)
        return f"it waits, since it would cost {lost} tokens more now and {so_far} were spared"
