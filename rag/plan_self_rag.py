"""Ask the model itself whether to look up, what bears on the question, and what is supported."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from tersely.account import Citation, RagAnswer
from tersely.asking import filled
from tersely.contracts import Context, Request
from tersely.errors import BackendError, ConfigError
from tersely.plans import Reply, Step, Steps
from tersely.rag.active import Active
from tersely.rag.answering import answered, told
from tersely.rag.desk import Desk, covered
from tersely.rag.judging import chance_of_yes, fenced, judgement
from tersely.retrieval import Passage

Critique = Literal["off", "gate", "all"]
"""What is put to the model. `off`: nothing. `gate`: what the cheap gate can't decide. `all`:
everything."""

NEED = (
    "Would looking something up help to answer this question correctly? Reply with one word, Yes"
    " or No.\n\nQuestion: {question}"
)
RELEVANT = (
    "Does the passage hold something that helps to answer the question? Reply with one word, Yes or"
    " No.\n\nPassage: {passage}\n\nQuestion: {question}"
)
SUPPORTED = (
    "Does the passage say what the sentence says? Reply with one word, Yes or No.\n\n"
    "Passage: {passage}\n\nSentence: {sentence}"
)


BEFOREHAND = 0.5
"""The part of what is left that judgements before the answer may cost."""


class SelfRag(Active):
    """Judges what was found, and what it answered, in words of one token.

    Three things are asked, each with a Yes or No that is decided by its probability: does the
    question need looking up, does a passage bear on it, is a sentence of the answer supported by
    its passages. Judgements are asked side by side, and each costs a prompt: with `critique="gate"`
    only that is asked which a cheap measure leaves open. That is the share of the question's words
    in a passage (of a sentence's words in its sources), sure below the first number of `unsure`
    and above the second. `sure` is the probability from which a Yes counts.

    A sentence that is not supported stays in the answer; its citation tells. Asai et al. train
    a model to say these things unasked; here any model is asked for them.
    """

    name = "self_rag"
    paper = "Asai et al. 2023, https://arxiv.org/abs/2310.11511"

    critique: Critique = "gate"
    unsure: tuple[float, float] = (0.25, 0.6)
    sure: float = Field(default=0.5, gt=0, lt=1)
    need: str = NEED
    relevant: str = RELEVANT
    support: str = SUPPORTED

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = self.unsure
        if not 0 <= low <= high <= 1:
            raise ConfigError(f"unsure must be two shares, the lower first, was {self.unsure}")
        return self

    def steps(self, request: Request, context: Context, /) -> Steps:
        desk = self.desk(request, context)
        if (yield from self._needed(desk)):
            found = yield from desk.search(desk.question, self.k)
            chosen = yield from self._chosen(desk, found)
            desk.bring(chosen)
        text, heard = yield from told(desk)
        answer = answered(desk, text, heard)
        return (yield from self._checked(desk, answer))

    def _needed(self, desk: Desk) -> Generator[Step, Reply, bool]:
        """Whether to look anything up. The cheap gate decides that from what is found."""
        if self.critique != "all":
            return True
        asked = filled(self.need, question=desk.question)
        chances = yield from self._judged(desk, [asked], "need")
        needed = chances[0] >= self.sure
        if not needed:
            desk.tell(f"nothing looked up: the model needs it with p={chances[0]:.2f}")
        return needed

    def _chosen(
        self, desk: Desk, found: Sequence[Passage]
    ) -> Generator[Step, Reply, list[Passage]]:
        """The passages that bear on the question."""
        if self.critique == "off":
            return desk.related(found)
        shares = [covered([one.text], desk.question) for one in found]
        open_ = [i for i, share in enumerate(shares) if self._asks(share)]
        texts = [
            filled(
                self.relevant,
                passage=fenced(found[i].text, desk.evidence.fence),
                question=desk.question,
            )
            for i in open_
        ]
        chances = dict(zip(open_, (yield from self._judged(desk, texts, "relevant")), strict=True))
        chosen = [
            one
            for i, one in enumerate(found)
            if (chances[i] >= self.sure if i in chances else shares[i] > self.unsure[1])
        ]
        desk.tell(f"{len(chosen)} of {len(found)} passages bear on the question")
        return chosen

    def _checked(self, desk: Desk, answer: RagAnswer) -> Generator[Step, Reply, RagAnswer]:
        """The answer with the judge's word on sentences of which the overlap tells too little."""
        if self.critique == "off" or not answer.passages:
            return answer
        open_ = [i for i, one in enumerate(answer.citations) if self._asks(one.support)]
        texts = [self._support(desk, answer, answer.citations[i]) for i in open_]
        judged = yield from self._judged(desk, texts, "support")
        citations = list(answer.citations)
        for i, chance in zip(open_, judged, strict=True):
            citations[i] = replace(citations[i], support=chance, supported=chance >= self.sure)
        unsupported = sum(not one.supported for one in citations)
        if unsupported:
            desk.tell(f"{unsupported} of {len(citations)} sentences are not supported")
        made = answered(desk, answer.text, answer)
        return replace(made, citations=tuple(citations))

    def _support(self, desk: Desk, answer: RagAnswer, citation: Citation) -> str:
        """The question whether the sources of a sentence say what it says."""
        numbers = citation.numbers or range(1, len(answer.passages) + 1)
        sources = [answer.passages[n - 1].text for n in numbers if n <= len(answer.passages)]
        sentence = answer.text[citation.start : citation.end]
        return filled(
            self.support,
            passage=fenced("\n\n".join(sources), desk.evidence.fence),
            sentence=sentence,
        )

    def _asks(self, share: float) -> bool:
        low, high = self.unsure
        return self.critique == "all" or low <= share <= high

    def _judged(
        self, desk: Desk, texts: Sequence[str], purpose: str
    ) -> Generator[Step, Reply, list[float]]:
        """How likely each is a Yes; what can't be judged is let through.

        Judgements before the answer may cost half of what is left.
        """
        if not texts:
            return []
        alternatives = desk.can("alternatives")
        if not alternatives:
            desk.tell("the backend tells no alternatives: judgements are read from its words")
        asked = [judgement(text, alternatives=alternatives, request=desk.request) for text in texts]
        try:
            share = 1.0 if purpose == "support" else BEFOREHAND
            answers = yield from desk.purse.ask(asked, purpose, share)
        except BackendError as error:
            desk.tell(f"no judgement on {purpose}: {error}")
            answers = []
        if len(answers) < len(asked):
            desk.tell(f"{len(asked) - len(answers)} judgements on {purpose} were not made")
        chances = [chance_of_yes(answer) for answer in answers]
        return chances + [self.sure] * (len(asked) - len(answers))
