"""Logistic regression that needs no setting to converge: a step size that can't be too long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tersely.units import Floats


class Features(Protocol):
    """Rows of length 1 or less, as the fit needs them."""

    @property
    def shape(self) -> tuple[int, int]: ...
    def times(self, weights: Floats, /) -> Floats: ...
    def back(self, weights: Floats, /) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Dense:
    """Rows of numbers. Shape of `matrix`: (rows, columns)."""

    matrix: Floats

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    def times(self, weights: Floats) -> Floats:
        """Each row's sum, weighted."""
        return np.asarray(self.matrix @ weights, np.float64)

    def back(self, weights: Floats) -> Floats:
        """Each column's sum, weighted by rows."""
        return np.asarray(weights @ self.matrix, np.float64)


def chances(scores: Floats) -> Floats:
    """Scores as probabilities, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)), np.float64)


def fitted(
    features: Features,
    labels: Floats,
    penalty: float,
    steps: int,
    tell: Callable[[int, float], None] = lambda done, loss: None,
) -> Floats:
    """The weights that tell labels (0 or 1) from features, and behind them the bias.

    What is made small is the mean log loss and `penalty` times the squared weights. The descent is
    Nesterov's with the momentum for strongly convex functions: rows are of length 1, so that the
    curvature is known and nothing is tuned or drawn at random. Shape: (columns + 1,).
    """
    rows, columns = features.shape
    usual = float(np.clip(labels.mean(), 1e-3, 1 - 1e-3))
    bias = np.log(usual / (1 - usual))
    curvature = 0.5 + penalty  # a quarter of the squared length: of the row, and of the bias's 1
    momentum = (1 - np.sqrt(penalty / curvature)) / (1 + np.sqrt(penalty / curvature))
    here = ahead = np.zeros(columns + 1)
    for step in range(steps):
        told = chances(features.times(ahead[:-1]) + ahead[-1] + bias)
        wrong = (told - labels) / rows
        slope = np.append(features.back(wrong), wrong.sum()) + penalty * ahead
        before, here = here, ahead - slope / curvature
        ahead = here + momentum * (here - before)
        tell(step + 1, _loss(told, labels))
    here[-1] += bias
    return here


def _loss(told: Floats, labels: Floats) -> float:
    """The mean surprise of labels."""
    right = np.where(labels > 0.5, told, 1 - told)
    return float(-np.log(right.clip(1e-12)).mean())
