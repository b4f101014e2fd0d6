"""Keep what the words of a question look at, as a language model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tersely.calibration import heads_of
from tersely.compressors.heads import attention
from tersely.compressors.prune import ByLanguageModel, apart
from tersely.contracts import Context
from tersely.documents import documents_of
from tersely.nearby import smoothed
from tersely.order import Order
from tersely.prompt import Prompt
from tersely.units import Floats, Units


class Attention(ByLanguageModel):
    """Keeps what a language model looks at when it reads the question after the text.

    In one pass over text and question, a few heads of the model look back at what answers it.
    Their attention, added up over the words of the question, is what a sentence or word is worth,
    averaged with that of its neighbours in the same document (see `query`). The pass ends at the
    last layer that is needed, well before the model's own end, and nothing is computed over the
    vocabulary: it costs less than reading the text once.

    Which heads these are is found once per model: `tersely models calibrate NAME` keeps them in
    the model's folder; for the embedded model they are known.
    """

    name = "attention"
    paper = "after EHPC, https://arxiv.org/abs/2501.12959"
    needs = frozenset({"question", "causal_lm"})

    unit: Literal["word", "phrase", "sentence", "line", "paragraph"] = "sentence"
    reach: float = Field(default=500, ge=0)
    order: Order = "auto"

    def ready(self) -> None:
        super().ready()
        heads_of(self.model)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        heads = heads_of(self.model)
        texts = [one.text for one in units]
        looked = attention(texts, prompt.question, self.model, heads, context)
        sums = [scores.sums(one) for scores, one in zip(looked, units, strict=True)]
        values = smoothed(np.concatenate(sums), units, documents_of(units), self.reach)
        return apart(values, units)
