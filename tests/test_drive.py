"""Plans meet a backend: same steps, sync and async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Completion, Request, Steps
from tersely.errors import BackendError
from tersely.middleware.drive import adrive, drive
from tersely.prompt import Prompt, Segment

Drive = Callable[[Steps, Any], Completion]


def async_drive(steps: Steps, backend: Any) -> Completion:
    return asyncio.run(adrive(steps, backend))


both = pytest.mark.parametrize("run", [drive, async_drive])


def ask(text: str) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)))


def outline_then_points() -> Steps:
    (outline,) = yield [ask("outline")]
    points = yield [ask(line) for line in outline.text.split()]
    return Completion(text=" / ".join(point.text for point in points))


@both
def test_a_plan_gets_what_it_asked_for(run: Drive) -> None:
    backend = ScriptedBackend(["one two", "first", "second"])
    assert run(outline_then_points(), backend).text == "first / second"
    asked = [request.prompt.text for request in backend.requests]
    assert asked == ["outline", "one", "two"]


@both
def test_a_plan_without_calls(run: Drive) -> None:
    def steps() -> Steps:
        return Completion(text="known")
        yield []

    assert run(steps(), ScriptedBackend([])).text == "known"


@both
def test_a_plan_may_handle_the_backends_error(run: Drive) -> None:
    def steps() -> Steps:
        try:
            yield [ask("hard")]
        except BackendError:
            (easy,) = yield [ask("easy")]
            return easy
        raise AssertionError("the error did not arrive")

    backend = ScriptedBackend([BackendError("too hard"), "fine"])
    assert run(steps(), backend).text == "fine"


@both
def test_an_unhandled_error_is_raised_and_the_plan_closed(run: Drive) -> None:
    steps = outline_then_points()
    with pytest.raises(BackendError, match="the script has 1 answers"):
        run(steps, ScriptedBackend(["one two"]))
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED


@both
def test_a_plans_own_error_is_raised(run: Drive) -> None:
    def steps() -> Steps:
        yield [ask("a")]
        raise ValueError("the plan is wrong")

    with pytest.raises(ValueError, match="the plan is wrong"):
        run(steps(), ScriptedBackend(["x"]))


def test_an_interrupt_closes_the_plan() -> None:
    def interrupt(_: Request) -> str:
        raise KeyboardInterrupt

    steps = outline_then_points()
    with pytest.raises(KeyboardInterrupt):
        drive(steps, ScriptedBackend(interrupt))
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED


async def test_cancelling_closes_the_plan() -> None:
    reached = asyncio.Event()

    class Endless(ScriptedBackend):
        async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
            reached.set()
            await asyncio.Event().wait()
            return []

    steps = outline_then_points()
    task = asyncio.create_task(adrive(steps, Endless([])))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED
