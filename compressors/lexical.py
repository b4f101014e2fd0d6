"""Keep the sentences that share words with the question, or with the rest of the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tersely.compressors.prune import Pruner, apart
from tersely.contracts import Context
from tersely.documents import documents_of
from tersely.lexical import best_of_group, centrality, relevance, standardised
from tersely.prompt import Prompt
from tersely.units import Floats, Units


class Lexical(Pruner):
    """Keeps the sentences nearest to the question by their words; needs no model.

    With a question the score is BM25 of the sentence plus, `document` times, that of the best
    sentence of its paragraph: a paragraph that answers is kept together. Without a question it
    is how central the sentence is, plus `lead` times how early it stands.
    """

    name = "lexical"
    paper = "Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019"

    unit: Literal["phrase", "sentence", "line", "paragraph"] = "sentence"
    document: float = Field(default=1.0, ge=0)
    lead: float = Field(default=0.3, ge=0)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        texts = [text for one in units for text in one.texts]
        if prompt.question and (scores := relevance(texts, prompt.question)).any():
            group = best_of_group(scores, documents_of(units))
            scores = standardised(scores) + self.document * standardised(group)
        else:
            scores = standardised(centrality(texts)) + self.lead * standardised(_early(units))
        return apart(scores, units)


def _early(units: Sequence[Units]) -> Floats:
    """How early each unit stands in its text, 1 for the first."""
    return np.concatenate([1 / (1 + np.arange(len(one), dtype=np.float64)) for one in units])
