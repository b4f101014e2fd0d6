"""What tests of plans with many points share: a writer that answers by what it is asked for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from little_library import WORDS

from tersely.account import SotAnswer
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Capability, Chunk, Completion, Context, Request
from tersely.middleware.drive import adrive, astream, drive, stream
from tersely.plans import Plan, Steps
from tersely.prompt import Prompt, Segment

QUESTION = "What are the benefits of sleep?"
LINES = ("Better memory", "Stronger immune defence", "Steady mood", "Healthy heart")
SKELETON = "\n".join(f"{i}. {line}" for i, line in enumerate(LINES, 1))

PURPOSE = re.compile(r"You (?:write point|answer item) (\d+) and no other")
ALONE = "Answer only this part of it"


def purpose(request: Request) -> str:
    """What a request is for: `skeleton`, the number of a point, `alone`, or `plain`."""
    text = request.prompt.text
    if found := PURPOSE.search(text):
        return found[1]
    if ALONE in text:
        return "alone"
    return "skeleton" if "Now the points." in text else "plain"


def text_of(number: str) -> str:
    return f"Words on number {number} come here. They end with sentence {number}b."


class Writer(ScriptedBackend):
    """Answers each purpose by its own text; `asked` tells the order in which it was asked.

    An answer may be a function of the request, and an error is raised.
    """

    def __init__(
        self,
        answers: Mapping[str, Any] | None = None,
        capabilities: tuple[Capability, ...] = (),
        skeleton: str = SKELETON,
    ) -> None:
        given: Mapping[str, Any] = answers or {}

        def answer(request: Request) -> Any:
            name = purpose(request)
            self.asked.append(name)
            usual = {"skeleton": skeleton, "plain": "A plain answer. It has two sentences."}
            found = given.get(name, usual.get(name, text_of(name)))
            return found(request) if callable(found) else found

        super().__init__(answer, capabilities=frozenset({"parallel", "stream", *capabilities}))
        self.asked: list[str] = []


class Slow(Writer):
    """Says word by word what it says, giving way to others after each; notes what ran beside.

    It ends none of what is named in `waits` before the other has begun.
    """

    def __init__(self, *args: Any, waits: Mapping[str, str] | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.waits = dict(waits or {})
        self.running, self.most, self.left = 0, 0, 0
        self.log: list[tuple[str, str]] = []

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        name = purpose(request)
        self.running += 1
        self.most = max(self.most, self.running)
        self.log.append(("begun", name))
        try:
            for chunk in self.stream(request):
                await asyncio.sleep(0)
                while chunk.completion and not self._begun(self.waits.get(name, name)):
                    await asyncio.sleep(0.001)
                yield chunk
            self.log.append(("ended", name))
        finally:
            self.running -= 1
            self.left += 1

    def _begun(self, name: str) -> bool:
        return ("begun", name) in self.log


def asking(question: str = QUESTION, **more: Any) -> Request:
    turn = Segment(text=question, kind="question", locked=True, path=("question",))
    return Request(prompt=Prompt((turn,), question, turns=1), **{"max_tokens": 400, **more})


def steps(plan: Plan, backend: Any, request: Request, deadline: float | None = None) -> Steps:
    return plan.steps(request, Context(count=WORDS, backend=backend, deadline=deadline))


def run(
    plan: Plan, backend: Any, request: Request | None = None, deadline: float | None = None
) -> SotAnswer:
    """Carry out a plan; words are tokens."""
    return told(drive(steps(plan, backend, request or asking(), deadline), backend))


def arun(
    plan: Plan, backend: Any, request: Request | None = None, deadline: float | None = None
) -> SotAnswer:
    return told(asyncio.run(adrive(steps(plan, backend, request or asking(), deadline), backend)))


def shown(plan: Plan, backend: Any, request: Request | None = None) -> list[Chunk]:
    return [*stream(steps(plan, backend, request or asking()), backend)]


def ashown(plan: Plan, backend: Any, request: Request | None = None) -> list[Chunk]:
    async def heard() -> list[Chunk]:
        made = steps(plan, backend, request or asking())
        return [chunk async for chunk in astream(made, backend)]

    return asyncio.run(heard())


def told(completion: Completion) -> SotAnswer:
    assert isinstance(completion, SotAnswer)
    return completion


Run = Callable[..., SotAnswer]
