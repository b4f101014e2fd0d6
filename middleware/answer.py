"""Ask a question with what a search finds: one call for the caller, whatever the plan takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing
from dataclasses import fields
from typing import Any

from tersely import registry
from tersely.account import RagAnswer
from tersely.contracts import Backend, Chunk, Completion, Context, Request
from tersely.errors import ConfigError
from tersely.middleware.drive import adrive, astream, drive, stream
from tersely.plans import Plan, Steps
from tersely.prompt import Prompt, Segment
from tersely.retrieval import Searcher
from tersely.tokens import counter


def answer(
    question: str | Prompt,
    *,
    searcher: Searcher,
    backend: Backend,
    plan: str | Plan = "rag",
    max_tokens: int = 256,
    model: str = "",
    **settings: Any,
) -> RagAnswer:
    """Answer a question from what a search finds, and tell what it rests on and what it cost.

    `plan` is a name (`rag`, `flare`, `self_rag`, `two_hop`, `replug`), with its `settings`, or a
    plan. Tokens are counted as `model` counts them, by default the backend's. A Prompt is asked
    without its open segments of the kind `context`: they are what the searcher finds in.

    Raises ConfigError for settings that can't work, and what the backend and the searcher raise.
    """
    steps = _steps(question, backend, plan, max_tokens, model, settings)
    return _told(drive(steps, backend, searcher))


async def aanswer(
    question: str | Prompt,
    *,
    searcher: Searcher,
    backend: Backend,
    plan: str | Plan = "rag",
    max_tokens: int = 256,
    model: str = "",
    **settings: Any,
) -> RagAnswer:
    """Answer without blocking; as `answer`. Cancelling ends the plan."""
    steps = _steps(question, backend, plan, max_tokens, model, settings)
    return _told(await adrive(steps, backend, searcher))


def stream_answer(
    question: str | Prompt,
    *,
    searcher: Searcher,
    backend: Backend,
    plan: str | Plan = "rag",
    max_tokens: int = 256,
    model: str = "",
    **settings: Any,
) -> Telling:
    """Answer piece by piece; as `answer`. Loop over it for the text, then read its `answer`."""
    steps = _steps(question, backend, plan, max_tokens, model, settings)
    return Telling(stream(steps, backend, searcher))


def astream_answer(
    question: str | Prompt,
    *,
    searcher: Searcher,
    backend: Backend,
    plan: str | Plan = "rag",
    max_tokens: int = 256,
    model: str = "",
    **settings: Any,
) -> ATelling:
    """Answer piece by piece without blocking; as `stream_answer`."""
    steps = _steps(question, backend, plan, max_tokens, model, settings)
    return ATelling(astream(steps, backend, searcher))


class _Heard:
    """Chunks, of which the last carries the answer."""

    def __init__(self) -> None:
        self._answer: RagAnswer | None = None

    @property
    def answer(self) -> RagAnswer:
        """The whole answer with its account. Raises ConfigError before the text has ended."""
        if self._answer is None:
            raise ConfigError("the answer has not ended yet: loop over its text first")
        return self._answer

    def _text(self, chunk: Chunk) -> str:
        if chunk.completion is not None:
            self._answer = _told(chunk.completion)
        return chunk.text


class Telling(_Heard):
    """The text of an answer as it comes; `answer` is the whole, with its account."""

    def __init__(self, chunks: Generator[Chunk, None, None]) -> None:
        super().__init__()
        self._chunks = chunks

    def __iter__(self) -> Iterator[str]:
        with closing(self._chunks):
            yield from filter(None, map(self._text, self._chunks))


class ATelling(_Heard):
    """As `Telling`, without blocking."""

    def __init__(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        super().__init__()
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[str]:
        async with aclosing(self._chunks):
            async for chunk in self._chunks:
                if text := self._text(chunk):
                    yield text


def _steps(
    question: str | Prompt,
    backend: Backend,
    plan: str | Plan,
    max_tokens: int,
    model: str,
    settings: dict[str, Any],
) -> Steps:
    """A question as a plan takes it."""
    name = model or str(getattr(backend, "model", ""))
    request = Request(prompt=_prompt(question), max_tokens=max_tokens)
    context = Context(count=counter(name), backend=backend)
    return _plan(plan, settings).steps(request, context)


def _plan(plan: str | Plan, settings: dict[str, Any]) -> Plan:
    if isinstance(plan, str):
        return registry.plan(plan, **settings)
    if settings:
        raise ConfigError(f"settings go with a plan's name, was {plan!r} with {settings!r}")
    return plan


def _prompt(question: str | Prompt) -> Prompt:
    if isinstance(question, Prompt):
        return question
    if not question.strip():
        raise ConfigError(f"there is no question in {question!r}")
    asked = Segment(text=question, kind="question", locked=True, path=("question",))
    return Prompt((asked,), question=question, turns=1)


def _told(completion: Completion) -> RagAnswer:
    """The answer of a plan; one that tells no more than its text has an empty account."""
    if isinstance(completion, RagAnswer):
        return completion
    known = {one.name: getattr(completion, one.name) for one in fields(Completion)}
    return RagAnswer(**known)
