"""Find the topics of a text: a graph of its passages, cut where it is thin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tersely.units import Floats, Ints

ROUNDS = 50
"""How often passages change topics at most."""

Matrix = NDArray[np.float64]


def topics(near: Matrix, least: int, most: int) -> Ints:
    """The topic of each passage, numbered by first appearance. Shape: (passages,).

    `near` holds the cosine of each passage with each. There are from `least` to `most` topics: as
    many as the graph falls apart into most clearly (the widest gap between the eigenvalues of its
    Laplacian; Ng et al. 2001). The same passages always give the same topics.
    """
    count = len(near)
    least, most = min(max(least, 1), count), min(max(most, least, 1), count)
    if count <= 1 or most == 1:
        return np.zeros(count, np.int64)
    values, vectors = np.linalg.eigh(_laplacian(near))
    gaps = np.diff(values, append=values[-1:])[least - 1 : most]
    wanted = least + int(np.argmax(np.round(gaps, 9)))
    rows = vectors[:, :wanted]
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return _in_order(_grouped(rows / np.maximum(norms, 1e-12), wanted))


def _laplacian(near: Matrix) -> Matrix:
    weights = np.clip(near, 0, None)
    np.fill_diagonal(weights, 0)
    scale = 1 / np.sqrt(np.maximum(weights.sum(axis=1), 1e-12))
    found: Matrix = np.eye(len(near)) - scale[:, None] * weights * scale[None, :]
    return (found + found.T) / 2


def _grouped(rows: Matrix, wanted: int) -> Ints:
    """Rows in so many groups by their distance (k-means), begun at rows far from each other."""
    centres = rows[:1]
    while len(centres) < wanted:
        away = _distances(rows, centres).min(axis=1)
        centres = np.vstack((centres, rows[int(np.argmax(np.round(away, 9)))]))
    groups = np.zeros(len(rows), np.int64)
    for _ in range(ROUNDS):
        found = np.argmin(np.round(_distances(rows, centres), 9), axis=1)
        if (found == groups).all():
            break
        groups = found
        for i in range(wanted):
            if (own := groups == i).any():
                centres[i] = rows[own].mean(axis=0)
    return groups


def _distances(rows: Matrix, centres: Matrix) -> Floats:
    found: Floats = ((rows[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2)
    return found


def _in_order(groups: Ints) -> Ints:
    """Groups numbered by the place of their first member."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    places: Ints = np.argsort(np.argsort(first))[inverse]
    return places
