"""A text as a row of documents: what stands between blank lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tersely.units import Ints, Units, split


def documents_of(units: Sequence[Units]) -> Ints:
    """The number of the document that each unit lies in, counted through all texts.

    A document is a paragraph of its text. Shape: (units of all texts,).
    """
    numbers: list[Ints] = [np.zeros(0, np.int64)]
    before = 0
    for one in units:
        paragraphs = split(one.text, "paragraph")
        inside = np.searchsorted(paragraphs.starts, one.starts, "right")
        numbers.append(np.maximum(inside - 1, 0) + before)
        before += len(paragraphs)
    return np.concatenate(numbers)
