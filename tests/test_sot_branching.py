"""Programs that fork and gather: each goes its own way, and what fails fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from time import monotonic
from typing import Any

import pytest
from little_sot import asking

from tersely import plans
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Chunk, Completion, Request
from tersely.errors import BackendError, ConfigError, OutOfTime, StageError
from tersely.middleware.drive import adrive, drive
from tersely.plans import Reply, Step, Steps
from tersely.sot.branching import Branch, Forks, NotAsked, Program, gather, outcome


def async_drive(*given: Any) -> Completion:
    return asyncio.run(adrive(*given))


both = pytest.mark.parametrize("go", [drive, async_drive])
Go = Callable[..., Completion]


class Echo(ScriptedBackend):
    """Says what it is asked; `never` ends what begins so, `bad` fails. Notes what runs beside."""

    def __init__(self) -> None:
        super().__init__([])
        self.now = self.most = 0

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        text = request.prompt.text
        self.requests.append(request)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield Chunk(text=f"{text} ")
            await asyncio.sleep(0.001)
            while text.startswith("never"):
                await asyncio.sleep(0.005)
            if text.startswith("bad"):
                raise BackendError(f"no {text}")
            yield Chunk(text="", completion=Completion(text=f"{text} said"))
        finally:
            self.now -= 1


def texts(branches: list[Branch]) -> Completion:
    told = (str(one.error) if one.error else getattr(one.result, "text", "?") for one in branches)
    return Completion(text=", ".join(told))


@both
def test_requests_are_gathered_in_their_order(go: Go) -> None:
    def steps() -> Steps:
        wanted = [asking(text) for text in ("a", "bad b", "c")]
        return texts((yield from gather(wanted)))

    assert go(steps(), Echo()).text == "a said, no bad b, c said"


@both
def test_programs_take_several_calls_each(go: Go) -> None:
    def twice(text: str) -> Generator[Step, Reply, Completion]:
        first = yield from plans.listen(asking(text))
        second, third = yield from plans.ask([asking(f"{first.text} 2"), asking("3")])
        return Completion(text=f"{second.text}/{third.text}")

    def steps() -> Steps:
        return texts((yield from gather([twice("a"), twice("b"), asking("c")], at_once=2)))

    backend = Echo()
    assert go(steps(), backend).text == "a said 2 said/3 said, b said 2 said/3 said, c said"
    assert backend.most <= 2


@both
def test_a_program_may_go_on_after_a_failure(go: Go) -> None:
    def program() -> Program:
        heard, error = yield from outcome(asking("bad"))
        assert heard.text == "bad " and isinstance(error, BackendError)
        try:
            yield from plans.listen(asking("bad again"))
        except BackendError:
            return (yield from plans.listen(asking("good")))

    def steps() -> Steps:
        return texts((yield from gather([program()])))

    assert go(steps(), Echo()).text == "good said"


@both
def test_branches_are_added_while_others_run(go: Go) -> None:
    def steps() -> Steps:
        forks, seen = Forks(), []
        first = forks.fork(asking("a"))
        second = None
        while touched := (yield from forks.step()):
            seen += touched
            if first.text and second is None:
                second = forks.fork(asking("b"))
        assert second is not None and {*seen} == {first, second}
        return texts([first, second])

    assert go(steps(), Echo()).text == "a said, b said"


@both
def test_the_deadline_ends_all_and_leaves_what_came(go: Go) -> None:
    def careful() -> Program:
        heard, error = yield from outcome(asking("never 1"))
        assert isinstance(error, OutOfTime)
        _, later = yield from outcome(asking("later"))
        assert isinstance(later, NotAsked)
        return heard

    def steps() -> Steps:
        wanted = [careful(), asking("never 2"), asking("never 3")]
        forks = Forks(at_once=2)
        found = [forks.fork(one) for one in wanted]
        while not (found[0].text and found[1].text):
            yield from forks.step()
        forks.deadline = monotonic()
        yield from forks.gather()
        assert forks.late
        assert isinstance(found[2].error, NotAsked)
        return texts(found[:2])

    backend = Echo()
    assert go(steps(), backend).text == "never 1 , never 2 "
    assert backend.now == 0 and len(backend.requests) == 2


@both
def test_a_branch_has_a_deadline_of_its_own(go: Go) -> None:
    def steps() -> Steps:
        forks = Forks()
        short = forks.fork(asking("never"))
        while not short.text:
            yield from forks.step()
        short.deadline = monotonic()
        yield from forks.gather([short])
        after = forks.fork(asking("after"))
        return texts([short, *(yield from forks.gather([after]))])

    assert go(steps(), Echo()).text == "never , after said"


@both
def test_a_dropped_branch_lets_go(go: Go) -> None:
    backend = Echo()

    def steps() -> Steps:
        forks = Forks(at_once=1)
        running, waiting = forks.fork(asking("never")), forks.fork(asking("b"))
        yield from forks.step()
        yield from forks.drop(running)
        assert backend.now == 0
        yield from forks.drop(waiting)
        assert (yield from forks.step()) == []
        return Completion(text="dropped")

    assert go(steps(), backend).text == "dropped"


def test_what_a_program_says_is_kept() -> None:
    def program() -> Program:
        yield from plans.say("one")
        yield from plans.listen(asking("a"))
        yield from plans.say("two")

    def steps() -> Steps:
        (branch,) = yield from gather([program()])
        return Completion(text="+".join(branch.said))

    assert drive(steps(), Echo()).text == "one+two"


def test_a_program_that_forks_itself_fails_alone() -> None:
    def program() -> Program:
        yield from plans.hear()

    def steps() -> Steps:
        found = yield from gather([program(), asking("a")])
        assert isinstance(found[0].error, StageError)
        return texts(found)

    assert drive(steps(), Echo()).text.endswith("a said")


def test_nothing_to_gather() -> None:
    def steps() -> Steps:
        return texts((yield from gather([])))

    assert drive(steps(), Echo()).text == ""
    with pytest.raises(ConfigError, match="at_once"):
        Forks(at_once=0)


@both
def test_a_backend_that_fails_at_once_or_cancels_is_heard_of(go: Go) -> None:
    class Broken(Echo):
        def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
            if request.prompt.text == "raises":
                raise ValueError("no stream")
            return self._cancels()

        async def _cancels(self) -> AsyncIterator[Chunk]:
            yield Chunk(text="a ")
            raise asyncio.CancelledError

    def steps() -> Steps:
        return texts((yield from gather([asking("raises"), asking("cancels")])))

    assert go(steps(), Broken()).text == "no stream, the backend cancelled the answer"
