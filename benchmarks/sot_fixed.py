"""A backend that makes as many tokens as it is told, and tells a plan a text that was given.

Small models write no skeleton that could be counted on, and end where they like. For time the
lengths are to be fixed: every call is the plan's own and every token is made by the engine, but no
stop string ends an answer, and what the plan hears is a skeleton with the wanted number of lines
and points that don't run on. The text comes as fast as the tokens do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from benchmarks.sot_limits import Job
from tersely.contracts import Backend, Capability, Chunk, Completion, Request
from tersely.prompt import Prompt, Segment
from tersely.weights import CausalLM

LINES = (
    "Sleep well every night at about the same hour",
    "Food with many greens and little sugar in it",
    "Walking for half an hour on most days outside",
    "Water instead of sweet drinks with every single meal",
    "Friends whom you meet often and talk with long",
    "Rest between two tasks before you are too tired",
    "Light in the morning and dark rooms at night",
    "Air from open windows several times in a day",
    "Work that has a clear end in the evening",
    "Play that has no aim but your own joy",
)
"""What a skeleton says, from the first words of each line on."""

MARKS = 3
"""Tokens of a line besides its words: its number, the stop behind it, and the end of the line."""

SENTENCE = " This part tells what matters most here and how it is done well."


def skeleton(job: Job) -> str:
    """A list of about as many tokens as the job's skeleton has."""
    words = max(job.skeleton // job.points - MARKS, 1)
    lines = [" ".join(line.split()[:words]) for line in LINES[: job.points]]
    return "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))


def question(salt: int) -> Prompt:
    """A question as nobody asked it before, so that no engine knows its beginning."""
    text = f"{salt:05d}: How do people stay healthy, and what should each of us do about it?"
    asked = Segment(text=text, kind="question", locked=True, path=("question",))
    return Prompt((asked,), question=text, turns=1)


class Fixed:
    """Makes the first call it gets a skeleton, and each of the others a point of a job.

    `asked` are the calls, and `read` is how many tokens their prompts had. Raises ValueError when
    the engine ends an answer early.
    """

    def __init__(self, backend: Backend, job: Job) -> None:
        self.backend, self.job = backend, job
        self.asked: list[Request] = []
        self.read = 0

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.backend.capabilities

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        calls = [self._call(request) for request in requests]
        made = self.backend.complete([request for request, _ in calls])
        return [self._told(one, *call) for one, call in zip(made, calls, strict=True)]

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        calls = [self._call(request) for request in requests]
        made = await self.backend.acomplete([request for request, _ in calls])
        return [self._told(one, *call) for one, call in zip(made, calls, strict=True)]

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        call = self._call(request)
        for number, chunk in enumerate(self.backend.stream(call[0])):
            yield self._piece(chunk, number, *call)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        call, number = self._call(request), 0
        chunks: Any = self.backend.astream(call[0])
        async with aclosing(chunks):
            async for chunk in chunks:
                yield self._piece(chunk, number, *call)
                number += 1

    def _call(self, request: Request) -> tuple[Request, str]:
        """The request as it is asked, and what the plan is told."""
        self.asked.append(request)
        if len(self.asked) == 1:
            listed = skeleton(self.job)
            goes_on = request.raw or request.prompt.segments[-1].role == "assistant"
            text, tokens = listed.removeprefix("1.") if goes_on else listed, self.job.skeleton
        else:
            tokens = self.job.lengths[len(self.asked) - 2]
            text = " ".join((SENTENCE * tokens).split(" ")[:tokens]) + "."
        return replace(request, max_tokens=tokens, stop=()), text

    def _piece(self, chunk: Chunk, number: int, request: Request, text: str) -> Chunk:
        """As much of the text as tokens came; the rest with the last one."""
        most = request.max_tokens
        start, end = (len(text) * min(i, most) // most for i in (number, number + 1))
        if chunk.completion is not None:
            return Chunk(text=text[start:], completion=self._told(chunk.completion, request, text))
        return Chunk(text=text[start:end])

    def _told(self, made: Completion, request: Request, text: str) -> Completion:
        checked(made, request)
        self.read += made.prompt_tokens
        return replace(made, text=text, finish_reason="stop")


def checked(made: Completion, request: Request) -> None:
    """Raise ValueError unless an answer has all its tokens, as far as the engine tells."""
    if made.completion_tokens not in (0, request.max_tokens):
        raise ValueError(
            f"an answer of {request.max_tokens} tokens ended after {made.completion_tokens}:"
            " the engine must be one that takes `ignore_eos`"
        )


@contextmanager
def endless(lm: CausalLM) -> Iterator[None]:
    """Take the end of a text as a token like any other, so that answers get all their tokens."""
    wishes, tokenizer = lm.model.generation_config, lm.tokenizer
    before = wishes.eos_token_id, tokenizer.eos_token
    wishes.eos_token_id, tokenizer.eos_token = None, None
    try:
        yield
    finally:
        wishes.eos_token_id, tokenizer.eos_token = before
