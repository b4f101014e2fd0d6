"""Cut a text into portions that a model can read at once: whole sentences, in order or by topic."""

from __future__ import annotations

from math import ceil

import numpy as np

from tersely.compressors.graph import likeness
from tersely.compressors.topics import topics
from tersely.contracts import Context
from tersely.units import split

PASSAGE = 160
"""Tokens of the passages that topics are made of, roughly."""

PASSAGES = 400
"""How many there are at most: of longer texts they are longer."""

SPARE = 3
"""How many more topics there may be than portions are needed."""


def portions(text: str, room: int, context: Context) -> list[str]:
    """The text in its order, in as few portions of at most `room` tokens as its sentences allow.

    A sentence that is longer by itself is a portion by itself. What is between sentences stays.
    """
    units = split(text, "sentence")
    texts = units.texts
    bounds: list[int] = []
    total = 0
    sizes = context.tokens_of([f" {one}" for one in texts])
    for start, size in zip(units.starts.tolist(), sizes, strict=True):
        if not bounds or total + size > room:
            bounds.append(start)
            total = 0
        total += size
    ends = [*bounds[1:], len(text)][: len(bounds)]
    return [text[a:b].strip() for a, b in zip(bounds, ends, strict=True)]


def by_topic(text: str, room: int, encoder: str, context: Context) -> list[str]:
    """What belongs together, each topic where it first comes up, in portions of at most `room`.

    Semantic compression, Fei et al. 2023, https://arxiv.org/abs/2312.09571: passages are the nodes
    of a graph, their likeness (by meaning where an encoder is named, else by words) its edges, and
    topics its clusters. Within a topic passages keep their order.
    """
    total = sum(context.tokens_of([text]))
    size = max(min(PASSAGE, room), total // PASSAGES)
    passages = portions(text, size, context)
    compared = likeness(passages, encoder, context)
    near = np.stack([compared.to(i) for i in range(len(passages))])
    needed = ceil(total / room)
    groups = topics(near, needed, needed + SPARE)
    found: list[str] = []
    for group in range(int(groups.max()) + 1):
        own = "\n".join(passages[i] for i in np.flatnonzero(groups == group).tolist())
        found += portions(own, room, context)
    return found
