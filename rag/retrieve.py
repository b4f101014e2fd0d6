"""Retrieval in a prompt's own context: of the texts that came along, what the question needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field

from tersely.contracts import Context, StageModel
from tersely.documents import named_in
from tersely.kinds import prose
from tersely.order import Order
from tersely.prompt import Prompt
from tersely.rag.embedding import AUTO, as_embedder, best
from tersely.rag.gate import ENOUGH_WORDS, Signs, Verdict, verdict
from tersely.rag.hops import names_of
from tersely.rag.ranking import Ranking, coarse, fine
from tersely.rag.scales import Style, on_scales, packed, passages_of
from tersely.rag.weighing import Scores, Texts, Weights, read, scored
from tersely.retrieval import Embedder, Passage
from tersely.select import MARK

Sort = Literal["static", "minilm", "other"]

DENSE: Mapping[Sort, float] = {"static": 0.5, "minilm": 0.7, "other": 0.7}
"""How much meaning counts beside words: more, where a model reads the text."""

ENOUGH: Mapping[Sort, float] = {"static": 0.35, "minilm": 0.45}
"""What words and meaning together reach in all but 2 % of contexts that hold the answer."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a prompt, what was kept of it, and what the gate said of the question.

    A passage has its place in the text of a segment, the number of that segment for its `source`,
    and the best score of what it holds: about 0 to 1, to be compared within one request.
    """

    prompt: Prompt
    passages: tuple[Passage, ...]
    verdict: Verdict


class Retrieve(StageModel):
    """Keeps of a prompt's own context what its question needs; no index has to be prepared.

    The open texts are cut into sentences, chunks of `size` tokens and documents (paragraphs with
    their titles, sections). A sentence is worth what its words (BM25) and its meaning (cosine)
    have to do with the question, averaged with its neighbours (at `reach` characters one counts a
    third); `document` of that is what its document is worth. What the best document names by its
    title comes next (`linked`, in deviations). The best are packed into the budget, one that does
    not fit is passed over for the next, and a title comes along with its document. `elision`
    stands where something was left out, and is counted.

    In front stands a gate. Context that is about something else is dropped, also without a
    budget; `gate` False drops nothing. A question that asks for a summary, a list, a count, a
    comparison, or in several steps, or that many stretches answer equally well, is not answered by
    a few sentences. It gets whole chunks, unless it can be followed from title to title; where it
    takes steps, the beginning of the texts as well. Where the budget holds less than `floor` of
    the text, the report says that more should be kept; it is not exceeded. With `on_uncertain`
    "keep" such a question's context is left alone, with "pick" it is treated like any other.

    `embedder` is what `tersely.rag.embedding.as_embedder` takes: "auto" the best at hand, ""
    none. `dense` is the weight of meaning beside words, and `enough` what both must reach for a
    context to be to the point; None is what was found best for the embedder.
    """

    name = "retrieve"
    needs = frozenset({"question"})
    paper = "Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019"

    embedder: Any = AUTO
    dense: float | None = Field(default=None, ge=0, le=1)
    document: float = Field(default=0.5, ge=0, le=1)
    reach: float = Field(default=150, ge=0)
    linked: float = Field(default=2.0, ge=0)
    size: int = Field(default=128, ge=1)
    order: Order = "kept"
    elision: str = MARK
    gate: bool = True
    enough: float | None = Field(default=None, ge=0, le=1)
    on_uncertain: Literal["coarse", "keep", "pick"] = "coarse"
    floor: float = Field(default=0.35, ge=0, le=1)

    def ready(self) -> None:
        """Raises UnknownName, ConfigError, MissingExtra or ModelError where nobody can embed."""
        if self.embedder != AUTO and (found := as_embedder(self.embedder)):
            _ = found.key

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        return self.explained(prompt, context).prompt

    def explained(self, prompt: Prompt, context: Context) -> Kept:
        """The same, with the spans that were kept, their scores, and what the gate said."""
        places = prose(prompt)
        if not places or self._needless(prompt, context):
            return Kept(prompt, (), Verdict(action="pick", reason="nothing has to go"))
        segments = [prompt.segments[i] for i in places]
        texts = read(segments, self.size, context)
        embedder = self._embedder(context) if prompt.question else None
        found = scored(texts, prompt.question, embedder, context)
        judged = self._judged(found, prompt.question, embedder)
        if judged.action != "drop" and context.limit is None:
            return Kept(prompt, (), judged)
        if judged.action == "coarse" and self.on_uncertain == "keep":
            context.say(f"retrieve: the context was left alone: {judged.reason}")
            return Kept(prompt, (), judged)
        ranking = self._ranking(found, judged, embedder, prompt, context)
        style = Style(self.order, self.elision, none=judged.action == "drop")
        parts = dict(zip(places, on_scales(ranking, texts, segments, style), strict=True))
        made = packed(prompt, parts, context)
        passages = tuple(passages_of(prompt, made, parts))
        self._tell(judged, passages, texts, prompt, context)
        return Kept(made, passages, judged)

    def _needless(self, prompt: Prompt, context: Context) -> bool:
        """Whether nothing has to be dropped. Without a budget only the gate has work to do."""
        if context.limit is None:
            return not (self.gate and prompt.question)
        return context.tokens(prompt) <= context.limit

    def _embedder(self, context: Context) -> Embedder | None:
        if self.embedder != AUTO:
            return as_embedder(self.embedder)
        found, why = best()
        if found is None:
            context.say(f"retrieve: scored by words alone: {why}")
        return found

    def _dense(self, embedder: Embedder | None) -> float:
        return DENSE[_sort(embedder)] if self.dense is None else self.dense

    def _judged(self, found: Scores, question: str, embedder: Embedder | None) -> Verdict:
        """What the gate says of the question and these texts."""
        if not question:
            return Verdict(action="coarse", reason="nothing is asked")
        enough = ENOUGH.get(_sort(embedder)) if self.enough is None else self.enough
        texts = found.texts
        signs = Signs(
            coverage=found.words.grouped(texts.chunks).coverage(),
            nearness=None if found.nearness is None or enough is None else found.nearest,
            enough=ENOUGH_WORDS if enough is None else enough,
            named=int(named_in(question, names_of(texts.titles)).sum()),
            flatness=found.flatness(self._dense(embedder)),
            text=texts.units[0].text,
        )
        said = verdict(question, signs)
        if (said.action == "drop" and not self.gate) or (
            said.action == "coarse" and self.on_uncertain == "pick"
        ):
            return replace(said, action="pick")
        return said

    def _ranking(
        self,
        found: Scores,
        judged: Verdict,
        embedder: Embedder | None,
        prompt: Prompt,
        context: Context,
    ) -> Ranking:
        """Sentences, or longer stretches where the gate says so and no titles lead on."""
        dense = self._dense(embedder)
        weights = Weights(dense, self.document, self.reach, self.linked, self.size)
        titles = found.texts.titles
        followed = judged.steps and self.linked and sum(map(bool, titles)) > len(titles) / 2
        if judged.action != "coarse" or followed:
            return fine(found, prompt.question, weights)
        room = _room(prompt, found.texts, context)
        return coarse(found, prompt.question, weights, room, steps=judged.steps)

    def _tell(
        self,
        judged: Verdict,
        passages: Sequence[Passage],
        texts: Texts,
        prompt: Prompt,
        context: Context,
    ) -> None:
        """What was done, and why, for the report."""
        if judged.action == "drop":
            context.say(f"retrieve: the context was dropped: {judged.reason}")
            return
        what = "chunks" if judged.action == "coarse" else "sentences"
        context.say(f"retrieve: {len(passages)} stretches kept, in {what}: {judged.reason}")
        size = int(texts.sizes.sum())
        share = _room(prompt, texts, context) / max(size, 1)
        if judged.action == "coarse" and share < self.floor:
            context.say(
                f"retrieve: {share:.0%} of the text is little for such a question, {self.floor:.0%}"
                f" is advised: about {int(size * self.floor)} tokens for it"
            )


def _sort(embedder: Embedder | None) -> Sort:
    """Which cosines an embedder gives: those of word vectors, of MiniLM, or of another model."""
    inner = getattr(embedder, "embedder", embedder)  # one with a memory tells the one within
    if getattr(inner, "name", "") == "static":
        return "static"
    return "minilm" if "minilm" in str(getattr(inner, "model", "")).lower() else "other"


def _room(prompt: Prompt, texts: Texts, context: Context) -> int:
    """The tokens that the budget has for these texts, about."""
    size = int(texts.sizes.sum())
    if context.limit is None:
        return size
    return max(context.limit - context.tokens(prompt) + size, 0)
