"""Branches of a plan: asked side by side, heard as they come, broken off for good."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from time import monotonic
from typing import Any

import pytest
from driven import Drive, Stream, both, both_streams

from tersely import plans
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Chunk, Completion, Request
from tersely.errors import BackendError, ConfigError, StageError
from tersely.plans import Steps
from tersely.prompt import Prompt, Segment


def ask(text: str) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)))


class Gated(ScriptedBackend):
    """Says a word of each answer, and the rest only when all others were asked as well."""

    def __init__(self, together: int) -> None:
        super().__init__([])
        self.together, self.asked, self.left = together, 0, 0

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        self.asked += 1
        try:
            yield Chunk(text=request.prompt.text + " ")
            while self.asked < self.together:
                await asyncio.sleep(0.001)
            text = f"{request.prompt.text} done"
            yield Chunk(text="done")
            yield Chunk(text="", completion=Completion(text=text))
        finally:
            self.left += 1


def all_of(texts: Iterable[str]) -> Steps:
    names = list(texts)
    for i, text in enumerate(names):
        yield from plans.fork(i, ask(text))
    ended: dict[int, str] = {}
    while len(ended) < len(names):
        event = yield from plans.hear()
        if event.branch is not None and event.completion is not None:
            ended[event.branch] = event.completion.text
    return Completion(text=", ".join(ended[i] for i in sorted(ended)))


@both
def test_branches_are_answered_side_by_side(run: Drive) -> None:
    backend = Gated(3)
    assert run(all_of("abc"), backend).text == "a done, b done, c done"
    assert backend.left == 3


@both_streams
def test_what_comes_can_be_shown_at_once(run: Stream) -> None:
    def steps() -> Steps:
        yield from plans.fork(7, ask("word"))
        text = ""
        while True:
            event = yield from plans.hear()
            assert event.branch == 7
            if event.completion is not None:
                return Completion(text=text)
            text += event.text
            yield from plans.say(event.text)

    *shown, last = run(steps(), Gated(1))
    assert [chunk.text for chunk in shown] == ["word ", "done"]
    assert last.completion is not None
    assert last.completion.text == "word done"


@both
def test_a_branch_is_broken_off_when_it_is_long_enough(run: Drive) -> None:
    def steps() -> Steps:
        yield from plans.fork(0, ask("a"), until=lambda text: True)
        yield from plans.hear()
        event = yield from plans.hear()
        assert event.completion is not None
        return event.completion

    backend = Gated(2)  # nobody else comes: the rest of the answer never would
    assert run(steps(), backend).finish_reason == "cancelled"
    assert backend.left == 1


@both
def test_a_failure_is_an_event_and_ends_its_branch_alone(run: Drive) -> None:
    def steps() -> Steps:
        yield from plans.fork(0, ask("bad"))
        yield from plans.fork(1, ask("good"))
        failed, said = [], ""
        while True:
            event = yield from plans.hear()
            if event.branch is None:
                return Completion(text=f"{failed} {said}")
            if event.error is not None:
                failed.append(str(event.error))
            elif event.completion is not None:
                said = event.completion.text

    def answers(request: Request) -> Any:
        return BackendError("no") if request.prompt.text == "bad" else "yes"

    assert run(steps(), ScriptedBackend(answers)).text == "['no'] yes"


@both
def test_a_dropped_branch_is_not_heard_of_again(run: Drive) -> None:
    backend = Gated(99)

    def steps() -> Steps:
        yield from plans.fork(0, ask("a"))
        yield from plans.hear()
        yield from plans.drop(0)
        assert backend.left == 1  # it has let go before the plan goes on
        event = yield from plans.hear()
        assert event == plans.Event()
        return Completion(text="dropped")

    assert run(steps(), backend).text == "dropped"


@both
def test_waiting_ends_at_the_deadline(run: Drive) -> None:
    def steps() -> Steps:
        yield from plans.fork(0, ask("a"))
        assert (yield from plans.hear()).text == "a "
        event = yield from plans.hear(monotonic() + 0.02)
        assert event.branch is None
        return Completion(text="late")

    backend = Gated(99)
    assert run(steps(), backend).text == "late"
    assert backend.left == 1  # a plan that ends leaves nothing running


@both
def test_hearing_without_branches_does_not_wait(run: Drive) -> None:
    def steps() -> Steps:
        event = yield from plans.hear()
        yield from plans.drop(3)
        assert event == plans.Event()
        return Completion(text="silence")

    assert run(steps(), ScriptedBackend([])).text == "silence"


@both
def test_a_number_is_taken_once_at_a_time(run: Drive) -> None:
    def steps() -> Steps:
        yield from plans.fork(0, ask("a"))
        with pytest.raises(ConfigError, match="branch 0 is under way"):
            yield from plans.fork(0, ask("b"))
        return Completion(text="told")

    assert run(steps(), Gated(9)).text == "told"


@both
def test_an_error_of_the_plan_ends_all_branches(run: Drive) -> None:
    def steps() -> Steps:
        yield from plans.fork(0, ask("a"))
        yield from plans.fork(1, ask("b"))
        yield from plans.hear()
        raise StageError("enough")

    backend = Gated(99)
    with pytest.raises(StageError, match="enough"):
        run(steps(), backend)
    assert backend.left == backend.asked
    assert not [one for one in threading.enumerate() if one.name == "tersely-branches"]
