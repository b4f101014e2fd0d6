"""Ask once for each passage, and let the passages vote on the answer."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np
import regex
from pydantic import Field

from tersely import plans
from tersely.contracts import Completion, Context, Request
from tersely.errors import BackendError, ConfigError
from tersely.lexical import standardised
from tersely.plans import Reply, Step, Steps
from tersely.rag.active import Active
from tersely.rag.answering import answered, told
from tersely.rag.asking import SHORT
from tersely.rag.bundle import Bundle
from tersely.rag.desk import Desk
from tersely.retrieval import Passage
from tersely.units import Floats

ONE_PASSAGE = "Answer with the help of the passage, if it bears on the question."

FAINT = 4
"""A passage is dropped whose weight is below the even one by more than this factor."""

LEAST = 64
"""Tokens of room that a passage must have, its fence included: with less fewer are asked with."""

VOTING = 2
"""The share of the tokens that a vote may cost is one in so many: it may come to nothing."""

WORDY = 12
"""Words from which answers are too long to be the same by chance: they are not voted on."""

ARTICLES = regex.compile(r"\b(?:an?|the)\b|[^\p{L}\p{N}\s]")


@dataclass(frozen=True, slots=True)
class Branch:
    """A passage as it is shown, and what its vote counts."""

    bundle: Bundle
    weight: float


class Replug(Active):
    """Answers from several passages, each in a prompt of its own, that share the question.

    Where the backend mixes, every token is drawn from the mean of what the prompts make likely.
    Elsewhere, with log-probabilities, each prompt is asked for an answer of at most `short`
    tokens, and those that say the same add up their passage's weight times the chance of a token.
    Otherwise, and where answers are too long to be compared, it is plain retrieval, and the
    account tells why. Weights are the softmax of the scores, brought to mean 0 and deviation 1,
    over `tau`; faint ones are dropped.

    It reads the question once for each passage: more tokens than one prompt with all of them,
    but read side by side, and each far shorter.
    """

    name = "replug"
    paper = "Shi et al. 2023, https://arxiv.org/abs/2301.12652"
    place = "after"

    k: int = Field(default=4, ge=1)
    tau: float = Field(default=2.0, gt=0)
    short: int = Field(default=32, ge=1)
    instruction: str = ONE_PASSAGE

    def steps(self, request: Request, context: Context, /) -> Steps:
        desk = self.desk(request, context)
        found = yield from desk.search(desk.question, self.k)
        passages = desk.related(found)
        branches = self._branches(desk, passages)
        votes: list[Completion] = []
        try:
            heard = yield from self._together(desk, branches, votes)
        except (BackendError, ConfigError) as error:
            desk.tell(f"plain retrieval: {error}")
            heard = None
        if heard is not None:
            desk.blocks = [branch.bundle for branch in branches]
            yield from plans.say(heard.text)
            return answered(desk, heard.text, heard)
        desk.bring(passages)
        text, heard = yield from told(desk)
        if heard is None and votes:
            heard, text = votes[0], votes[0].text
            yield from plans.say(text)
        return answered(desk, text, heard)

    def _together(
        self, desk: Desk, branches: Sequence[Branch], votes: list[Completion]
    ) -> Generator[Step, Reply, Completion | None]:
        """What the passages say together; None where plain retrieval must do.

        Answers to single passages, if it comes to that, are left in `votes`.
        """
        if len(branches) < 2:
            if branches:
                desk.tell("plain retrieval: there are no two passages that count and have room")
            return None
        if desk.can("mixes"):
            requests = [desk.asked(blocks=[branch.bundle]) for branch in branches]
            weights = [branch.weight for branch in branches]
            return (yield from desk.purse.mix(requests, weights, "answer"))
        if desk.can("logprobs"):
            return (yield from self._voted(desk, branches, votes))
        desk.tell("plain retrieval: the backend neither mixes nor tells log-probabilities")
        return None

    def _voted(
        self, desk: Desk, branches: Sequence[Branch], answers: list[Completion]
    ) -> Generator[Step, Reply, Completion | None]:
        """The short answer for which most speaks."""
        size = min(self.short, desk.request.max_tokens)
        requests = [
            replace(desk.asked(SHORT, blocks=[one.bundle]), max_tokens=size, logprobs=True)
            for one in branches
        ]
        began = len(desk.purse.calls)
        answers += yield from desk.purse.ask(requests, "vote", 1 / VOTING)
        lots = _lots(answers, [branch.weight for branch in branches])
        if not lots:
            desk.tell("plain retrieval: no answers that are short and tell their chances")
            return None
        winner = max(lots, key=lambda name: lots[name])
        chosen = [i for i, one in enumerate(answers) if plain(one.text) == winner]
        for i, one in enumerate(answers):
            if i != chosen[0]:
                desk.purse.waste(one.text, began + i)
        desk.tell(f"{len(chosen)} of {len(answers)} passages speak for the answer")
        return answers[chosen[0]]

    def _branches(self, desk: Desk, passages: Sequence[Passage]) -> list[Branch]:
        """The passages that count, as many as there is room for, the weightiest first."""
        if not passages:
            return []
        weights = weighed([one.score for one in passages], self.tau)
        order = np.argsort(-weights, kind="stable")
        order = order[weights[order] > 0]
        prompts = 1 if desk.can("mixes") else VOTING
        while len(order) > 1 and desk.room(prompts * len(order)) < LEAST:
            order = order[:-1]
        room = max(desk.room(prompts * len(order)), 1)
        evidence = self.evidence.model_copy(update={"tokens": room})
        branches: list[Branch] = []
        for i in order.tolist():
            bundle = evidence.bundle(
                [passages[i]], desk.question, desk.context, first=len(branches) + 1
            )
            if bundle:
                branches.append(Branch(bundle, float(weights[i])))
        total = sum(branch.weight for branch in branches)
        return [replace(branch, weight=branch.weight / total) for branch in branches]


def weighed(scores: Sequence[float], tau: float) -> Floats:
    """What each passage's vote counts: 0 for a faint one, and 1 together. Shape: (passages,)."""
    calibrated = standardised(np.asarray(scores, np.float64)) / tau
    weights = np.exp(calibrated - calibrated.max())
    weights = weights / weights.sum()
    weights[weights < 1 / (FAINT * len(weights))] = 0.0
    told: Floats = weights / weights.sum()
    return told


def plain(answer: str) -> str:
    """An answer as it is compared with others: no articles, no marks, no capitals."""
    return " ".join(ARTICLES.sub(" ", answer.lower()).split())


def _lots(answers: Sequence[Completion], weights: Sequence[float]) -> dict[str, float]:
    """What speaks for each answer; nothing where they can't be compared."""
    lots: dict[str, float] = {}
    for answer, weight in zip(answers, weights, strict=False):
        said = plain(answer.text)
        if not answer.logprobs or len(said.split()) > WORDY or answer.finish_reason == "length":
            return {}
        chance = exp(min(float(np.mean(answer.logprobs)), 0.0))
        if said:
            lots[said] = lots.get(said, 0.0) + weight * chance
    return lots if len(answers) > 1 else {}
