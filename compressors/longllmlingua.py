"""First the documents that answer the question, then the words that the question makes likelier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from tersely.compressors.coarse import leading
from tersely.compressors.conditional import Heard, with_tail, with_tails
from tersely.compressors.prune import ByLanguageModel, Foreseeing, Wanted, room
from tersely.compressors.self_information import TokenScores, surprise, surprises
from tersely.contracts import Context, Need
from tersely.documents import documents_of
from tersely.order import Order
from tersely.prompt import Prompt, Segment
from tersely.select import Part
from tersely.units import Bools, Floats, Ints, Units, split

RESTRICTIVE = "We can get the answer to this question in the given documents."
"""Said after the question, so that a document counts by whether it answers (from the paper)."""


class LongLLMLingua(Foreseeing, ByLanguageModel):
    """LongLLMLingua: first the documents that answer the question, then the words it is about.

    A document is what stands between blank lines. Documents rank by how likely the question is
    after them; the best are kept, `coarse` times as many tokens as the budget allows and the one
    that goes over it (a higher value keeps fewer words of more documents). In these the words go
    first that become likelier once the question is known. `dynamic` is how much more of the best
    document stays than the average, as a share of its words, and how much less of the last one.
    A text that was cut has its best document first (`order`).

    What differs from the paper: each document is read by itself, once with the question after
    it, the kept ones once more with the question before them, and not again after each cut;
    words are never cut, facts go last, and the budget is met exactly. Without a question
    documents and words rank by perplexity alone.
    """

    name = "longllmlingua"
    needs: ClassVar[frozenset[Need]] = frozenset({"causal_lm", "question"})
    paper = "Jiang et al. 2023, https://arxiv.org/abs/2310.06839"

    unit: Literal["token", "word", "phrase", "sentence"] = "word"
    coarse: float = Field(default=1.0, ge=1)
    dynamic: float = Field(default=0.3, ge=0, le=1)
    order: Order = "best_first"

    def read_for(self, wanted: Sequence[Wanted]) -> None:
        """Every document with the question after it; then, of each prompt, those it would keep."""
        context = wanted[0].context
        told = [(one, _documents(one.texts)[1]) for one in wanted]
        asked = [(text, _tail(one.prompt)) for one, documents in told for text in documents]
        heard = iter(with_tails(asked, self.model, context))
        again = []
        for one, documents in told:
            own = [next(heard) for _ in documents]
            if one.prompt.question:
                _, kept = self._ranked(own, one.prompt, one.context)
                condition = f"{one.prompt.question}\n"
                again += [(documents[i], condition) for i in np.flatnonzero(kept)]
        surprises(again, self.model, context)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        found = self._read([one.text for one in units], prompt, context)
        return [words.means(one) for words, one in zip(found.words, units, strict=True)]

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        """Words of the documents that are kept go first, and more of the better documents."""
        parts = super().weighed(segments, prompt, context)
        units = [part.units for part in parts]
        found = self._read([segment.text for segment in segments], prompt, context)
        more = self.dynamic * _slope(found.likely, found.kept)
        numbers = documents_of(units)
        counts = [words.counts(one) for words, one in zip(found.words, units, strict=True)]
        values = np.concatenate([part.values for part in parts])
        worth = more[numbers] - _behind(values, np.concatenate(counts), numbers)
        bounds = np.cumsum([len(one) for one in units])[:-1]
        columns = (worth, 2 * found.kept[numbers], found.likely[numbers])
        each = zip(parts, *(np.split(column, bounds) for column in columns), strict=True)
        return [
            replace(part, values=mine, ranks=part.ranks + ahead, standing=likely)
            for part, mine, ahead, likely in each
        ]

    def _read(self, texts: Sequence[str], prompt: Prompt, context: Context) -> _Found:
        """What the model says of the documents in some texts."""
        cuts, documents = _documents(texts)
        heard = with_tail(documents, _tail(prompt), self.model, context)
        words = [one.own for one in heard]
        likely, kept = self._ranked(heard, prompt, context)
        if prompt.question:
            best = [documents[i] for i in np.flatnonzero(kept)]
            told = surprise(best, self.model, context, condition=f"{prompt.question}\n")
            for i, known in zip(np.flatnonzero(kept).tolist(), told, strict=True):
                words[i] = replace(words[i], scores=words[i].scores - known.scores)
        queue = iter(words)
        return _Found(
            words=[_joined(cut, [next(queue) for _ in range(len(cut))]) for cut in cuts],
            likely=likely,
            kept=kept,
        )

    def _ranked(
        self, heard: Sequence[Heard], prompt: Prompt, context: Context
    ) -> tuple[Floats, Bools]:
        """How likely the question is after each document, and which are kept."""
        likely = np.array([one.likelihood for one in heard])
        sizes = np.array([len(one.own) for one in heard], np.float64)
        return likely, leading(likely, sizes, self.coarse * room(prompt, context))


def _documents(texts: Sequence[str]) -> tuple[list[Units], list[str]]:
    """Each text cut into documents, and all of these."""
    cuts = [split(text, "paragraph") for text in texts]
    return cuts, [document for cut in cuts for document in cut.texts]


def _tail(prompt: Prompt) -> str:
    """What is said after every document."""
    return f"\n{prompt.question} {RESTRICTIVE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The scores of the words of each text, and how all documents rank, and which are kept.

    Words of documents that are not kept were read without the question only. Shape of `likely`
    and `kept`: (documents,).
    """

    words: Sequence[TokenScores]
    likely: Floats
    kept: Bools


def _joined(documents: Units, scores: Sequence[TokenScores]) -> TokenScores:
    """The scores of a text from those of its documents."""
    pairs = list(zip(scores, documents.starts, strict=True))
    return TokenScores(
        np.concatenate([one.starts + at for one, at in pairs]),
        np.concatenate([one.ends + at for one, at in pairs]),
        np.concatenate([one.scores for one, _ in pairs]),
    )


def _slope(likely: Floats, kept: Bools) -> Floats:
    """1 for the best of the documents that are kept, falling to -1 for the last, and for others.

    Shape: (documents,) each.
    """
    heights = np.full(len(likely), -1.0)
    order = np.argsort(-np.where(kept, likely, -np.inf), kind="stable")[: kept.sum()]
    heights[order] = np.linspace(1, -1, len(order)) if len(order) > 1 else 0.0
    return heights


def _behind(values: Floats, sizes: Floats, numbers: Ints) -> Floats:
    """For each unit, the share of its document that goes before it by value.

    What is kept of a document is then what lies below its ratio. Shape: (units,) each.
    """
    order = np.lexsort((-values, numbers))
    totals = np.bincount(numbers, sizes)
    ends = np.cumsum(sizes[order]) - (np.cumsum(totals) - totals)[numbers[order]]
    behind = np.empty(len(values))
    behind[order] = (ends - sizes[order] / 2) / np.maximum(totals[numbers[order]], 1e-9)
    return behind
