"""Budgets: as people write them, and clear about what can't be one."""

from __future__ import annotations

from typing import Any

import pytest

from tersely import Budget
from tersely.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (1500, Budget(tokens=1500)),
        ("1500", Budget(tokens=1500)),
        (0.5, Budget(ratio=0.5)),
        (1.0, Budget(ratio=1.0)),
        ("0.5", Budget(ratio=0.5)),
        ("30%", Budget(ratio=0.3)),
        (" 30 % ", Budget(ratio=0.3)),
        (None, Budget()),
        ({"tokens": 10, "ms": 5}, Budget(tokens=10, ms=5)),
        ({"ms": 5, "pace": 2}, Budget(ms=5, pace=2)),
        ({"shares": {"context": 0.3}}, Budget(shares={"context": 0.3})),
        (Budget(tokens=7), Budget(tokens=7)),
    ],
)
def test_reads_what_people_write(written: Any, read: Budget) -> None:
    assert Budget.of(written) == read


@pytest.mark.parametrize(
    ("written", "named"),
    [
        *(
            (value, str(value))
            for value in (0, -1, "0", "-5", 0.0, 1.5, -0.5, "150%", "0%", "half")
        ),
        ("", "''"),
        (True, "True"),
        ([], "[]"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ({"tokens": 0}, "tokens: must be above 0, was 0"),
        ({"ratio": 2}, "ratio: must be above 0 and at most 1, was 2"),
        ({"shares": {"context": 0}}, "context must be above 0 and at most 1, was 0"),
        ({"shares": {"poem": 0.5}}, "poem"),
        ({"ms": 0}, "ms: must be above 0, was 0"),
        ({"pace": -1}, "pace: must be above 0, was -1"),
        ({"token": 5}, "token: Extra inputs are not permitted"),
    ],
)
def test_names_the_value_that_cannot_be(written: Any, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Budget.of(written)
    assert named in str(caught.value)


def test_is_a_frozen_value() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Budget(tokens=1).tokens = 2  # type: ignore[misc]


@pytest.mark.parametrize(("characters", "ms"), [(0, 50), (40_000, 50), (80_000, 100)])
def test_longer_prompts_may_take_longer(characters: int, ms: float) -> None:
    budget = Budget(tokens=10, ms=50, pace=5)
    assert budget.timed(characters) == Budget(tokens=10, ms=ms)


@pytest.mark.parametrize("budget", [Budget(ms=50), Budget(pace=5), Budget(ratio=0.5)])
def test_without_both_the_size_is_no_matter(budget: Budget) -> None:
    assert budget.timed(1_000_000) is budget
