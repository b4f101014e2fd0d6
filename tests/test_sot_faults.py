"""Whatever backends do to a plan of many points: it ends in time, and tells of all that is lost."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from time import monotonic

import pytest
from little_library import WORDS
from little_sot import QUESTION, asking, purpose, told

from tersely.account import SotAnswer
from tersely.contracts import Capability, Chunk, Completion, Context, Request
from tersely.errors import BackendError, TerselyError
from tersely.middleware.drive import astream, stream
from tersely.plans import Steps
from tersely.sot.plan_sot import Sot
from tersely.sot.router import Router

SEEDS = 500
TIME = 0.3
"""Seconds that an answer has where some points never end."""

TOGETHER = 25
"""Answers under way at once: so few that only what never ends meets the deadline."""

WAYS = ("well", "well", "well", "well", "error", "busy", "breaks", "empty", "long", "odd")


class Moody:
    """Does each time one of the things that servers do, by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ways = (*WAYS, "endless") if seed % 4 == 0 else WAYS
        self.deadline = monotonic() + TIME if seed % 4 == 0 else None
        self.capabilities: frozenset[Capability] = frozenset({"parallel", "stream"})
        if self.random.random() < 0.5:
            self.capabilities |= {"prefill"}
        self.asked, self.running = 0, 0
        self.opened: list[str] = []

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        way = self.random.choice(self.ways)
        self.asked += 1
        self.running += 1
        self.opened.append(f"{purpose(request)}: {way}")
        try:
            if way in ("error", "busy"):
                raise BackendError(f"it is {way}", retryable=way == "busy")
            async for chunk in self._answer(request, way):
                yield chunk
        finally:
            self.running -= 1

    async def _answer(self, request: Request, way: str) -> AsyncIterator[Chunk]:
        text = "" if way == "empty" else self._text(request)
        pieces = text.split(" ")
        for i, piece in enumerate(pieces):
            await asyncio.sleep(0)
            if way == "breaks" and i == len(pieces) // 2:
                raise ConnectionError("the peer closed the connection")
            yield Chunk(text=piece if i == 0 else f" {piece}")
        while way == "endless":
            await asyncio.sleep(0.02)
            yield Chunk(text=" and on")
        finish = {"long": "length", "odd": "other"}.get(way, "stop")
        yield Chunk(text="", completion=Completion(text=text, finish_reason=finish))  # type: ignore[arg-type]

    def _text(self, request: Request) -> str:
        if (name := purpose(request)) != "skeleton":
            more = "\n9. Something else" if self.random.random() < 0.2 else ""
            return f"This is about {name} here. It was written by seed. And it ends.{more}"
        count = self.random.randrange(0, 8)
        needs = [f" <- {self.random.randrange(0, 9)}" if i % 3 == 2 else "" for i in range(count)]
        return "\n".join(
            f"{i}. Line named {chr(96 + i)}{needs[i - 1]}" for i in range(1, count + 1)
        )


def plan_of(seed: int) -> Sot:
    own = random.Random(-seed)
    return Sot(
        gate=own.choice(["auto", "off", "force"]),
        router=Router(meaning=False),
        graph=own.random() < 0.4,
        launch=own.choice(["piped", "whole"]),
        at_once=own.choice([None, 1, 2, 3]),
        retries=own.choice([0, 1, 2]),
        unrepeated=own.random() < 0.3,
    )


def steps(seed: int, backend: Moody) -> Steps:
    context = Context(count=WORDS, backend=backend, deadline=backend.deadline)  # type: ignore[arg-type]
    question = QUESTION if seed % 5 else "Write a tagline for each of the following: tea, coffee."
    return plan_of(seed).steps(asking(question), context)


def late(backend: Moody) -> bool:
    return backend.deadline is not None and monotonic() > backend.deadline


def checked(backend: Moody, pieces: list[Chunk]) -> None:
    """What holds of any answer."""
    last = pieces[-1].completion
    assert last is not None
    answer: SotAnswer = told(last)
    assert "".join(piece.text for piece in pieces) == answer.text
    account = answer.account
    notes = " ".join(account.notes)
    calls = len(account.calls)
    assert calls >= backend.asked if late(backend) else calls == backend.asked
    for point in account.points if account.route != "plain" else ():
        if point.state == "lost":
            assert point.reason and f"point {point.number} is lost" in notes
        else:
            assert point.text and (account.route == "plain" or point.text[:20] in answer.text)
        if point.state == "cut":
            assert f"point {point.number} is cut: {point.reason}" in notes
    if all(point.state == "whole" for point in account.points) and account.route != "plain":
        assert answer.finish_reason == "stop"
    assert account.wasted <= account.completion
    if account.route == "plain":
        assert notes and (answer.text or "the plain answer is empty" in notes)


@pytest.mark.parametrize("part", range(5))
def test_no_schedule_loses_a_point_without_a_word(part: int) -> None:
    async def one(seed: int) -> None:
        backend = Moody(seed)
        try:
            async with asyncio.timeout(20):
                made = steps(seed, backend)
                pieces = [chunk async for chunk in astream(made, backend)]  # type: ignore[arg-type]
        except (TerselyError, ConnectionError):
            assert late(backend) or "plain: well" not in backend.opened, backend.opened
        else:
            checked(backend, pieces)
        assert backend.running == 0, seed

    async def all_of() -> int:
        before = len(asyncio.all_tasks())
        seeds = range(part, SEEDS, 5)
        for first in range(0, len(seeds), TOGETHER):
            await asyncio.gather(*(one(seed) for seed in seeds[first : first + TOGETHER]))
        return len(asyncio.all_tasks()) - before

    assert asyncio.run(all_of()) == 0


def test_the_same_holds_without_an_event_loop() -> None:
    for seed in range(SEEDS, SEEDS + 24):
        backend = Moody(seed)
        try:
            pieces = [*stream(steps(seed, backend), backend)]  # type: ignore[arg-type]
        except (TerselyError, ConnectionError):
            pass
        else:
            checked(backend, pieces)
        assert backend.running == 0
    assert not [one for one in threading.enumerate() if one.name == "tersely-branches"]


def test_leaving_early_ends_all_branches() -> None:
    async def left(seed: int) -> None:
        backend = Moody(seed)
        chunks = astream(steps(seed, backend), backend)  # type: ignore[arg-type]
        try:
            async for _ in chunks:
                break
        except (TerselyError, ConnectionError):
            pass
        await chunks.aclose()
        assert backend.running == 0

    async def all_of() -> None:
        await asyncio.gather(*(left(seed) for seed in range(60)))

    asyncio.run(all_of())
