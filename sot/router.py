"""The first gate: does the question suit points that are written side by side."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tersely.contracts import Backend, Completion, Request
from tersely.plans import Reply, Step, ask
from tersely.prompt import Prompt, Segment
from tersely.sot.classifier import classifier
from tersely.sot.rules import Verdict, opted_out, ruled

QUESTION = """How would a good answer to the question below be built?
A: from several points, each of which can be written without knowing the others
B: from points or steps that build on one another
C: in one piece, not from points

Question: {question}

Reply with one letter: A, B or C."""

LETTERS = ("A", "B", "C")

LIKELIEST = 10
"""How many of the likeliest tokens are looked through for the letters."""


class Router(BaseModel):
    """Tells whether a question suits: by rules, else by a classifier, else by asking the model.

    A question suits when its chance is `threshold` or more. `trained` is a folder that
    `tersely train router` wrote (empty: the classifier that comes along). With `meaning` it also
    reads the sentence vector, where the encoder is on this machine; without, words alone, which is
    a hundred times faster. A chance between `unsure` and `sure` is nothing to go by: `asking` then
    asks the model for one token with the template `question`.

    Paper: Ning et al. 2024, https://arxiv.org/abs/2307.15337, whose router is a fine-tuned RoBERTa
    or a question to GPT-4 alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(default=0.5, ge=0, le=1)
    trained: str = ""
    meaning: bool = True
    unsure: float = Field(default=0.35, ge=0, le=1)
    sure: float = Field(default=0.65, ge=0, le=1)
    question: str = QUESTION

    @model_validator(mode="after")
    def _fits(self) -> Router:
        if self.unsure > self.sure:
            raise ValueError(f"unsure ({self.unsure}) must not be above sure ({self.sure})")
        if "{question}" not in self.question:
            raise ValueError("the template must hold {question}")
        return self

    def routed(self, question: str) -> Verdict:
        """What rules and classifier say of a question. Raises ModelError for a damaged folder."""
        if (told := ruled(question)) is not None:
            return replace(told, suits=told.chance >= self.threshold)
        made = classifier(self.trained)
        read = self.meaning and made.reads_meaning
        chance = float(made.chances([question], meaning=read)[0])
        by = "words and meaning" if read else "words"
        return self._verdict(chance, f"the classifier says {chance:.2f} by {by}")

    def routed_request(
        self, request: Request, *, choices: int = 1, structured: bool = False
    ) -> Verdict:
        """What is to be said of a whole request; what its caller set goes first (`opted_out`)."""
        if reason := opted_out(request, choices=choices, structured=structured):
            return Verdict(suits=False, chance=0.0, reason=reason)
        return self.routed(asked_of(request))

    def asking(
        self, request: Request, backend: Backend | None = None
    ) -> Generator[Step, Reply, Verdict]:
        """As `routed_request`, as steps of a plan: the model is asked where nothing else is sure.

        `backend` is the one of the context; without its `alternatives` the letter that the model
        says counts, and else how likely each letter is. A model that says none changes nothing.
        """
        told = self.routed_request(request)
        if not (told.reason.startswith("the classifier") and self.unsure < told.chance < self.sure):
            return told
        likely = backend is not None and "alternatives" in backend.capabilities
        (answer,) = yield from ask([self.one_token(asked_of(request), likely=likely)])
        said = letter_chances(answer)
        if said is None:
            return told
        return self._verdict(said, f"the model says {said:.2f}, after {told.reason}")

    def one_token(self, question: str, *, likely: bool = True) -> Request:
        """The request for one token: A, B or C."""
        text = self.question.replace("{question}", question)
        segment = Segment(text=text, kind="question", path=(0,))
        prompt = Prompt((segment,), question=text, turns=1)
        return Request(prompt=prompt, max_tokens=1, alternatives=LIKELIEST if likely else 0)

    def _verdict(self, chance: float, reason: str) -> Verdict:
        return Verdict(suits=chance >= self.threshold, chance=chance, reason=reason)


def routed(question: str) -> Verdict:
    """What the router says of a question, with all its defaults."""
    return Router().routed(question)


def asked_of(request: Request) -> str:
    """The question of a request: what it tells itself, else its last turn of a user."""
    if request.prompt.question:
        return request.prompt.question
    said = [leaf.text for leaf in request.prompt.leaves if leaf.role == "user"]
    return said[-1] if said else ""


def letter_chances(answer: Completion) -> float | None:
    """How likely A is beside B and C; None where the model said none of them."""
    found = dict.fromkeys(LETTERS, 0.0)
    for token, logarithm in (answer.alternatives[0] if answer.alternatives else {}).items():
        if (letter := _letter(token)) in found:
            found[letter] += math.exp(logarithm)
    if not (total := sum(found.values())):
        said = _letter(answer.text)
        return float(said == "A") if said in found else None
    return found["A"] / total


def _letter(token: str) -> str:
    return token.strip(" \t\n(*\"'`.:)").upper()
