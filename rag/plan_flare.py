"""Look ahead, and look up only what the model is unsure of."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import Field

from tersely import plans
from tersely.contracts import Completion, Context, Request
from tersely.plans import Reply, Step, Steps
from tersely.prompt import Span
from tersely.rag.active import Active
from tersely.rag.answering import answered, go_on
from tersely.rag.desk import Desk
from tersely.rag.doubt import calibrated, masked
from tersely.rag.draft import Draft, between, sentences
from tersely.rag.flare_blind import MARKS, Blind

OPEN = frozenset({"length", "cancelled"})
"""How an answer ends that is not at its end."""


class Flare(Active):
    """Answers sentence by sentence, and searches where a sentence is unsure.

    A sentence in which every word that says something is likelier than `theta` is taken as it is,
    and never made again. Else it is looked up, without the words less likely than `mask`, and made
    anew with what was found, at most `searches` times in an answer. `first` passages are there
    from the beginning (0: none). What comes along is put behind what is there, so that a
    backend's prefix cache stays good, and an answer is gone on with where it broke off: as the
    assistant's turn where the backend takes one, else by asking for it, less what it repeats.

    `ahead` sentences are made at a time: more spare prompts, and waste more where the first is
    unsure. `ahead_tokens` bounds them. `theta` is a matter of the model: `calibrated` finds it.

    Without log-probabilities the model is asked to mark what it is unsure of (`marks`); where it
    marks nothing, two short answers drawn at random are compared with its own; where none can be
    had, the question is looked up. The account tells which way was taken, and why.
    """

    name = "flare"
    paper = "Jiang et al. 2023, https://arxiv.org/abs/2305.06983"
    place = "after"

    k: int = Field(default=2, ge=1)
    first: int = Field(default=2, ge=0)
    searches: int = Field(default=4, ge=0)
    theta: float = Field(default=0.5, ge=0, le=1)
    mask: float = Field(default=0.4, ge=0, le=1)
    ahead: int = Field(default=1, ge=1)
    ahead_tokens: int = Field(default=64, ge=1)
    marks: str = MARKS

    def calibrated(self, samples: Sequence[Completion], share: float = 0.3) -> Self:
        """The same plan with the `theta` that finds this share of the samples' sentences unsure.

        `samples` are answers of the model that will be asked, with log-probabilities; fifty are
        enough. Raises ConfigError when they hold none.
        """
        theta = calibrated(samples, share)
        return self.model_copy(update={"theta": theta, "mask": min(self.mask, theta)})

    def steps(self, request: Request, context: Context, /) -> Steps:
        desk = self.desk(request, context)
        if self.first:
            found = yield from desk.search(desk.question, self.first)
            desk.bring(desk.related(found))
        if desk.can("logprobs"):
            walk = _Walk(self, desk)
            yield from walk.go()
            return answered(desk, walk.answer, walk.heard)
        blind = Blind(desk, k=self.k, searches=self.searches, marks=self.marks)
        text, heard = yield from blind.answer()
        return answered(desk, text, heard)


@dataclass(slots=True)
class _Walk:
    """An answer in the making: `answer` stands, `draft` is what was made beyond it.

    `spaced` tells that the backend begins what it goes on with by a space, where one belongs.
    """

    plan: Flare
    desk: Desk
    answer: str = ""
    draft: Draft = field(default_factory=Draft)
    heard: Completion | None = None
    lookups: int = 0
    spaced: bool = False
    trusted: bool = False
    said: set[str] = field(default_factory=set)

    def go(self) -> Generator[Step, Reply, None]:
        """Make the answer, sentence by sentence, until it ends or nothing more can be paid."""
        going = True
        while going and (room := self._room()) > 0:
            more = yield from self._ahead(room)
            going = more and (yield from self._judged())
        if self.draft.text.strip() and not self.answer:
            yield from self._accept((0, len(self.draft.text)))
        self._drop()

    def _room(self) -> int:
        """The tokens that the answer may still have."""
        made = self.desk.context.tokens_of([self.answer + self.draft.text])
        return self.desk.request.max_tokens - made[0]

    def _ahead(self, room: int) -> Generator[Step, Reply, bool]:
        """Make some more; whether anything came."""
        wanted = self.plan.ahead
        begun = self.draft.text

        def enough(text: str) -> bool:
            return len(sentences(begun + text)) > wanted

        so_far = self.answer + begun
        size = min(room, self.plan.ahead_tokens)
        request = replace(self.desk.asked(answer=so_far), max_tokens=size, logprobs=True)
        came = yield from go_on(self.desk, so_far, request, "answer", enough)
        if came is None:
            self.desk.tell("the tokens are spent: the answer ends here")
            return False
        self.heard, more = came
        if self.answer and not begun:
            self.spaced = self.heard.text[:1].isspace()
        self.draft = self.draft.joined(more)
        return bool(more.text.strip())

    def _judged(self) -> Generator[Step, Reply, bool]:
        """Accept what is sure of the draft, look up what is not; whether there is more to come."""
        finish = self.heard.finish_reason if self.heard else "stop"
        whole = finish != "cancelled" or len(sentences(self.draft.text)) < 2
        while spans := sentences(self.draft.text):
            if len(spans) == 1 and not whole:
                break  # it has only begun
            if self._again(spans[0]):
                self.desk.tell("the answer began to repeat itself, and ends here")
                self._drop()
                return False
            if (yield from self._looked_up(spans[0])):
                return True
            yield from self._accept(spans[0])
        self._trim()
        return finish in OPEN

    def _looked_up(self, span: Span) -> Generator[Step, Reply, bool]:
        """Whether a sentence was unsure and something new was found for it: then it is dropped."""
        words = self.draft.words(span)
        unsure = any(word.chance < self.plan.theta for word in words)
        anew, self.trusted = self.trusted, False
        if anew or not unsure or self.lookups >= self.plan.searches:
            return False
        weak = [word for word in words if word.chance < self.plan.mask]
        query = f"{self.desk.question} {masked(self.draft, span, weak)}".strip()
        found = yield from self.desk.search(query, self.plan.k)
        self.lookups += 1
        if not self.desk.bring(self.desk.related(found, query)):
            return False
        self._drop()
        self.trusted = True  # what is made anew stands: it had its chance
        return True

    def _accept(self, span: Span) -> Generator[Step, Reply, None]:
        """Let a stretch of the draft, and what stands before it, be part of the answer."""
        text = self.draft.text[: span[1]]
        if not self.answer:
            text = text.lstrip()
        text = between(self.answer, text) + text
        self.said.add(_plain(self.draft.text[span[0] : span[1]]))
        self.answer += text
        self.draft = self.draft.after(span[1])
        yield from plans.say(text)

    def _again(self, span: Span) -> bool:
        return _plain(self.draft.text[span[0] : span[1]]) in self.said

    def _drop(self) -> None:
        """Throw away what was made beyond the answer."""
        if self.draft.text:
            self.desk.purse.waste(self.draft.text)
        self.draft = Draft()

    def _trim(self) -> None:
        """Keep what was begun of the next sentence, where it can be gone on with.

        That takes a backend that keeps the space before the next word: only so it is told from
        the rest of a word. White space at the end goes, since the next token brings its own.
        """
        if not (self.spaced and self.desk.can("prefill")):
            self._drop()
        self.draft = replace(self.draft, text=self.draft.text.rstrip())


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
