"""Make one row of scores out of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tersely.errors import ConfigError
from tersely.units import Floats

SMOOTHING = 60
"""How little the first places stand out in a fusion by ranks."""


def min_max(scores: Floats) -> Floats:
    """Scores brought to between 0 and 1; all 0 where they do not differ. Shape: (scores,)."""
    if not len(scores):
        return np.zeros(0)
    least = float(scores.min())
    spread = float(scores.max()) - least
    return (scores - least) / spread if spread > 0 else np.zeros(len(scores))


def weighted(rows: Iterable[tuple[float, Floats]]) -> Floats:
    """The mean of several rows of scores, each brought to between 0 and 1, by their weights.

    What one scorer alone is sure of stands out, where a fusion by ranks would level it. Raises
    ConfigError when there is no row, the rows differ in length, a weight is below 0, or none is
    above. Shape: (scores,).
    """
    given = list(rows)
    total = sum(weight for weight, _ in given)
    if len({len(scores) for _, scores in given}) != 1:
        lengths = [len(scores) for _, scores in given]
        raise ConfigError(f"rows of one length can be fused, these have the lengths {lengths}")
    if any(weight < 0 for weight, _ in given) or total <= 0:
        weights = [weight for weight, _ in given]
        raise ConfigError(f"weights must not be below 0, and one above it, were {weights}")
    fused: Floats = sum(
        (weight / total * min_max(scores) for weight, scores in given), np.zeros(len(given[0][1]))
    )
    return fused


def reciprocal_ranks(rows: Iterable[Sequence[str]], k: int = SMOOTHING) -> dict[str, float]:
    """What each id is worth that stands in some rankings, the best first.

    An id is worth 1 / (k + its place) in each row that it stands in; nothing but the order counts,
    so that scores of any kind can be fused. Cormack et al. 2009,
    https://doi.org/10.1145/1571941.1572114. Raises ConfigError when `k` is below 0.
    """
    if k < 0:
        raise ConfigError(f"k must not be below 0, was {k}")
    worth: dict[str, float] = {}
    for row in rows:
        for place, one in enumerate(dict.fromkeys(row), start=1):
            worth[one] = worth.get(one, 0.0) + 1 / (k + place)
    return dict(sorted(worth.items(), key=lambda item: -item[1]))
