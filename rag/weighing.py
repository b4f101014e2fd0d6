"""What lies in a prompt's own context, and what each sentence of it is worth to the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tersely.contracts import Context
from tersely.documents import title_of
from tersely.lexical import terms_of
from tersely.nearby import smoothed
from tersely.order import documents_to_move
from tersely.prompt import Segment
from tersely.protect import fences
from tersely.rag.chunking import packed
from tersely.rag.fusion import min_max
from tersely.rag.words import Words, words_of
from tersely.retrieval import Embedder
from tersely.units import Floats, Ints, Unit, Units, split

SHARP = 8.0
"""How much a better score stands out where flatness is told."""

FEWEST_CHUNKS = 8
"""Among fewer chunks nothing can be said of how they differ."""

AT_ONCE = 256
"""Sentences that are embedded in one call: between two calls the time budget is looked at."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Some texts as one row of sentences, and the documents and chunks that these make up.

    A document is a paragraph, with its title, or a section under its heading; a chunk is a
    stretch of whole sentences in one document. Numbers count through all texts. `sizes` are
    tokens. `leads` is the sentence that holds the title of each sentence's document, or the
    sentence itself. Shape: (sentences,), but (documents,) for `titles`.
    """

    units: Sequence[Units]
    sentences: list[str]
    sizes: Ints
    documents: Ints
    chunks: Ints
    leads: Ints
    titles: list[str]

    @property
    def titled(self) -> list[str]:
        """Every sentence, with the title of its document before it, if that has one."""
        return [
            f"{title}: {text}" if (title := self.titles[number]) and lead != i else text
            for i, (text, number, lead) in enumerate(
                zip(self.sentences, self.documents.tolist(), self.leads.tolist(), strict=True)
            )
        ]

    def joined(self, groups: Ints) -> list[str]:
        """The text of each group: its sentences in a row."""
        bounds = np.append(np.flatnonzero(np.diff(groups, prepend=-1)), len(groups)).tolist()
        return [" ".join(self.sentences[start:end]) for start, end in pairwise(bounds)]


def read(segments: Sequence[Segment], size: int, context: Context) -> Texts:
    """Cut texts into sentences. What is marked is a unit by itself, and examples stay whole."""
    units = [_cut(segment) for segment in segments]
    sentences = [text for one in units for text in one.texts]
    numbers: list[Ints] = [np.zeros(0, np.int64)]
    titles: list[str] = []
    for one in units:
        documents = documents_to_move(one)
        inside = np.searchsorted(documents.starts, one.starts, "right") - 1
        numbers.append(np.maximum(inside, 0) + len(titles))
        titles += [title_of(text) for text in documents.texts]
    owners = np.concatenate(numbers)
    sizes = np.array(context.tokens_of(_spelled(units)), np.int64)
    firsts = np.searchsorted(owners, np.arange(len(titles)))
    has_title = np.array([bool(title) for title in titles], np.bool_)
    own = np.arange(len(owners))
    leads = np.where(has_title[owners], firsts[owners], own) if len(titles) else own
    return Texts(units, sentences, sizes, owners, packed(sizes, size, owners), leads, titles)


@dataclass(frozen=True, slots=True)
class Weights:
    """How the scores of one request are put together: see the settings of `Retrieve`."""

    dense: float
    document: float
    reach: float
    linked: float
    size: int


@dataclass(frozen=True, slots=True)
class Scores:
    """What the sentences of some texts have to do with a question.

    `nearness` is the cosine of each, where somebody embeds. Shape: (sentences,).
    """

    texts: Texts
    words: Words
    nearness: Floats | None

    def sentences(self, weights: Weights) -> Floats:
        """What each sentence is worth: itself and its neighbours, and its document."""
        own = self.fused(np.arange(len(self.texts.sentences)), weights.dense)
        if weights.reach:
            own = smoothed(own, self.texts.units, self.texts.documents, weights.reach)
        of_document = self.fused(self.texts.documents, weights.dense)[self.texts.documents]
        values: Floats = (1 - weights.document) * own + weights.document * of_document
        return values

    def flatness(self, dense: float) -> float:
        """How evenly the chunks answer: the entropy of their scores, of the most it could be."""
        scores = np.exp(SHARP * self.fused(self.texts.chunks, dense))
        if len(scores) < FEWEST_CHUNKS:
            return 0.0
        shares = scores / scores.sum()
        return float(-(shares * np.log(shares)).sum() / np.log(len(shares)))

    @property
    def nearest(self) -> float | None:
        """The best cosine of all sentences; None where nobody embeds, or there is none."""
        if self.nearness is None or not len(self.nearness):
            return None
        return float(self.nearness.max())

    def fused(self, groups: Ints, dense: float) -> Floats:
        """What groups of sentences are worth: BM25 of all their words, and the nearest of each."""
        lexical = min_max(self.words.grouped(groups).relevance())
        if self.nearness is None or not dense:
            return lexical
        values: Floats = (1 - dense) * lexical + dense * min_max(best_of(self.nearness, groups))
        return values


def scored(texts: Texts, question: str, embedder: Embedder | None, context: Context) -> Scores:
    """Look for the question's words in each sentence, and embed each once where that is wanted."""
    words = words_of(texts.sentences, terms_of(question))
    if embedder is None or not texts.sentences:
        return Scores(texts, words, None)
    asked = embedder.queries([question])[0]
    titled = texts.titled
    rows: list[Floats] = []
    for start in range(0, len(titled), AT_ONCE):
        context.check()
        vectors = embedder.documents(titled[start : start + AT_ONCE])
        rows.append((vectors @ asked).astype(np.float64))
    return Scores(texts, words, np.concatenate(rows))


def stretches(texts: Texts, size: int) -> Ints:
    """The number of the stretch of whole sentences that each sentence lies in; titles lie alone."""
    heads = np.zeros(len(texts.documents), np.int64)
    led = texts.leads != np.arange(len(heads))
    heads[texts.leads[led]] = 1
    return packed(texts.sizes, size, 2 * texts.documents + 1 - heads)


def best_of(values: Floats, groups: Ints) -> Floats:
    """The best value of each group of neighbours. Numbers do not fall. Shape: (groups,)."""
    opens = np.flatnonzero(np.diff(groups, prepend=-1))
    best: Floats = np.maximum.reduceat(values, opens) if len(values) else values
    return best


def _cut(segment: Segment) -> Units:
    unit: Unit = "paragraph" if segment.kind == "example" else "sentence"
    return split(segment.text, unit, atoms=fences(segment.text), marked=segment.spans)


def _spelled(units: Sequence[Units]) -> list[str]:
    """Every sentence as it will be counted when it stands in a text, nearly."""
    spelled: list[str] = []
    for one in units:
        spaced = np.append(0, one.ends[:-1]) < one.starts
        pairs = zip(one.texts, spaced.tolist(), strict=True)
        spelled += [f" {text}" if apart else text for text, apart in pairs]
    return spelled
