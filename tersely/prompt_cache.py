"""What a provider's prompt cache makes of requests: which tokens are read there, and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

from tersely.prices import Price

MILLION = 1_000_000

LOOKBACK = 20
"""How many blocks before a breakpoint a provider looks for what it has cached."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a prompt that is sent as a whole, and its tokens."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The tokens of one request, or of several: read from the cache, written there, or neither."""

    read: int = 0
    written: int = 0
    fresh: int = 0

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.read + self.written + self.fresh

    def __add__(self, other: Sent) -> Sent:
        return Sent(
            read=self.read + other.read,
            written=self.written + other.written,
            fresh=self.fresh + other.fresh,
        )

    def listed(self, price: Price) -> float:
        """Dollars without any cache."""
        return self.tokens * price.input / MILLION

    def cost(self, price: Price) -> float:
        """Dollars with the cache priced in."""
        return self.weighed(price) * price.input / MILLION

    def weighed(self, price: Price) -> float:
        """As many tokens that are neither read nor written would cost the same."""
        return self.read * price.read + self.written * price.write + self.fresh


class PromptCache:
    """Follows the requests of one application, in their order, as the provider's cache would.

    A prefix that was sent before is read if it has the tokens that it must have, and was used
    within the time that the provider tells; whole pieces are compared. What follows is written.
    """

    def __init__(self) -> None:
        self._used: dict[bytes, float] = {}

    def send(
        self,
        pieces: Sequence[Piece],
        price: Price,
        *,
        now: float = 0,
        marks: Sequence[int] | None = None,
    ) -> Sent:
        """What becomes of a request that is sent at `now` (seconds).

        `marks` are the caller's breakpoints, each after so many pieces: what is written ends at
        one, and what is read within `LOOKBACK` pieces before one. None: the provider finds the
        places by itself.
        """
        sizes = list(accumulate((piece.tokens for piece in pieces), initial=0))
        keys = chain(pieces)
        ends = range(1, len(pieces) + 1) if marks is None else sorted(set(marks))
        able = [i for i in ends if i and sizes[i] >= max(price.minimum, 1)]
        looked = able if marks is None else {i for end in able for i in _before(end)}
        held = max((i for i in looked if self._is_held(keys[i - 1], price, now)), default=0)
        self._used.update((keys[i - 1], now) for i in [*able, *filter(None, [held])])
        end = able[-1] if able else 0
        return Sent(
            read=sizes[held], written=sizes[end] - sizes[held], fresh=sizes[-1] - sizes[end]
        )

    def _is_held(self, key: bytes, price: Price, now: float) -> bool:
        used = self._used.get(key)
        return used is not None and now - used <= price.ttl


def chain(pieces: Sequence[Piece]) -> list[bytes]:
    """For each piece, a key of everything up to it."""
    keys = [_key(piece.text.encode(errors="surrogatepass")) for piece in pieces]
    return list(accumulate(keys, lambda so_far, key: _key(so_far + key)))


def _before(mark: int) -> range:
    """The places where a provider looks that has a breakpoint there."""
    return range(max(mark - LOOKBACK, 0) + 1, mark + 1)


def _key(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
