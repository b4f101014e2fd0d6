"""Keep what a question needs: by words, by meaning and by attention, and with its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tersely.compressors.heard import heard
from tersely.compressors.prune import Foreseeing, Wanted, apart
from tersely.compressors.sentences import AUTO, chosen, read_for, similarity
from tersely.contracts import Context
from tersely.documents import documents_of, named_in, titled, titles_of
from tersely.errors import require
from tersely.lexical import centrality, relevance, standardised
from tersely.models import resolve
from tersely.nearby import smoothed
from tersely.order import Order, labelled
from tersely.part import Part
from tersely.prompt import Prompt, Segment, Span
from tersely.units import Bools, Floats, Ints, Units, split

BEST = 2
"""Documents from which the next step is taken."""


class Query(Foreseeing):
    """Keeps the sentences that a question needs, and what stands around them.

    A sentence is scored by the words it shares with the question (BM25), and by its meaning
    (cosine to the question, its document's title before it) where an encoder is at hand. Scores
    of like deviation are added, and each is averaged with those of its neighbours in the same
    document, so that passages stay together: at `reach` characters a neighbour counts a third.
    What the question, or one of the two best documents, names by its title is worth `linked`
    deviations more: that is how a question of two steps finds the second.
    Worked examples and numbered passages are taken whole; the best that does not fit is begun.
    Without a question the sentences stay that are nearest to what the whole text is about.
    Of a tool's answer, what is named by the question or by a call comes before all else, with
    its neighbours and what tells of an error; there and in earlier turns sentences with ids,
    numbers, dates or paths are worth a deviation more, since calls are made of them.

    `encoder` is a name of ours, a folder or hub id; "auto" is MiniLM if it is on this machine,
    and "" never takes one. No model is needed. The weights, and that nothing else is added, were
    chosen on held-out questions; `benchmarks/pruning` shows the alternatives.
    """

    name = "query"
    paper = "Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019"

    unit: Literal["sentence", "line", "paragraph"] = "sentence"
    encoder: str = "auto"
    lexical: float = Field(default=1.0, ge=0)
    meaning: float = Field(default=1.0, ge=0)
    reach: float = Field(default=500, ge=0)
    linked: float = Field(default=1.0, ge=0)
    order: Order = "auto"

    def ready(self) -> None:
        if self.encoder not in ("", AUTO):
            require("sentence_transformers", extra="rag")
            resolve(self.encoder)

    def marks(self, segment: Segment, facts: Sequence[Span]) -> Sequence[Span]:
        """Worked examples and numbered passages are units by themselves, beside what is marked."""
        documents = split(segment.text, "paragraph")
        if not labelled(documents):
            return segment.spans
        whole = zip(documents.starts.tolist(), documents.ends.tolist(), strict=True)
        return [*segment.spans, *whole]

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        return heard(super().weighed(segments, prompt, context), segments, prompt)

    @property
    def reads_ahead(self) -> bool:
        """Whether there is an encoder to read with."""
        return bool(self.meaning and self.encoder)

    def read_for(self, wanted: Sequence[Wanted]) -> None:
        asked = [one for one in wanted if one.prompt.question]
        if asked and (encoder := chosen(self.encoder, self.name, asked[0].context)):
            told = [([*titled(self.units_of(one))], one.prompt.question) for one in asked]
            read_for(told, encoder, wanted[0].context)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        texts = [text for one in units for text in one.texts]
        groups = documents_of(units)
        scores = np.zeros(len(texts))
        for weight, found in self._scores(texts, units, prompt, context):
            scores += weight * standardised(found)
        values = smoothed(scores, units, groups, self.reach)
        if self.linked and prompt.question:
            named = _named(values, units, groups, prompt.question)
            values = values + self.linked * scores.std() * named[groups]
        return apart(values, units)

    def _scores(
        self, texts: Sequence[str], units: Sequence[Units], prompt: Prompt, context: Context
    ) -> Iterator[tuple[float, Floats]]:
        """Each scorer's weight, and what it finds."""
        if not prompt.question:
            yield 1.0, centrality(texts)
            return
        if self.lexical:
            yield self.lexical, relevance(texts, prompt.question)
        if self.meaning and (encoder := chosen(self.encoder, self.name, context)):
            yield self.meaning, similarity(titled(units), prompt.question, encoder, context)


def _named(values: Floats, units: Sequence[Units], groups: Ints, question: str) -> Bools:
    """Which documents the question or the best documents name by their titles.

    The best ones need no help. Shape: (documents,).
    """
    titles = titles_of(units)
    worth = np.full(len(titles), -np.inf)
    np.maximum.at(worth, groups, values)
    best = np.argsort(-worth, kind="stable")[:BEST]
    texts = [text for one in units for text in one.texts]
    told = [text for text, number in zip(texts, groups.tolist(), strict=True) if number in best]
    named = named_in("\n".join([question, *told]), titles)
    named[best] = False
    return named
