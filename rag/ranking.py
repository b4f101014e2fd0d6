"""What is picked from, sentences or longer stretches, and what each is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersely.lexical import centrality
from tersely.rag.fusion import min_max
from tersely.rag.hops import leads_to, linked, second_step
from tersely.rag.weighing import Scores, Texts, Weights, best_of, stretches
from tersely.units import Bools, Floats, Ints, Units

FEWEST = 4
"""Stretches that the room should be enough for: where it is not, they are made shorter."""

BEHIND, EARLY = 0.4, 0.1
"""What a second step counts beside the first one, and what standing first counts."""

BEGINNING, OF_ROOM = 0.1, 0.75
"""How much of the text is kept from its beginning, and how much of the room that may take at most:
what was put together stands in the order in which it was found, and that tells of later steps too.
"""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Units of some texts as one row: what each is worth, and the unit that comes along with it.

    `groups` are the sentences of each unit. Units that are `titles` come along only, and those that
    are `first` go before all others. Shape: (sentences,), then (units,).
    """

    groups: Ints
    values: Floats
    leads: Ints
    titles: Bools
    first: Bools

    def units(self, texts: Texts) -> list[Units]:
        """The units of each text."""
        found: list[Units] = []
        at = 0
        for one in texts.units:
            own = self.groups[at : at + len(one)]
            at += len(one)
            opens = np.append(True, np.diff(own) > 0)[: len(own)]
            closes = np.append(opens[1:], True)[: len(own)]
            found.append(Units(one.text, one.starts[opens], one.ends[closes]))
        return found


def fine(found: Scores, question: str, weights: Weights) -> Ranking:
    """Sentence by sentence; what the best document names by its title comes next."""
    texts = found.texts
    values = found.sentences(weights)
    if weights.linked and any(texts.titles) and len(values):
        worth = best_of(values, texts.documents)
        led = leads_to(question, texts.joined(texts.documents), worth, texts.titles)
        values = linked(values, texts.documents, worth, led, weights.linked)
    return _ranking(texts, np.arange(len(values)), values, 0)


def coarse(found: Scores, question: str, weights: Weights, room: int, *, steps: bool) -> Ranking:
    """Stretches of sentences, of which a few fit the room. They are worth more who stand first.

    A question in several `steps` is followed by words: what shares rare ones with the best
    sentences is worth more, and a part of the room is for the beginning of the texts. Without a
    question, stretches are worth what they have in common with the whole.
    """
    texts = found.texts
    groups = stretches(texts, min(weights.size, max(room // FEWEST, 1)))
    joined = texts.joined(groups)
    early = 1 - np.arange(len(joined)) / max(len(joined) - 1, 1)
    if not question or not found.words.counts.any():
        return _ranking(texts, groups, min_max(centrality(joined)) + EARLY * early, 0)
    if not steps:
        return _ranking(texts, groups, found.fused(groups, weights.dense) + EARLY * early, 0)
    behind = second_step(question, texts.sentences, found.words.relevance(), joined)
    values = found.fused(groups, 0.0) + BEHIND * min_max(behind)
    return _ranking(texts, groups, values, min(BEGINNING * texts.sizes.sum(), OF_ROOM * room))


def _ranking(texts: Texts, groups: Ints, values: Floats, beginning: float) -> Ranking:
    """Units with the titles that come along, and those of the beginning first.

    A document that is only a title leads nothing.
    """
    opens = np.flatnonzero(np.diff(groups, prepend=-1))
    leads = groups[texts.leads[opens]]
    titles = np.zeros(len(opens), np.bool_)
    titles[leads[leads != np.arange(len(opens))]] = True
    sizes = np.bincount(groups, texts.sizes, len(opens))
    return Ranking(groups, values, leads, titles, np.cumsum(sizes) <= beginning)


def in_texts(row: NDArray[Any], units: Sequence[Units]) -> list[NDArray[Any]]:
    """Of a row for the units of all texts, what belongs to each text."""
    return np.split(row, np.cumsum([len(one) for one in units])[:-1])
