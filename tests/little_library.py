"""What tests of plans share: a few passages to search, a counter of words, backends that obey."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import log

import numpy as np

from tersely.account import RagAnswer
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Backend, Capability, Chunk, Completion, Context, Request
from tersely.lexical import terms_of
from tersely.middleware.drive import drive
from tersely.plans import Plan
from tersely.prompt import Prompt, Segment
from tersely.rag.words import words_of
from tersely.retrieval import Passage
from tersely.tokens import Counter

WORDS = Counter("words", True, 2, lambda texts: [len(text.split()) for text in texts])

TEXTS = {
    "tower": "Eiffel Tower\nThe Eiffel Tower was completed in 1889. It stands in Paris.",
    "founder": "Gustave Eiffel\nGustave Eiffel was born in Dijon in 1832. He built bridges.",
    "dijon": "Dijon\nDijon is the capital of Burgundy and known for its mustard.",
    "heron": "The heron is a bird that lives near lakes and rivers.",
    "bread": "Bread is baked from flour, water and salt.",
}
PASSAGES = [Passage(text=text, id=name, source=name) for name, text in TEXTS.items()]


class Library:
    """Finds passages by their words, and notes what it was asked."""

    def __init__(self, passages: Sequence[Passage] = PASSAGES) -> None:
        self.passages = list(passages)
        self.asked: list[str] = []

    def search(self, question: str, k: int, /) -> list[Passage]:
        self.asked.append(question)
        scores = words_of([one.text for one in self.passages], terms_of(question)).relevance()
        best = np.argsort(-scores, kind="stable")[:k].tolist()
        return [replace(self.passages[i], score=float(scores[i])) for i in best]

    async def asearch(self, question: str, k: int, /) -> list[Passage]:
        return self.search(question, k)


class Obeying(ScriptedBackend):
    """Keeps to `max_tokens`, a word being a token, and knows which words it is unsure of."""

    def __init__(
        self,
        answers: Sequence[str | Completion | Exception] | Callable[[Request], str | Completion],
        capabilities: Sequence[Capability] = (),
        unsure: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(answers, capabilities=frozenset({"stream", *capabilities}))
        self.unsure = dict(unsure or {})

    def _answer(self, request: Request) -> Completion:
        made = super()._answer(request)
        tokens = _tokens(made.text)[: request.max_tokens]
        text = "".join(tokens)
        if text == made.text and made.logprobs:
            return made
        told = replace(
            made,
            text=text,
            completion_tokens=len(tokens),
            finish_reason=made.finish_reason if text == made.text else "length",
        )
        if not request.logprobs or "logprobs" not in self.capabilities:
            return told
        chances = [self.unsure.get(token.strip(" .,?!"), 0.99) for token in tokens]
        return replace(told, tokens=tuple(tokens), logprobs=tuple(map(log, chances)))

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        made = self._answer(request)
        for i, token in enumerate(_tokens(made.text)):
            yield Chunk(
                text=token, tokens=made.tokens[i : i + 1], logprobs=made.logprobs[i : i + 1]
            )
        yield Chunk(text="", completion=made)


def _tokens(text: str) -> list[str]:
    """Words with the white space before them."""
    words: list[str] = []
    at = 0
    for word in text.split():
        end = text.index(word, at) + len(word)
        words.append(text[at:end])
        at = end
    if at < len(text):
        words = [*words[:-1], words[-1] + text[at:]] if words else [text]
    return words


def asking(question: str, *more: Segment, max_tokens: int = 64) -> Request:
    turn = Segment(text=question, kind="question", locked=True, path=("question",))
    return Request(prompt=Prompt((*more, turn), question, turns=1), max_tokens=max_tokens)


def run(
    plan: Plan, backend: Backend, question: str | Request, library: Library | None = None
) -> RagAnswer:
    """Carry out a plan over the passages above; words are tokens."""
    request = asking(question) if isinstance(question, str) else question
    context = Context(count=WORDS, backend=backend)
    told = drive(plan.steps(request, context), backend, library or Library())
    assert isinstance(told, RagAnswer)
    return told
