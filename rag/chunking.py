"""Cut a text into stretches of whole sentences, none longer than so many tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import regex

from tersely.contracts import TokenCounter
from tersely.errors import ConfigError
from tersely.protect import fences
from tersely.units import Ints, Unit, Units, split

SIZE = 128
"""Tokens of a chunk. At one budget smaller chunks find more, and overlap buys nothing."""

FINER: tuple[Unit, ...] = ("word", "token")
"""How a sentence is taken apart that is longer than a chunk may be."""

CHARACTER = regex.compile(r"\X")
"""A character as it is seen, which may be several code points."""


def chunks(text: str, *, size: int = SIZE, count: TokenCounter) -> Units:
    """Stretches of whole sentences, with their places in the text; they leave out white space only.

    None has more than `size` tokens as `count` counts them: a sentence that is longer is cut
    between words, and a word that is longer between characters. Only a single character may have
    more. Code blocks are sentences. Raises ConfigError when `size` is below 1.
    """
    if size < 1:
        raise ConfigError(f"a chunk has at least 1 token, size was {size}")
    units = _small(split(text, "sentence", atoms=fences(text)), size, count)
    sizes = np.array(count.many(_spelled(units)), np.int64)
    while len(units):
        numbers = packed(sizes, size)
        opens = np.append(True, np.diff(numbers) > 0)
        closes = np.append(opens[1:], True)
        made = Units(text, units.starts[opens], units.ends[closes])
        over = np.array(count.many(made.texts), np.int64) > size
        single = np.bincount(numbers) == 1
        if not (over & ~single).any():
            return made
        # tokens do not add up: what came out too long is packed again, more loosely
        sizes = np.where((over & ~single)[numbers], sizes + sizes // 4 + 1, sizes)
    return units


def packed(sizes: Ints, most: int, groups: Ints | None = None) -> Ints:
    """The number of the chunk that each piece goes into, filled one after the other.

    Pieces of different `groups` never share a chunk. Shape of all: (pieces,).
    """
    owners = [0] * len(sizes) if groups is None else groups.tolist()
    numbers: list[int] = []
    number, filled, owner = -1, most, None
    for size, group in zip(sizes.tolist(), owners, strict=True):
        if filled + size > most or group != owner:
            number, filled, owner = number + 1, 0, group
        filled += size
        numbers.append(number)
    return np.array(numbers, np.int64)


def _small(units: Units, size: int, count: TokenCounter) -> Units:
    """The same pieces, with those that have too many tokens cut more finely."""
    for finer in FINER:
        over = np.flatnonzero(np.array(count.many(units.texts), np.int64) > size)
        units = _cut(units, over, [split(units.texts[i], finer) for i in over.tolist()])
    over = np.flatnonzero(np.array(count.many(units.texts), np.int64) > size)
    return _cut(units, over, [_characters(units.texts[i]) for i in over.tolist()])


def _cut(units: Units, which: Ints, pieces: Sequence[Units]) -> Units:
    """The same pieces with some of them in pieces of their own."""
    if not len(which):
        return units
    starts, ends = [np.delete(units.starts, which)], [np.delete(units.ends, which)]
    for at, inner in zip(which.tolist(), pieces, strict=True):
        starts.append(inner.starts + units.starts[at])
        ends.append(inner.ends + units.starts[at])
    return Units(units.text, np.sort(np.concatenate(starts)), np.sort(np.concatenate(ends)))


def _characters(text: str) -> Units:
    spans = np.array([match.span() for match in CHARACTER.finditer(text)], np.int64)
    return Units(text, spans[:, 0], spans[:, 1])


def _spelled(units: Units) -> list[str]:
    """Every piece with the white space before it, as it will be counted in its chunk."""
    before = np.append(units.starts[:1], units.ends[:-1]).tolist()
    return [units.text[start:end] for start, end in zip(before, units.ends.tolist(), strict=True)]
