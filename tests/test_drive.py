"""Plans meet a backend: same steps, sync and async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest
from driven import Drive, Stream, both, both_streams

from tersely import plans
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Chunk, Completion, Request
from tersely.errors import BackendError, ConfigError, StageError
from tersely.middleware.drive import adrive, drive
from tersely.plans import Steps
from tersely.prompt import Prompt, Segment
from tersely.retrieval import Passage


class Library:
    """Finds the words of a question."""

    def search(self, question: str, k: int, /) -> list[Passage]:
        return [Passage(text=word) for word in question.split()[:k]]

    async def asearch(self, question: str, k: int, /) -> list[Passage]:
        return self.search(question, k)


class Mixed(ScriptedBackend):
    def mix(self, requests: Sequence[Request], weights: Sequence[float], /) -> Completion:
        return Completion(text=f"{len(requests)} prompts, {sum(weights):g}")


def ask(text: str) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)))


def outline_then_points() -> Steps:
    (outline,) = yield from plans.ask([ask("outline")])
    points = yield from plans.ask([ask(line) for line in outline.text.split()])
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
            yield from plans.ask([ask("hard")])
        except BackendError:
            (easy,) = yield from plans.ask([ask("easy")])
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


@both
def test_a_plan_searches(run: Drive) -> None:
    def steps() -> Steps:
        found = yield from plans.search("who wrote it", 2)
        return Completion(text=" ".join(one.text for one in found))

    assert run(steps(), ScriptedBackend([]), Library()).text == "who wrote"


@both
def test_a_plan_that_has_nothing_to_search_in(run: Drive) -> None:
    def steps() -> Steps:
        yield from plans.search("who", 1)
        raise AssertionError("nothing can be found")

    with pytest.raises(ConfigError, match="pass a searcher"):
        run(steps(), ScriptedBackend([]))


@both
def test_a_plan_mixes(run: Drive) -> None:
    def steps() -> Steps:
        return (yield from plans.mix([ask("a"), ask("b")], [0.25, 0.75]))

    assert run(steps(), Mixed([])).text == "2 prompts, 1"
    with pytest.raises(ConfigError, match="can't mix"):
        run(steps(), ScriptedBackend([]))


def sentence_by_sentence() -> Steps:
    yield from plans.say("> ")
    first = yield from plans.listen(ask("tell"), until=lambda text: "." in text)
    rest = yield from plans.listen(ask("go on"), aloud=True)
    return Completion(text=first.text + rest.text)


@both_streams
def test_what_a_plan_says_is_shown_as_it_comes(run: Stream) -> None:
    backend = ScriptedBackend(["One. Two. Three.", "and more"])
    *shown, last = run(sentence_by_sentence(), backend)
    assert [chunk.text for chunk in shown] == ["> ", "and ", "more"]
    assert last.completion is not None
    assert last.completion.text == "One. and more"


@both
def test_an_answer_that_is_broken_off_tells_so(run: Drive) -> None:
    def steps() -> Steps:
        return (yield from plans.listen(ask("tell"), until=lambda text: "." in text))

    answer = run(steps(), ScriptedBackend(["One. Two."]))
    assert (answer.text, answer.finish_reason) == ("One. ", "cancelled")


@both
def test_breaking_off_ends_the_stream(run: Drive) -> None:
    ended = []

    class Endless(ScriptedBackend):
        def stream(self, request: Request, /) -> Iterator[Chunk]:
            try:
                while True:
                    yield Chunk(text="on ", tokens=("on ",), logprobs=(-0.5,))
            finally:
                ended.append(True)

    def steps() -> Steps:
        return (yield from plans.listen(ask("tell"), until=lambda text: len(text) > 7))

    answer = run(steps(), Endless([]))
    assert (answer.tokens, answer.logprobs) == (("on ",) * 3, (-0.5,) * 3)
    assert ended


@both
def test_a_plan_that_is_sent_what_it_did_not_ask_for(run: Drive) -> None:
    class Confused(ScriptedBackend):
        def complete(self, requests: Sequence[Request], /) -> Any:
            return "an answer"

    with pytest.raises(StageError, match="was sent 'an answer'"):
        run(outline_then_points(), Confused([]))


@both_streams
def test_a_reader_who_stops_early_closes_the_plan(run: Stream) -> None:
    steps = sentence_by_sentence()
    chunks = iter(run(steps, ScriptedBackend(["One.", "and more"])))
    assert next(chunks).text == "> "
    if isinstance(chunks, Generator):
        chunks.close()
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED
