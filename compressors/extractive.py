"""Summarise by the sentences that say most of the whole, and none of it twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tersely.compressors.coverage import covering
from tersely.compressors.graph import Likeness, likeness, walked
from tersely.compressors.prune import Foreseeing, Wanted, apart
from tersely.compressors.sentences import AUTO, chosen, read_for, similarity
from tersely.contracts import Context
from tersely.documents import documents_of
from tersely.errors import require
from tersely.lexical import relevance, standardised
from tersely.models import resolve
from tersely.nearby import smoothed
from tersely.prompt import Prompt
from tersely.units import Floats, Unit, Units

MOST = 4000
"""Sentences up to which each is compared with each."""


class Extractive(Foreseeing):
    """An extractive summary: the sentences that say most, in their own words and order.

    A sentence is worth what it says of the whole: by `centrality` "graph" it is ranked by those
    that resemble it (LexRank), by "centroid" by how near it is to the mean of all. With a question
    it is worth most what answers it, by words (BM25) and by meaning, together with its neighbours
    up to `reach` characters; `central` is what the whole counts beside that, and the graph is
    walked from what answers.

    Taken is what adds most for its tokens: words of weight that no sentence taken before has, less
    by how far it resembles one of those (maximum coverage under a budget). A word weighs what the
    sentences that hold it are worth. `diversity` is the part of that beside what a sentence is
    worth by itself: with 0 they are ranked by that alone.

    Sentences are compared by meaning where an encoder is at hand, else by their words: `encoder`
    is a name of ours, a folder or hub id; "auto" is MiniLM if it is on this machine, and "" never
    takes one. Only whole sentences are kept, as many as the budget holds; a budget too small for
    any leaves a mark. Of texts with more than 4000 sentences none is compared with each other:
    they are summarised by "centroid", whatever is set.
    """

    name = "extractive"
    paper = "Erkan and Radev 2004, https://arxiv.org/abs/1109.2128"

    unit: Literal["sentence", "line", "paragraph"] = "sentence"
    fill: Unit | None = None
    encoder: str = AUTO
    centrality: Literal["centroid", "graph"] = "centroid"
    central: float = Field(default=0.25, ge=0)
    diversity: float = Field(default=0.65, ge=0, le=1)
    reach: float = Field(default=500, ge=0)

    def ready(self) -> None:
        if self.encoder not in ("", AUTO):
            require("sentence_transformers", extra="rag")
            resolve(self.encoder)

    @property
    def reads_ahead(self) -> bool:
        """Whether there is an encoder to read with."""
        return bool(self.encoder)

    def read_for(self, wanted: Sequence[Wanted]) -> None:
        if not (encoder := chosen(self.encoder, self.name, wanted[0].context)):
            return
        texts = [[text for cut in self.units_of(one) for text in cut.texts] for one in wanted]
        asked = [one.prompt.question for one in wanted]
        whole = [(some, "") for some in texts]  # compared with each other, without a prompt
        told = [(some, question) for some, question in zip(texts, asked, strict=True) if question]
        read_for([*whole, *told], encoder, wanted[0].context)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        texts = [text for one in units for text in one.texts]
        if not texts:
            return [np.zeros(0) for _ in units]
        encoder = chosen(self.encoder, self.name, context)
        compared = likeness(texts, encoder, context)
        scores = self._scores(texts, units, compared, encoder, (prompt, context))
        order = np.argsort(-scores, kind="stable")
        if self.diversity:
            context.check()
            most = _most(texts, prompt, context)
            like = compared.to if len(texts) <= MOST else None
            taken = covering(texts, scores, like, most, newness=self.diversity, context=context)
            order = np.concatenate((taken, order[~np.isin(order, taken)]))
        values = np.empty(len(texts))
        values[order] = np.arange(len(texts), 0, -1)
        return apart(values, units)

    def _scores(
        self,
        texts: Sequence[str],
        units: Sequence[Units],
        compared: Likeness,
        encoder: str,
        asked: tuple[Prompt, Context],
    ) -> Floats:
        """What each sentence is worth by itself. Shape: (texts,)."""
        prompt, context = asked
        answers = np.zeros(len(texts))
        if prompt.question:
            answers = standardised(relevance(texts, prompt.question))
            if encoder:
                answers += standardised(similarity(texts, prompt.question, encoder, context))
            answers = smoothed(answers, units, documents_of(units), self.reach)
        if answers.any() and not self.central:
            return standardised(answers)
        if self.centrality == "centroid" or len(texts) > MOST:
            whole = compared.central()
        else:
            whole = walked(compared, _share(answers), context)
        weight = self.central if answers.any() else self.central or 1.0
        return standardised(answers) + weight * standardised(whole)


def _share(answers: Floats) -> Floats:
    """Where walks begin: at the better half of what answers. Shape: (texts,)."""
    return np.maximum(answers - np.median(answers), 0.0)


def _most(texts: Sequence[str], prompt: Prompt, context: Context) -> int:
    """How many sentences the budget can hold at most: those beyond need no comparing."""
    shut = context.tokens(prompt.with_texts(dict.fromkeys(prompt.open, "")))
    left = context.tokens(prompt) if context.limit is None else context.limit - shut
    costs = np.cumsum(np.sort(context.tokens_of(texts)))
    return int(np.searchsorted(costs, max(left, 0), "right")) + 1
