"""The budget controller: whole passages are chosen before words."""

from __future__ import annotations

import numpy as np

from tersely.units import Bools, Floats


def leading(scores: Floats, sizes: Floats, share: float) -> Bools:
    """The passages of the highest scores, until they hold a share of all tokens.

    The one that goes over it is still among them. Shape: (passages,) each.
    """
    order = np.argsort(-scores, kind="stable")
    before = np.cumsum(sizes[order]) - sizes[order]
    kept = np.zeros(len(order), np.bool_)
    kept[order] = before < share * sizes.sum()
    return kept
