"""Whether changing a cached prompt pays: the formulas beside a cache that is played through."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tersely.cache_plan import (
    Rewrite,
    break_even,
    is_cold,
    is_shrunk_below,
    judged,
    least_share,
    spared,
)
from tersely.errors import ConfigError
from tersely.prices import UNKNOWN, Price, price_of, prices

PRICES = st.builds(
    Price,
    read=st.sampled_from([0.05, 0.1, 0.25, 0.5]),
    write=st.sampled_from([1.0, 1.25, 2.0]),
    minimum=st.sampled_from([0, 512, 1024, 4096]),
    ttl=st.just(300.0),
)


@dataclass
class Provider:
    """A provider that caches prefixes, token by token, and adds up what it asks for."""

    price: Price
    cached: set[tuple[int, ...]] = field(default_factory=set)
    heard: float = -1e9
    bill: float = 0.0

    def call(self, blocks: tuple[tuple[int, int], ...], now: float) -> None:
        """Answer a prompt of blocks (what it is, how many tokens)."""
        if now - self.heard > self.price.ttl:
            self.cached.clear()
        self.heard = now
        whole = sum(size for _, size in blocks)
        held = 0
        for end in range(1, len(blocks) + 1):
            if blocks[:end] in self.cached:
                held = sum(size for _, size in blocks[:end])
        fresh = whole - held
        self.bill += held * self.price.read
        self.bill += fresh * (self.price.write if whole >= self.price.minimum else 1)
        for end in range(1, len(blocks) + 1):
            if sum(size for _, size in blocks[:end]) >= self.price.minimum:
                self.cached.add(blocks[:end])  # type: ignore[arg-type]


def played(rewrite: Rewrite, price: Price, later: int, *, changed: bool) -> float:
    """What a conversation costs from here on, played call by call."""
    provider = Provider(price)
    old = tuple(one for one in ((0, rewrite.ahead), (1, rewrite.before)) if one[1])
    new = tuple(one for one in ((0, rewrite.ahead), (2, rewrite.after)) if one[1])
    now = 0.0
    if rewrite.idle is not None:
        provider.call(old, now)
        now += rewrite.idle
    provider.bill = rewrite.cost if changed else 0.0
    for _ in range(later + 1):
        provider.call(new if changed else old, now)
        now += 1
    return provider.bill


@st.composite
def rewrites(draw: st.DrawFn) -> Rewrite:
    before = draw(st.integers(1, 20_000))
    return Rewrite(
        ahead=draw(st.integers(0, 5_000)),
        before=before,
        after=draw(st.integers(1, before)),
        cost=draw(st.sampled_from([0.0, 10.0, 500.0])),
        idle=draw(st.sampled_from([None, 1.0, 299.0, 301.0, 9_999.0])),
    )


@given(rewrites(), PRICES, st.integers(0, 60))
def test_the_gain_is_what_a_cache_played_through_gives(
    rewrite: Rewrite, price: Price, later: int
) -> None:
    told = judged(rewrite, price, later)
    kept = played(rewrite, price, later, changed=False)
    made = played(rewrite, price, later, changed=True)
    assert told.gain == pytest.approx(kept - made, abs=1e-6)
    assert told.pays is (told.gain > 0)


@given(rewrites(), PRICES)
def test_it_pays_from_that_call_on_and_not_before(rewrite: Rewrite, price: Price) -> None:
    needed = judged(rewrite, price).pays_after
    if needed is None:
        assert not any(judged(rewrite, price, later).gain > 1e-6 for later in (0, 1, 10, 10_000))
        return
    assert judged(rewrite, price, needed).gain > -1e-6
    if needed:
        assert judged(rewrite, price, needed - 1).gain <= 1e-6


@given(st.integers(2, 99), PRICES)
def test_the_break_even_of_long_texts_is_the_formula(percent: int, price: Price) -> None:
    before = 1_000_000
    after = before * (100 - percent) // 100
    assume(after >= price.minimum)
    needed = judged(Rewrite(ahead=0, before=before, after=after, idle=1), price).pays_after
    expected = break_even(percent / 100, price)
    assert needed is not None and expected <= needed <= expected + 1.001


@given(st.floats(0.01, 0.99), PRICES)
def test_rewriting_at_every_turn_needs_that_share(share: float, price: Price) -> None:
    assume(abs(share - least_share(price)) > 1e-6)
    assert (break_even(share, price) == 0) is (share > least_share(price))


@given(st.integers(1, 10_000), st.floats(0, 1), PRICES, st.integers(0, 50))
def test_what_is_new_never_costs_more_when_it_is_shorter(
    tokens: int, share: float, price: Price, later: int
) -> None:
    assert spared(tokens, share, price, later) >= 0


def test_the_figures_of_the_table_hold() -> None:
    fine = price_of("claude-opus-5")
    assert break_even(0.5, fine) == pytest.approx(10.5)
    assert break_even(0.2, fine) == pytest.approx(45)
    assert break_even(0.9, fine) == pytest.approx(0.278, abs=0.001)
    assert least_share(fine) == pytest.approx(0.92)
    assert break_even(0, fine) == float("inf")
    assert break_even(0.5, price_of("gpt-4o")) == 0


def test_a_prefix_too_short_to_be_cached_is_told() -> None:
    price = price_of("gpt-5")
    assert is_shrunk_below(1200, 950, price)
    assert not is_shrunk_below(1200, 100, price)  # a tenth of it costs less uncached
    assert not is_shrunk_below(900, 500, price)
    told = judged(Rewrite(ahead=0, before=1200, after=950, idle=1), price, later=50)
    assert not told.pays
    assert told.reason == "the rest would be too short to be cached (under 1024 tokens)"


def test_reasons_are_plain() -> None:
    price = price_of("claude-opus-5")
    warm = judged(Rewrite(ahead=0, before=10_000, after=5_000, idle=10), price, later=3)
    assert (warm.pays, warm.reason) == (False, "it pays after 11 more calls, and 3 are expected")
    cold = judged(Rewrite(ahead=0, before=10_000, after=5_000, idle=301), price)
    assert (cold.pays, cold.cold) == (True, True)
    assert cold.reason == "nothing of it is cached, so that it pays at once"
    much = judged(Rewrite(ahead=0, before=90_000, after=3_000, idle=10), UNKNOWN)
    assert (much.pays, much.reason) == (True, "it pays at once")
    dear = judged(Rewrite(ahead=0, before=10, after=10, idle=10, cost=9), price)
    assert (dear.pays_after, dear.reason) == (None, "it would never pay")


def test_a_cache_is_cold_after_its_time_and_before_its_first_use() -> None:
    assert is_cold(None, UNKNOWN) and is_cold(301, UNKNOWN)
    assert not is_cold(300, UNKNOWN)


# prices


def test_names_are_found_by_their_patterns() -> None:
    assert price_of("anthropic/claude-sonnet-5-5-20261001").read == 0.05
    assert price_of("GPT-4o-mini").input == 0.15
    assert price_of("a-model-of-nobody") == UNKNOWN
    assert prices().date.year == 2026 and prices().source


def test_a_table_of_the_callers_goes_first(tmp_path: Path) -> None:
    own = tmp_path / "prices.json"
    own.write_text(
        '{"date": "2026-11-20", "source": "our contract",'
        ' "models": [{"match": ["gpt-5*"], "input": 1, "read": 0.2, "ttl": 60}]}'
    )
    assert price_of("gpt-5-mini", str(own)).read == 0.2
    assert price_of("claude-opus-5", str(own)).read == 0.1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "are not YAML or JSON"),
        ("date: 2026-11-20\nsource: x\nmodels: [{read: 0}]", "models.0.read"),
        (None, "can't read the prices"),
    ],
)
def test_a_broken_table_is_told(tmp_path: Path, text: str | None, said: str) -> None:
    own = tmp_path / "own.yaml"
    if text is not None:
        own.write_text(text)
    with pytest.raises(ConfigError, match=said):
        price_of("gpt-5", str(own))
