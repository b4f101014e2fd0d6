"""What the calls of a backend are billed: as it tells, or as counted here where nobody tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Chunk, Completion, Context, Request
from tersely.errors import BackendError
from tersely.middleware.billing import Billed
from tersely.prompt import Prompt, Segment
from tersely.tokens import counter

ASKED = Segment(text="What is a kettle?", kind="question", locked=True)
REQUEST = Request(prompt=Prompt((ASKED,), ASKED.text, turns=1))
CONTEXT = Context(count=counter("gpt-4o"))


class Telling(ScriptedBackend):
    """A backend that says three words, tells what it took, and may fail on the way."""

    def __init__(self, *, fails_after: int = 3) -> None:
        super().__init__(lambda request: "one two three")
        self.fails_after, self.models = fails_after, ("a", "b")

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        for i, word in enumerate(("one ", "two ", "three")):
            if i == self.fails_after:
                raise BackendError("gone")
            yield Chunk(text=word)
        done = Completion(
            text="one two three", prompt_tokens=40, cached_tokens=30, completion_tokens=7
        )
        yield Chunk(text="", completion=done)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        for chunk in self.stream(request):
            yield chunk


def bill(billed: Billed) -> tuple[int, int, int, bool]:
    return billed.prompt, billed.cached, billed.completion, billed.told


def heard(billed: Billed, *, awaited: bool, most: int = 99) -> None:
    """Listen to an answer, or to its first pieces."""

    async def listen() -> None:
        chunks: Any = billed.astream(REQUEST)
        for _ in range(most):
            if await anext(chunks, None) is None:
                break
        await chunks.aclose()

    if awaited:
        asyncio.run(listen())
        return
    chunks: Any = billed.stream(REQUEST)
    for _ in range(most):
        if next(chunks, None) is None:
            break
    chunks.close()


both = pytest.mark.parametrize("awaited", [False, True])


@both
def test_what_the_backend_tells_is_added_up(awaited: bool) -> None:
    billed = Billed(Telling(), CONTEXT)
    heard(billed, awaited=awaited)
    heard(billed, awaited=awaited)
    assert bill(billed) == (80, 60, 14, True)
    assert billed.spent == 94


@both
def test_an_answer_that_was_broken_off_is_counted(awaited: bool) -> None:
    billed = Billed(Telling(), CONTEXT)
    heard(billed, awaited=awaited, most=2)
    assert bill(billed) == (CONTEXT.tokens(REQUEST.prompt), 0, CONTEXT.count("one two "), False)


@both
@pytest.mark.parametrize(("after", "billed_at_all"), [(0, False), (1, True)])
def test_what_fails_is_billed_for_what_it_said(
    awaited: bool, after: int, billed_at_all: bool
) -> None:
    billed = Billed(Telling(fails_after=after), CONTEXT)
    with pytest.raises(BackendError, match="gone"):
        heard(billed, awaited=awaited)
    assert (billed.spent > 0) is billed_at_all


def test_whole_answers_and_what_plans_ask_of_a_backend() -> None:
    billed = Billed(Telling(), CONTEXT)
    assert [one.text for one in billed.complete([REQUEST])] == ["one two three"]
    assert [one.text for one in asyncio.run(billed.acomplete([REQUEST]))] == ["one two three"]
    assert billed.spent > 0
    assert billed.capabilities == Telling().capabilities
    assert billed.models == ("a", "b")  # type: ignore[attr-defined]
    assert (billed.base_url, hasattr(billed, "batch_size")) == ("Telling", False)
