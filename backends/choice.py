"""How the next tokens of answers are chosen from scores in numpy; `decode` does it in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersely.backends.decode import Answer, Likeliest
from tersely.contracts import Request

Floats = NDArray[np.floating[Any]]

MOST = 1024
"""So many of the likeliest tokens are sorted, where they suffice for `top_p`."""


def choose(logits: Floats, answers: Sequence[Answer]) -> list[tuple[int, float, Likeliest]]:
    """For each row the next token, its log-probability and the likeliest ones, where asked for.

    Log-probabilities are the model's own. Shape: rows x vocabulary.
    """
    return [_choose(row, answer) for row, answer in zip(logits, answers, strict=True)]


def _choose(scores: Floats, answer: Answer) -> tuple[int, float, Likeliest]:
    request = answer.request
    wished = bent(scores, answer)
    if request.temperature > 0:
        token = sample(wished, request, answer.dice.random())
    else:
        token = int(wished.argmax())
    if not answer.tells:
        return token, 0.0, ()
    most = scores.max()
    whole = float(most + np.log(np.exp((scores - most).astype(np.float64)).sum()))
    first = highest(scores, request.alternatives).tolist()
    likeliest = [(other, float(scores[other]) - whole) for other in first]
    return token, float(scores[token]) - whole, likeliest


def bent(scores: Floats, answer: Answer) -> Floats:
    """The scores by which an answer goes on, as its request wishes. Shape: vocabulary."""
    if answer.request.repetition_penalty != 1:
        scores = penalised(scores, [*answer.seen], answer.request.repetition_penalty)
    if answer.guide is None:
        return scores
    may = answer.guide.may[: len(scores)]
    return np.where(np.pad(may, (0, len(scores) - len(may))), scores, -np.inf)


def penalised(scores: Floats, seen: Sequence[int], penalty: float) -> Floats:
    """The scores, where what was seen has lost by a penalty above 1 (see `penalty.penalised`)."""
    at = np.array([token for token in seen if 0 <= token < len(scores)], np.int64)
    found = scores.copy()
    found[at] = np.where(scores[at] < 0, scores[at] * penalty, scores[at] / penalty)
    return found


def sample(scores: Floats, request: Request, roll: float) -> int:
    """A token drawn from the likeliest ones that together have `top_p` of the probability.

    `roll` in [0, 1) decides. Shape: vocabulary.
    """
    chances = np.exp((scores - scores.max()).astype(np.float64) / request.temperature)
    chances /= chances.sum()
    if request.top_p >= 1:
        return drawn(chances, roll)
    order = highest(chances, MOST)
    if chances[order].sum() < request.top_p:
        order = highest(chances, len(chances))
    upto = chances[order].cumsum()
    within = int((upto - chances[order] < request.top_p).sum())
    order = order[: max(within, 1)]
    return int(order[drawn(chances[order], roll)])


def drawn(chances: Floats, roll: float) -> int:
    """The place that a roll falls on; never one without a chance."""
    upto = chances.cumsum()
    last = int(np.searchsorted(upto, upto[-1]))
    return min(int(np.searchsorted(upto, upto[-1] * roll, side="right")), last)


def highest(values: Floats, count: int) -> NDArray[np.intp]:
    """The places of the highest values, the highest first; of equal ones the first."""
    if count < 1:
        return np.zeros(0, np.intp)
    places = np.arange(len(values))
    if count < len(values):
        places = np.flatnonzero(values >= np.partition(values, -count)[-count])
    return places[np.argsort(-values[places], kind="stable")][:count]
