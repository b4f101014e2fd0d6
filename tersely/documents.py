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


TITLE = 90
"""Characters that a first line may have to be a title."""

ENDS = frozenset(".!?,;:")
"""What a sentence ends with, and a title does not."""


def titled(units: Sequence[Units]) -> list[str]:
    """Every unit of every text, with the title of its document before it, if that has one.

    A title is a short first line, no sentence, that other lines follow.
    """
    found: list[str] = []
    for one in units:
        paragraphs = split(one.text, "paragraph")
        titles = [_title(text) for text in paragraphs.texts]
        inside = np.searchsorted(paragraphs.starts, one.starts, "right") - 1
        for text, at in zip(one.texts, inside.tolist(), strict=True):
            title = titles[at] if at >= 0 else ""
            found.append(f"{title}: {text}" if title and not text.startswith(title) else text)
    return found


def _title(document: str) -> str:
    first, apart, _ = document.partition("\n")
    ends = first.rstrip()[-1:] in ENDS
    return first.strip() if apart and not ends and len(first) <= TITLE else ""
