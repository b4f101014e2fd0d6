"""A text as a row of documents: what stands between blank lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import regex

from tersely.units import Bools, Ints, Units, split


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

NAME = 4
"""Characters from which a title is a name that can be found again."""

WORDS = regex.compile(r"[\p{L}\p{N}]+")
BRACKETS = regex.compile(r"\s\([^()]*\)$")
"""What tells namesakes apart: `Mercury (planet)`."""


def titled(units: Sequence[Units]) -> list[str]:
    """Every unit of every text, with the title of its document before it, if that has one."""
    texts = [text for one in units for text in one.texts]
    titles = titles_of(units)
    named = [titles[number] for number in documents_of(units).tolist()]
    return [
        f"{title}: {text}" if title and not text.startswith(title) else text
        for text, title in zip(texts, named, strict=True)
    ]


def titles_of(units: Sequence[Units]) -> list[str]:
    """The title of each document of all texts, "" for one without.

    A title is a short first line, no sentence, that other lines follow.
    """
    return [title_of(text) for one in units for text in split(one.text, "paragraph").texts]


def named_in(text: str, titles: Sequence[str]) -> Bools:
    """Which titles a text names, in whatever case. Shape: (titles,)."""
    plain = f" {' '.join(WORDS.findall(text.lower()))} "
    names = [" ".join(WORDS.findall(BRACKETS.sub("", title.lower()))) for title in titles]
    return np.array([len(name) >= NAME and f" {name} " in plain for name in names], np.bool_)


def title_of(document: str) -> str:
    """The first line of a document where it is a title, else ""."""
    first, apart, _ = document.partition("\n")
    ends = first.rstrip()[-1:] in ENDS
    return first.strip() if apart and not ends and len(first) <= TITLE else ""
