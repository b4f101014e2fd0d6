"""Choose texts that say much that is not said yet: words of weight, for what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace

import numpy as np

from tersely.contracts import Context
from tersely.lexical import tf_idf
from tersely.retrieval import Vectors
from tersely.units import Floats, Ints

DEAR = 0.5
"""How much a long text is held against it: what it adds counts per square root of its tokens."""

FARTHEST = 100.0
"""Deviations beyond which a text is worth no more and no less, so that no number runs over."""

CHECKED = 64
"""Texts taken between two looks at the time budget."""

Compare = Callable[[int], Floats | Vectors]


def covering(
    texts: Sequence[str],
    worth: Floats,
    like: Compare | None,
    most: int,
    *,
    newness: float,
    context: Context,
) -> Ints:
    """The texts that say most that none before them says, in the order of choice.

    `worth` is what each is worth by itself, in deviations from their mean. A word weighs what the
    texts that hold it are worth together, and more when it is rare. At each step the text is taken
    that adds the most weight for its tokens, less by what it is `like` one that is taken (a
    cosine); `newness` (above 0, up to 1) is the part of that beside what it is worth. It ends
    after `most` texts or when nothing new is left. Raises OutOfTime.

    Maximum coverage under a budget: Gillick and Favre 2009, https://aclanthology.org/W09-1802;
    greedily, for what it costs: Lin and Bilmes 2010, https://aclanthology.org/N10-1134.
    """
    if not len(texts):
        return np.zeros(0, np.int64)
    own, weights = _words(texts, worth)
    costs = np.maximum(np.asarray(context.tokens_of(texts), np.float64), 1.0)
    scale = np.exp(np.clip(worth * (1 - newness) / newness, -FARTHEST, FARTHEST)) / costs**DEAR
    unlike = np.ones(len(texts))
    waiting = [(-float(weights[words].sum() * scale[i]), i, 0) for i, words in enumerate(own)]
    heapify(waiting)
    taken: list[int] = []
    while waiting and waiting[0][0] < 0 and len(taken) < most:
        _, i, known = waiting[0]
        if known == len(taken):
            taken.append(i)
            weights[own[i]] = 0.0
            if like is not None:
                unlike = np.clip(1 - np.asarray(like(i), np.float64), 0, unlike)
            if len(taken) % CHECKED == 0:
                context.check()
        # what it adds was reckoned before others were taken, and can only be less now
        gain = float(weights[own[i]].sum() * scale[i] * unlike[i])
        heapreplace(waiting, (-gain, i, len(taken)))
    return np.array(taken, np.int64)


def _words(texts: Sequence[str], worth: Floats) -> tuple[list[Ints], Floats]:
    """The words of each text by their numbers, and what each word weighs. Shape: (words,)."""
    width, rows, columns, _ = tf_idf(texts)
    standing = np.exp(np.clip(worth - worth.max(), -FARTHEST, 0))
    spread = np.bincount(columns, minlength=width)
    shared = np.bincount(columns, standing[rows], width).astype(np.float64)
    weights: Floats = shared * np.log1p(len(texts) / np.maximum(spread, 1))
    bounds = np.searchsorted(rows, np.arange(1, len(texts)))
    return np.split(columns, bounds), weights
