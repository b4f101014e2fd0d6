"""Skeleton-of-Thought: points side by side, told in order, and none lost without a word."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from little_library import WORDS
from little_sot import (
    LINES,
    QUESTION,
    SKELETON,
    Run,
    Slow,
    Writer,
    arun,
    ashown,
    asking,
    purpose,
    run,
    shown,
    steps,
    text_of,
    told,
)

from tersely import registry
from tersely.account import SotAnswer
from tersely.contracts import Chunk, Completion, Request
from tersely.errors import BackendError, ConfigError, OutOfTime
from tersely.plans import Event, Fork, Hear, Steps
from tersely.prompt import messages_of
from tersely.sot.plan_sot import Sot
from tersely.sot.profile import Profile
from tersely.sot.templates import Templates

both = pytest.mark.parametrize("go", [run, arun])
both_streams = pytest.mark.parametrize("show", [shown, ashown])

FREE = Sot(gate="off")
WHOLE = "\n\n".join(f"{i}. {line}: {text_of(str(i))}" for i, line in enumerate(LINES, 1))


def states(answer: SotAnswer) -> list[str]:
    return [point.state for point in answer.account.points]


@both
@pytest.mark.parametrize("launch", ["piped", "whole"])
@pytest.mark.parametrize("capabilities", [(), ("prefill",)])
def test_all_points_are_written(go: Run, launch: Any, capabilities: Any) -> None:
    backend = Writer(capabilities=capabilities)
    answer = go(Sot(gate="off", launch=launch), backend)
    assert answer.text == WHOLE
    assert (answer.finish_reason, states(answer)) == ("stop", ["whole"] * 4)
    assert answer.account.route == "skeleton"
    assert sorted(backend.asked) == ["1", "2", "3", "4", "skeleton"]


def test_it_is_known_by_name() -> None:
    assert registry.plan("sot", points=4) == Sot(points=4)
    with pytest.raises(ConfigError, match="points"):
        registry.plan("sot", points=1)


@both
def test_points_are_written_at_the_same_time(go: Run) -> None:
    backend = Slow(waits={"1": "4", "2": "4", "3": "4"})
    assert go(FREE, backend).text == WHOLE
    assert backend.most >= 4
    bounded = Slow(waits={"1": "2", "3": "4"})
    assert go(Sot(gate="off", at_once=2), bounded).text == WHOLE
    assert bounded.most == 2


@pytest.mark.parametrize("name", ["parallel", "batch_size"])
def test_as_many_points_are_written_at_once_as_the_backend_says(name: str) -> None:
    backend = Slow(waits={"1": "2", "3": "4"})
    setattr(backend, name, 2)
    assert arun(FREE, backend).text == WHOLE
    assert backend.most == 2


def test_piped_points_begin_before_the_skeleton_ends() -> None:
    backend = Slow(waits={"skeleton": "2"})
    arun(FREE, backend)
    ended = backend.log.index(("ended", "skeleton"))
    assert backend.log.index(("begun", "1")) < backend.log.index(("begun", "2")) < ended
    waiting = Slow()
    arun(Sot(gate="off", launch="whole"), waiting)
    assert waiting.log[:2] == [("begun", "skeleton"), ("ended", "skeleton")]


def test_prompts_begin_alike_and_end_with_their_number() -> None:
    backend = Writer(capabilities=("prefill",))
    run(Sot(gate="off", launch="whole"), backend)
    asked = {purpose(one): messages_of(one.prompt) for one in backend.requests}
    users = [asked[str(i)][0]["content"] for i in range(1, 5)]
    assert all(SKELETON in user and QUESTION in user for user in users)
    start = users[0].index("You write point")
    assert len({user[:start] for user in users}) == 1
    assert asked["skeleton"][0]["content"].split(QUESTION)[0] == users[0].split(QUESTION)[0]
    assert asked["skeleton"][-1] == {"role": "assistant", "content": "1."}
    assert asked["2"][-1] == {"role": "assistant", "content": "2. Stronger immune defence:"}


def test_a_piped_writer_sees_the_skeleton_up_to_its_own_line() -> None:
    backend = Writer()
    run(FREE, backend)
    second = next(one for one in backend.requests if purpose(one) == "2").prompt.text
    assert "1. Better memory\n2. Stronger immune defence" in second
    assert "Steady mood" not in second


def test_raw_text_is_gone_on_with() -> None:
    def answer(request: Request) -> str:
        text = request.prompt.text
        return " Memory\n2. Mood" if text.endswith("\n\n1.") else " Some words on it."

    from tersely.backends.scripted import ScriptedBackend

    answered = run(FREE, ScriptedBackend(answer), asking(raw=True))
    assert answered.text == "1. Memory: Some words on it.\n\n2. Mood: Some words on it."


@both_streams
def test_points_are_shown_in_order_as_they_come(show: Callable[..., list[Chunk]]) -> None:
    *pieces, last = show(FREE, Slow())
    assert "".join(piece.text for piece in pieces) == WHOLE
    assert last.completion is not None and last.completion.text == WHOLE
    assert pieces[0].text == "1. Better memory: Words on number 1 come here."
    assert len(pieces) > 4


def test_a_point_is_shown_while_later_ones_are_written() -> None:
    class Holding(Slow):
        """The fourth point waits until the first was shown."""

        seen = asyncio.Event()

        async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
            if purpose(request) == "4":
                await self.seen.wait()
            async for chunk in super().astream(request):
                yield chunk

    async def heard() -> str:
        from tersely.contracts import Context
        from tersely.middleware.drive import astream

        backend, text = Holding(), ""
        backend.seen = asyncio.Event()
        made = FREE.steps(asking(), Context(count=WORDS, backend=backend))
        async for chunk in astream(made, backend):
            text += chunk.text
            if "sentence 3b" in text:
                backend.seen.set()
        return text

    assert asyncio.run(asyncio.wait_for(heard(), 20)) == WHOLE


# What is cut away.


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Sleep helps. It does.\n3. Mood swings\nThey go.", "Sleep helps. It does."),
        ("Sleep helps.\n\n7. Another list", "Sleep helps."),
        ("2. Stronger immune defence: Sleep helps.", "Sleep helps."),
        ("**Stronger immune defence**: Sleep helps.", "Sleep helps."),
        ("Sleep helps.\nUser: thanks", "Sleep helps."),
        ("It has 2. parts and 3. more", "It has 2. parts and 3. more"),
    ],
)
def test_a_point_is_less_than_what_runs_on(written: str, kept: str) -> None:
    answer = run(FREE, Writer({"2": written}))
    assert answer.account.points[1].text == kept
    assert answer.account.points[1].state == "whole"
    call = {call.purpose: call for call in answer.account.calls}["point 2"]
    assert WORDS(kept) == call.completion - call.wasted
    assert (call.wasted > 0) == (written != kept)


def test_the_stop_strings_name_the_next_point() -> None:
    backend = Writer()
    run(FREE, backend, asking(stop=("END",)))
    second = next(one for one in backend.requests if purpose(one) == "2")
    assert second.stop == ("END", "\n3.", "\n3)", "\n**3.")


def cut(text: str) -> Completion:
    words = len(text.split())
    return Completion(text=text, completion_tokens=words, finish_reason="length")


def test_a_point_that_is_cut_ends_with_a_sentence() -> None:
    answer = run(FREE, Writer({"2": cut("This is whole. This is not who")}))
    point = answer.account.points[1]
    assert (point.text, point.state, point.reason) == (
        "This is whole.",
        "cut",
        "its tokens were spent",
    )
    assert answer.finish_reason == "length"
    assert "point 2 is cut: its tokens were spent" in answer.account.notes


def test_a_point_that_is_cut_goes_on_from_the_reserve() -> None:
    def second(request: Request) -> Any:
        begun = messages_of(request.prompt)[-1]["content"]
        if begun.endswith("This is whole."):
            return " And so is this."
        return cut("This is whole. This is not who")

    answer = run(FREE, Writer({"2": second}, ("prefill",)))
    assert answer.account.points[1].text == "This is whole. And so is this."
    assert states(answer) == ["whole"] * 4
    assert "point 2, more" in [call.purpose for call in answer.account.calls]


def test_points_share_the_tokens() -> None:
    backend = Writer(skeleton="\n".join(f"{i}. Line number {i}" for i in range(1, 30)))
    run(Sot(gate="off", launch="whole"), backend, asking(max_tokens=300))
    rooms = [one.max_tokens for one in backend.requests if purpose(one).isdigit()]
    assert (len(rooms), sum(rooms)) == (10, 300)
    piped = Writer(skeleton="\n".join(f"{i}. Line number {i}" for i in range(1, 30)))
    run(FREE, piped, asking(max_tokens=300))
    rooms = [one.max_tokens for one in piped.requests if purpose(one).isdigit()]
    assert len(rooms) == 10 and min(rooms) >= 24 and sum(rooms) <= 300


def test_sentences_said_before_can_be_left_out() -> None:
    again = "Sleep is very important for health. "
    backend = Writer({"1": f"{again}One.", "2": f"{again}Two.", "3": f"Three. {again}"})
    assert run(FREE, backend).text.count(again.strip()) == 3
    answer = run(Sot(gate="off", unrepeated=True), backend)
    assert answer.text.count(again.strip()) == 1
    assert "2. Stronger immune defence: Two." in answer.text
    assert any("said before: Sleep is" in note for note in answer.account.notes)


# What fails.


def once(error: Exception, text: str) -> Callable[[Request], Any]:
    told: list[Request] = []

    def answer(request: Request) -> Any:
        told.append(request)
        return error if len(told) == 1 else text

    return answer


BUSY = BackendError("busy", retryable=True)


@both
def test_a_point_that_fails_is_asked_again(go: Run) -> None:
    answer = go(FREE, Writer({"3": once(BUSY, text_of("3"))}))
    assert answer.text == WHOLE
    assert answer.account.points[2].calls == 2


def test_an_empty_point_is_asked_again() -> None:
    answer = run(FREE, Writer({"3": lambda one: "  \n"}))
    assert answer.account.points[2].text == text_of("alone")
    assert [call.purpose for call in answer.account.calls][-2:] == [
        "point 3, again",
        "point 3, alone",
    ]


@both
def test_a_point_that_fails_again_is_asked_for_alone(go: Run) -> None:
    backend = Slow({"2": BUSY})
    answer = go(FREE, backend)
    assert backend.asked[-1] == "alone"
    assert answer.text == WHOLE.replace(text_of("2"), text_of("alone"))
    assert "asked for alone, and shorter (BackendError: busy)" in answer.account.notes[-1]


@both
def test_finished_points_outlive_one_that_is_lost(go: Run) -> None:
    answer = go(FREE, Writer({"2": BUSY, "alone": BUSY}))
    assert states(answer) == ["whole", "lost", "whole", "whole"]
    assert "Better memory" in answer.text and "2." not in answer.text
    (lost,) = answer.account.lost
    assert (lost.number, lost.reason, lost.calls) == (2, "BackendError: busy", 3)
    assert answer.finish_reason == "other"
    assert "point 2 is lost: BackendError: busy" in answer.account.notes


def test_what_was_shown_of_a_stream_that_broke_stays() -> None:
    class Breaking(Slow):
        async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
            async for chunk in super().astream(request):
                if purpose(request) == "1" and "1b" in chunk.text:
                    raise BackendError("the stream broke", retryable=True)
                yield chunk

    *pieces, last = shown(FREE, Breaking())
    assert last.completion is not None
    assert "".join(piece.text for piece in pieces) == last.completion.text
    assert last.completion.text.startswith("1. Better memory: Words on number 1 come here.\n\n2.")


@both
def test_without_two_points_the_answer_is_plain(go: Run) -> None:
    for skeleton, found in [("I can't.", "no usable point"), ("1. All", "one usable point")]:
        answer = go(FREE, Writer(skeleton=skeleton))
        assert answer.text == "A plain answer. It has two sentences."
        assert answer.account.route == "plain"
        assert found in answer.account.notes[-1]
        assert [call.purpose for call in answer.account.calls] == ["skeleton", "plain answer"]


def test_a_single_point_can_be_forced() -> None:
    answer = run(Sot(gate="force"), Writer(skeleton="1. All"))
    assert answer.text == f"1. All: {text_of('1')}"


def test_a_skeleton_that_fails_is_asked_again_and_else_the_answer_is_plain() -> None:
    again = run(FREE, Writer({"skeleton": once(BUSY, SKELETON)}))
    assert again.text == WHOLE
    plain = run(FREE, Writer({"skeleton": BUSY}))
    assert plain.account.route == "plain"
    assert "busy" in plain.account.notes[-1]


def test_when_nothing_can_be_had_the_error_is_raised() -> None:
    with pytest.raises(BackendError, match="busy"):
        run(FREE, Writer({"skeleton": BUSY, "plain": BUSY}))


class Endless(Slow):
    """Some points never end."""

    endless: tuple[str, ...] = ("2",)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        if purpose(request) not in self.endless:
            async for chunk in super().astream(request):
                yield chunk
            return
        self.running += 1
        try:
            yield Chunk(text="It begins well. It goes ")
            while True:
                await asyncio.sleep(0.005)
        finally:
            self.running -= 1


def by_hand(made: Steps, answer: Callable[[str], tuple[str, bool]]) -> SotAnswer:
    """Carry out a plan without a clock: when nothing is left to be heard the deadline is over."""
    heard: deque[Event] = deque()
    step, reply = next(made), None
    try:
        while True:
            reply = None
            if isinstance(step, Fork):
                text, ends = answer(purpose(step.request))
                heard.append(Event(branch=step.branch, text=text))
                if ends:
                    whole = Completion(text=text, completion_tokens=WORDS(text))
                    heard.append(Event(branch=step.branch, completion=whole))
            elif isinstance(step, Hear):
                reply = heard.popleft() if heard else Event()
            step = made.send(reply)
    except StopIteration as done:
        return told(done.value)


def test_a_point_that_never_ends_is_cut_at_the_deadline() -> None:
    def answer(name: str) -> tuple[str, bool]:
        if name == "2":
            return "It begins well. It goes ", False
        return (SKELETON if name == "skeleton" else text_of(name)), True

    answered = by_hand(steps(FREE, Writer(), asking(), monotonic() + 1000), answer)
    assert states(answered) == ["whole", "cut", "whole", "whole"]
    point = answered.account.points[1]
    assert (point.text, point.reason) == ("It begins well.", "the time was up")
    assert answered.finish_reason == "length"
    assert WHOLE.startswith(answered.text.split("\n\n")[0])


def test_a_skeleton_that_never_ends_leaves_time_for_its_points() -> None:
    def answer(name: str) -> tuple[str, bool]:
        if name == "skeleton":
            return "1. Better memory\n2. Steady mood\n3. Half a li", False
        return text_of(name), True

    answered = by_hand(steps(FREE, Writer(), asking(), monotonic() + 1000), answer)
    assert [point.heading for point in answered.account.points] == ["Better memory", "Steady mood"]
    assert states(answered) == ["whole", "whole"]
    assert "the skeleton broke off" in answered.account.notes[0]


@both
def test_past_the_deadline_there_is_nothing(go: Run) -> None:
    backend = Endless()
    backend.endless = ("skeleton",)
    with pytest.raises(OutOfTime):
        go(FREE, backend, deadline=monotonic() - 1)
    assert backend.running == 0


def test_a_backend_that_does_not_end_is_broken_off() -> None:
    class Babbling(Slow):
        async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
            if purpose(request) != "2":
                async for chunk in super().astream(request):
                    yield chunk
                return
            while True:
                await asyncio.sleep(0)
                yield Chunk(text="It says no end of words. ")

    answer = run(FREE, Babbling())
    assert states(answer) == ["whole", "cut", "whole", "whole"]


# Other ways to take a question apart.


def test_items_that_are_given_need_no_skeleton() -> None:
    question = "Write a tagline for each of the following: tea, coffee, and milk."
    backend = Writer()
    answer = run(Sot(), backend, asking(question))
    assert answer.account.route == "items"
    assert sorted(backend.asked) == ["1", "2", "3"]
    assert answer.text.startswith(f"1. tea: {text_of('1')}\n\n2. coffee:")


def test_points_that_build_on_others_see_their_text() -> None:
    skeleton = "1. Sleep stages\n2. Costs <- 1\n3. Debts\n4. Advice <- 2, 3, 9"
    backend = Slow(skeleton=skeleton, waits={"1": "3"})
    answer = run(Sot(gate="off", graph=True), backend)
    assert states(answer) == ["whole"] * 4
    began = {name: i for i, (what, name) in enumerate(backend.log) if what == "begun"}
    ended = {name: i for i, (what, name) in enumerate(backend.log) if what == "ended"}
    assert began["2"] > ended["1"] and began["4"] > max(ended["2"], ended["3"])
    assert began["3"] < ended["1"]
    fourth = next(one for one in backend.requests if purpose(one) == "4").prompt.text
    assert text_of("2") in fourth and text_of("3") in fourth and text_of("1") not in fourth
    assert "<-" not in answer.text


def test_a_circle_is_cut_open() -> None:
    skeleton = "1. Sleep stages <- 2\n2. Costs <- 1\n3. Debts <- 3, 2"
    answer = run(Sot(gate="off", graph=True), Writer(skeleton=skeleton))
    assert states(answer) == ["whole"] * 3


# Gates.


@pytest.mark.parametrize(
    ("question", "more", "why"),
    [
        ("Write a Python function that sorts a list.", {}, "code"),
        (QUESTION, {"max_tokens": 40}, "40 tokens"),
        (QUESTION, {"logprobs": True}, "probabilities"),
    ],
)
def test_a_shut_gate_tells_why(question: str, more: dict[str, Any], why: str) -> None:
    backend = Writer()
    answer = run(Sot(), backend, asking(question, **more))
    assert backend.asked == ["plain"]
    assert why in answer.account.notes[0]
    assert answer.account.more == 0


def engine(at_eight: float) -> Profile:
    """Ten milliseconds for a token, and so many seconds for one in each of eight branches."""
    return Profile(
        endpoint="http://127.0.0.1:1/v1", model="m", steps={1: 0.01, 8: at_eight}, prefill=1e-5
    )


def test_an_engine_that_gains_nothing_answers_plainly() -> None:
    assert run(Sot(profile=engine(0.02)), Writer()).account.route == "skeleton"
    answer = run(Sot(profile=engine(0.09)), Writer())
    assert answer.account.route == "plain"
    assert "side by side" in answer.account.notes[0]


def test_the_profile_that_is_kept_of_a_backend_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    backend = Writer()
    backend.base_url, backend.model = "http://127.0.0.1:1/v1", "m"  # type: ignore[attr-defined]
    assert run(Sot(), backend).account.route == "skeleton"
    engine(0.09).save()
    assert run(Sot(), backend).account.route == "plain"


def test_the_model_is_asked_where_the_router_is_unsure() -> None:
    from tersely.sot.router import Router

    unsure = Router(unsure=0, sure=1, meaning=False)
    question = "Tell me about the town of Ghent and its people."
    backend = Writer({"plain": lambda one: "A" if "one letter" in one.prompt.text else "Plain."})
    answer = run(Sot(router=unsure, ask=True), backend, asking(question))
    assert answer.account.route == "skeleton"
    assert answer.account.calls[0].purpose == "router"


def test_every_call_is_in_the_account() -> None:
    backend = Writer()
    answer = run(FREE, backend)
    account = answer.account
    assert account.calls[0].purpose == "skeleton"
    assert len(account.calls) == len(backend.requests) == 5
    framing = 2 * len(backend.requests)
    assert account.prompt == framing + sum(WORDS(one.prompt.text) for one in backend.requests)
    assert account.completion == WORDS(SKELETON) + sum(WORDS(text_of(str(i))) for i in range(1, 5))
    assert account.wasted == 0
    assert (answer.prompt_tokens, answer.completion_tokens) == (account.prompt, account.completion)
    assert account.plain == WORDS(QUESTION) + 2 + WORDS(answer.text)


def test_a_template_names_what_is_filled_in() -> None:
    with pytest.raises(ValueError, match=r"nobody fills in \['nummer'\]"):
        Templates(point="Write {nummer}")
    own = Templates(heading="{number}) {point} -", point="You write point {number} and no other.")
    answer = run(Sot(gate="off", templates=own), Writer())
    assert answer.text.startswith("1) Better memory - Words on")


def test_a_request_that_asks_nothing() -> None:
    with pytest.raises(ConfigError, match="asks nothing"):
        run(FREE, Writer(), asking(" "))


@pytest.mark.parametrize(
    ("words", "told"), [(5, "one short"), (60, "two or three"), (100, "four or five"), (300, "300")]
)
def test_the_length_is_told_in_sentences(words: int, told: str) -> None:
    backend = Writer()
    run(Sot(gate="off", words=words), backend, asking(max_tokens=6000))
    assert f"Explain it in {told}" in backend.requests[-1].prompt.text.replace("about ", "")
