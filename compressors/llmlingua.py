"""First the passages, then the words in them, that a language model would not have guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from tersely.compressors.coarse import leading
from tersely.compressors.prune import ByLanguageModel, Foreseeing, Wanted, room
from tersely.compressors.self_information import TokenScores, surprise, surprises
from tersely.contracts import Context
from tersely.prompt import Prompt, Segment, Span
from tersely.select import Part
from tersely.units import Floats, Units, split


class LLMLingua(Foreseeing, ByLanguageModel):
    """LLMLingua: coarse to fine by conditional perplexity, in one pass of the model.

    The budget controller keeps the passages of highest perplexity, `coarse` times as many
    tokens as the budget allows; from these the words of highest perplexity are kept (the paper
    has 2; a lower value keeps whole passages rather than single words). A passage is a sentence,
    or a demonstration (kind `example`): each text by itself, or, when there is only one, what
    stands between blank lines in it. Give instruction, question and demonstrations shares of
    their own with `Budget(shares=...)` and `kinds`.

    What differs from the paper: the text is scored once, on condition of the question if it is
    known, and not again after each cut; words are never cut, facts go last, and the budget is
    met exactly.
    """

    name = "llmlingua"
    paper = "Jiang et al. 2023, https://arxiv.org/abs/2310.05736"

    unit: Literal["token", "word", "phrase"] = "word"
    coarse: float = Field(default=1.2, ge=1)

    def read_for(self, wanted: Sequence[Wanted]) -> None:
        asked = [(text, _condition(one.prompt)) for one in wanted for text in one.texts]
        surprises(asked, self.model, wanted[0].context)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        scores = self._scores([one.text for one in units], prompt, context)
        return [score.means(one) for score, one in zip(scores, units, strict=True)]

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        """Words of the passages that the budget controller keeps go before all others."""
        parts = super().weighed(segments, prompt, context)
        scores = self._scores([segment.text for segment in segments], prompt, context)
        share = self.coarse * room(prompt, context)
        ranked = []
        for part, kept in zip(parts, _passages(segments, scores, share), strict=True):
            ahead = 2 * part.units.touching(kept)
            ranked.append(replace(part, ranks=part.ranks + ahead))
        return ranked

    def _scores(self, texts: Sequence[str], prompt: Prompt, context: Context) -> list[TokenScores]:
        return surprise(texts, self.model, context, condition=_condition(prompt))


def _condition(prompt: Prompt) -> str:
    """What stands before every text."""
    return f"{prompt.question}\n" if prompt.question else ""


def _passages(
    segments: Sequence[Segment], scores: Sequence[TokenScores], share: float
) -> list[list[Span]]:
    """The passages of each segment that are most surprising, up to a share of all tokens."""
    several = sum(one.kind == "example" for one in segments) > 1
    passages = [_cut(one, several) for one in segments]
    pairs = list(zip(scores, passages, strict=True))
    means = np.concatenate([score.means(passage) for score, passage in pairs])
    sizes = np.concatenate([score.counts(passage) for score, passage in pairs])
    kept = leading(means, sizes, share)
    bounds = np.cumsum([len(passage) for passage in passages])[:-1]
    return [
        list(zip(one.starts[keep].tolist(), one.ends[keep].tolist(), strict=True))
        for one, keep in zip(passages, np.split(kept, bounds), strict=True)
    ]


def _cut(segment: Segment, several: bool) -> Units:
    """The passages of a text; `several` tells that each demonstration is a text by itself."""
    if segment.kind != "example":
        return split(segment.text, "sentence")
    if several:
        return Units(segment.text, np.array([0]), np.array([len(segment.text)]))
    return split(segment.text, "paragraph")
