"""Drop what a language model would have guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tersely.compressors.prune import ByLanguageModel, Foreseeing, Wanted
from tersely.compressors.self_information import surprise
from tersely.contracts import Context
from tersely.prompt import Prompt
from tersely.units import Floats, Units


class SelectiveContext(Foreseeing, ByLanguageModel):
    """Selective Context: keeps the units that surprise a language model most.

    The self-information of a unit is the mean over its tokens, as in the paper. What differs:
    a text is read in windows rather than sentence by sentence, phrases end at punctuation and
    function words rather than where a parser says, words are never cut, facts go last, and the
    budget is met exactly rather than by a percentile.
    """

    name = "selective_context"
    paper = "Li et al. 2023, https://arxiv.org/abs/2310.06201"

    unit: Literal["token", "phrase", "sentence"] = "phrase"

    def read_for(self, wanted: Sequence[Wanted]) -> None:
        texts = [text for one in wanted for text in one.texts]
        surprise(texts, self.model, wanted[0].context)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        scores = surprise([one.text for one in units], self.model, context)
        return [score.means(one) for score, one in zip(scores, units, strict=True)]
