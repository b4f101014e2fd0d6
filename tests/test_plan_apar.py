"""Points forked off a plain answer that turns into a list, where its headings end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_library import WORDS
from little_sot import QUESTION, Run, arun, ashown, asking, run, shown

from tersely import registry
from tersely.account import SotAnswer
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import BackendError, OutOfTime
from tersely.prompt import messages_of
from tersely.sot.headings import first_heading, may_open, next_headings, sayable
from tersely.sot.plan_apar import HINT, Apar
from tersely.sot.profile import Profile

both = pytest.mark.parametrize("go", [run, arun])
both_streams = pytest.mark.parametrize("show", [shown, ashown])

FREE = Apar(gate="off")
INTRO = "Sleep helps in many ways. Here they are:\n\n"
NAMES = ("Memory", "Mood", "Heart", "Weight")
WHOLE = INTRO + "\n\n".join(
    f"{i}. **{name}**: It is good for {name}. So people say." for i, name in enumerate(NAMES, 1)
)


def shown_of(request: Request) -> str:
    """What the model is to go on with."""
    last = messages_of(request.prompt)[-1]
    return last["content"] if last["role"] == "assistant" else ""


def purpose(request: Request) -> str:
    """`answer`, `headings`, the number of a point, or `more`."""
    text = shown_of(request)
    if not text:
        return "answer"
    if re.search(r"(?:^|\n)\W{0,4}\d+[.)]$", text):
        return "headings"
    number = re.search(r"(?:^|\n)\W{0,4}(\d+)[.)][^\n]*?:?(?:\*\*)?:?$", text)
    return number[1] if number and any(stop.startswith("\n") for stop in request.stop) else "more"


class Lister(ScriptedBackend):
    """Writes a list with bold headings; `given` says what is otherwise said to a purpose."""

    def __init__(self, given: Any = None, *, can: tuple[Capability, ...] = ("prefill",)) -> None:
        answers = {
            "answer": WHOLE,
            "headings": "".join(
                f"{'' if i == 2 else f'{chr(10)}{i}.'} **{name}**:"
                for i, name in enumerate(NAMES, 1)
                if i > 1
            )
            + "\n\nThat is all.",
            **(given or {}),
        }

        def answer(request: Request) -> Any:
            name = purpose(request)
            self.asked.append(name)
            usual = (
                f" It is good for {NAMES[int(name) - 1]}. So people say." if name.isdigit() else ""
            )
            found = answers.get(name, usual)
            return found(request) if callable(found) else found

        super().__init__(answer, capabilities=frozenset({"parallel", "stream", *can}))
        self.asked: list[str] = []


@both
def test_each_item_of_the_list_is_a_branch(go: Run) -> None:
    backend = Lister()
    answer = go(FREE, backend)
    assert answer.text == WHOLE
    assert answer.account.route == "list" and answer.finish_reason == "stop"
    assert [(one.heading, one.state) for one in answer.account.points] == [
        (name, "whole") for name in NAMES
    ]
    assert sorted(backend.asked) == ["1", "2", "3", "4", "answer", "headings"]
    assert answer.account.notes == ()


def test_it_is_known_by_name() -> None:
    assert registry.plan("apar", points=4) == Apar(points=4)


@both_streams
def test_it_is_told_in_order_as_it_comes(show: Callable[..., list[Chunk]]) -> None:
    *pieces, last = show(FREE, Lister())
    assert last.completion is not None
    assert "".join(piece.text for piece in pieces) == last.completion.text == WHOLE
    assert pieces[0].text == "Sleep " and len(pieces) > 8


def test_a_branch_goes_on_from_its_heading() -> None:
    backend = Lister()
    run(FREE, backend)
    asked = {purpose(one): one for one in backend.requests}
    assert shown_of(asked["headings"]) == f"{INTRO}1. **Memory**:\n2."
    assert shown_of(asked["1"]) == f"{INTRO}1. **Memory**:"
    assert shown_of(asked["3"]) == f"{INTRO}3. **Heart**:"
    assert asked["3"].stop == ("\n4.", "\n**4.")
    users = [messages_of(one.prompt)[0]["content"] for one in backend.requests]
    assert all(QUESTION in user and HINT in user for user in users)
    bare = Lister()
    run(Apar(gate="off", hint=""), bare)
    assert HINT not in bare.requests[0].prompt.text


def test_branches_begin_while_headings_are_written() -> None:
    log: list[str] = []

    class Slow(Lister):
        async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
            name = purpose(request)
            log.append(f"begun {name}")
            async for chunk in super().astream(request):
                await asyncio.sleep(0)
                if name == "headings" and "Weight" in chunk.text:
                    while "ended 1" not in log:
                        await asyncio.sleep(0)
                yield chunk
            log.append(f"ended {name}")

    assert arun(FREE, Slow()).text == WHOLE
    assert log.index("begun 2") < log.index("begun 4")
    assert log.index("ended 1") < log.index("begun 4")


def test_a_model_that_runs_into_details_is_made_to_go_on() -> None:
    def one_heading(request: Request) -> str:
        number = int(shown_of(request).split("\n")[-1].rstrip("."))
        if number > len(NAMES):
            return " and nothing else"
        return f" **{NAMES[number - 1]}**: It is good and so on."

    backend = Lister({"headings": one_heading})
    answer = run(FREE, backend)
    assert answer.text == WHOLE
    assert backend.asked.count("headings") == 4
    assert sum(call.wasted for call in answer.account.calls if call.purpose == "headings") > 0


def test_a_heading_that_is_said_again_ends_the_list() -> None:
    answer = run(FREE, Lister({"headings": " **Mood**:\n3. **The mood**:\n4. **Heart**:"}))
    assert [one.heading for one in answer.account.points] == ["Memory", "Mood"]
    assert answer.account.notes == (
        "heading 3 (The mood) ended the list: it says the same as point 2 (by its words)",
    )


def test_no_more_points_than_wanted() -> None:
    backend = Lister()
    answer = run(Apar(gate="off", points=2), backend)
    assert [one.heading for one in answer.account.points] == ["Memory", "Mood"]
    assert sorted(backend.asked) == ["1", "2", "answer", "headings"]


# Without a list.


@both_streams
def test_without_a_list_the_answer_is_plain(show: Callable[..., list[Chunk]]) -> None:
    text = "Sleep is good.\n1. It mends you.\n2. It cheers you up.\n\nAnd at 10:30 it ends."
    backend = Lister({"answer": text})
    *pieces, last = show(FREE, backend)
    answer = last.completion
    assert isinstance(answer, SotAnswer)
    assert "".join(piece.text for piece in pieces) == answer.text == text
    assert (answer.account.route, backend.asked) == ("plain", ["answer"])
    assert answer.account.notes == ("no list with headings came: nothing was forked",)
    assert answer.account.wasted == 0


def test_a_list_of_one_item_is_gone_on_with() -> None:
    backend = Lister({"headings": " it is", "more": "\n\nThat is all there is."})
    answer = run(FREE, backend)
    assert answer.text == f"{WHOLE.split(chr(10) * 2 + '2.')[0]}\n\nThat is all there is."
    assert answer.account.route == "plain"
    assert answer.account.notes == ("the list had one item: it was gone on with",)


def test_too_few_tokens_for_a_list() -> None:
    backend = Lister({"more": " It mends you."})
    answer = run(FREE, backend, asking(max_tokens=200))
    assert answer.text == f"{INTRO}1. **Memory**: It mends you."
    assert "nothing was forked" in answer.account.notes[0]


@pytest.mark.parametrize(
    ("plan", "can", "more", "why"),
    [
        (Apar(), (), {}, "does not go on with an answer"),
        (Apar(), ("prefill",), {"stop": ("END",)}, "the answer is to stop at 'END'"),
        (FREE, ("prefill", "grammar"), {"grammar": 'root ::= "a"'}, "the form of the answer"),
    ],
)
def test_a_shut_gate_tells_why(plan: Apar, can: Any, more: Any, why: str) -> None:
    backend = Lister(can=can)
    answer = run(plan, backend, asking(**more))
    assert backend.asked == ["answer"] and HINT not in backend.requests[0].prompt.text
    assert why in answer.account.notes[0] and answer.text == WHOLE


def test_an_engine_that_gains_nothing_answers_plainly() -> None:
    slow = Profile(endpoint="here", model="m", steps={1: 0.01, 8: 0.09}, prefill=1e-5)
    answer = run(Apar(profile=slow), Lister())
    assert answer.account.route == "plain" and "side by side" in answer.account.notes[0]


# What fails.

BUSY = BackendError("busy", retryable=True)


@both
def test_a_point_that_is_lost_is_told_of(go: Run) -> None:
    answer = go(FREE, Lister({"2": BUSY}))
    assert [one.state for one in answer.account.points] == ["whole", "lost", "whole", "whole"]
    assert "point 2 is lost: BackendError: busy" in answer.account.notes
    assert "Heart" in answer.text and "2." not in answer.text


def test_headings_that_break_off_leave_those_that_came() -> None:
    answer = run(FREE, Lister({"headings": BUSY, "more": " And so on."}))
    assert answer.account.notes[0] == "the headings broke off (BackendError: busy)"
    assert answer.text.endswith("So people say. And so on.")


def test_when_no_point_can_be_had_the_answer_goes_on() -> None:
    lost = dict.fromkeys("1234", BUSY)
    answer = run(FREE, Lister({**lost, "more": "It is good for all."}))
    assert answer.text == INTRO + "It is good for all."
    assert "not one point could be written: it was gone on with" in answer.account.notes


@both
def test_when_nothing_can_be_had_the_error_is_raised(go: Run) -> None:
    with pytest.raises(BackendError, match="busy"):
        go(FREE, Lister({"answer": BUSY}))
    with pytest.raises(OutOfTime):
        go(FREE, Lister(), deadline=monotonic() - 1)


def test_a_point_that_runs_on_is_cut() -> None:
    answer = run(FREE, Lister({"2": " It cheers you up.\n3. **Heart**: It mends it."}))
    assert answer.account.points[1].text == "It cheers you up."


def test_a_list_below_a_heading_begins_on_its_own_line() -> None:
    answer = run(FREE, Lister({"2": "\n- It cheers you up.\n- It calms you."}))
    assert "2. **Mood**:\n- It cheers you up.\n- It calms you.\n\n3." in answer.text


def test_every_call_is_in_the_account() -> None:
    backend = Lister()
    account = run(FREE, backend).account
    assert len(account.calls) == len(backend.requests)
    assert account.prompt == sum(
        WORDS(one.prompt.text) + 2 * one.prompt.turns for one in backend.requests
    )


WAYS = st.sampled_from(["well", "busy", "broken", "empty", "long", "odd", "on and on"])


def by_way(way: str, text: str) -> Any:
    if way in ("busy", "broken"):
        return BackendError(f"it is {way}", retryable=way == "busy")
    said = {"empty": "", "long": text[: len(text) // 2], "on and on": f"{text}\n9. **More**: x"}
    ends: dict[str, Any] = {"long": "length", "odd": "other"}
    return Completion(text=said.get(way, text), finish_reason=ends.get(way, "stop"))


@given(st.dictionaries(st.sampled_from(["answer", "headings", "more", *"1234"]), WAYS))
def test_whatever_fails_is_told_of(ways: dict[str, str]) -> None:
    usual = Lister()

    def answer(request: Request) -> Any:
        name = purpose(request)
        (made,) = usual.complete([request])
        return by_way(ways.get(name, "well"), made.text)

    backend = ScriptedBackend(answer, capabilities=usual.capabilities)
    try:
        *pieces, last = shown(FREE, backend)
    except BackendError:
        assert ways["answer"] in ("busy", "broken")
        return
    told = last.completion
    assert isinstance(told, SotAnswer)
    assert "".join(piece.text for piece in pieces) == told.text
    assert len(told.account.calls) == len(backend.requests)
    for point in told.account.points:
        if point.state == "whole":
            assert point.text and point.text in told.text
        else:
            assert f"point {point.number} is {point.state}: {point.reason}" in told.account.notes
    if told.account.route == "plain":
        assert told.account.notes and not told.account.points


# Headings.


@pytest.mark.parametrize(
    ("text", "raw", "alone"),
    [
        ("Intro\n\n1. Food: It", "1. Food:", False),
        ("1) Food: It", "1) Food:", False),
        ("1. **Food**: It", "1. **Food**:", False),
        ("1. **Food:** It", "1. **Food:**", False),
        ("1. **Food** - It", "1. **Food**", False),
        ("1. **Food**\n   It", "1. **Food**", True),
        ("**1. Food**\nIt", "**1. Food**", True),
        ("### 1. Food\n\nIt", "### 1. Food", True),
        ("1. __Food__: It", "1. __Food__:", False),
    ],
)
def test_headings_of_all_looks(text: str, raw: str, alone: bool) -> None:
    found = first_heading(text)
    assert found is not None
    assert (found.raw, found.alone, found.text) == (raw, alone, "Food")
    assert text[found.start : found.end] == raw
    following = found.following()
    assert next_headings(text[found.start :].replace("1", "2", 1), 2)[0][0].raw.startswith(
        following
    )


@pytest.mark.parametrize(
    "text",
    [
        *("1. Food", "1. Food:", "1. **Food", "1. **Food**", "2. Food: It", "In 1. Food: it"),
        *("1. See https://x.y", "1. At 10:30 it", "1. It is so.\n2. Or so.", "1. Food\nIt"),
    ],
)
def test_what_is_no_closed_heading(text: str) -> None:
    assert first_heading(text) is None


def test_a_line_that_may_become_a_heading_is_held_back() -> None:
    assert sayable("Intro:\n\n1. **Fo") == "Intro:"
    assert sayable("Intro:\n\n1") == "Intro:"
    assert sayable("Intro:\n\nFo") == "Intro:\n\nFo"
    assert may_open("", 3) and may_open("3. Fo", 3) and not may_open("Fo", 3)


SCRAPS = st.lists(
    st.sampled_from(
        ["1. ", "**", "Food", ": ", ":", "\n", "\n\n", "2. ", "### ", " It is. ", "1) ", "__", "- "]
    ),
    max_size=14,
).map("".join)


@given(SCRAPS, st.integers(0, 40))
def test_what_was_shown_stays_ahead_of_the_list(text: str, at: int) -> None:
    early = text[:at]
    if first_heading(early) is None:
        found = first_heading(text)
        assert text[: found.start if found else len(text)].startswith(sayable(early))


@given(SCRAPS, st.integers(0, 40))
def test_a_heading_that_is_closed_stays(text: str, at: int) -> None:
    early, late = next_headings(text[:at], 1)[0], next_headings(text, 1)[0]
    assert [one.raw for one in late][: len(early)] == [one.raw for one in early]


@pytest.mark.model
def test_a_real_model_forks_its_list(smollm2: Path) -> None:
    from tersely.backends.local import LocalBackend

    backend = LocalBackend(model=str(smollm2))
    asked = asking("How can I improve my time management skills?", max_tokens=260)
    answer = run(Apar(gate="off", points=3, heading_tokens=48), backend, asked)
    points = answer.account.points
    assert answer.account.route == "list" and len(points) == 3
    assert all(point.text in answer.text for point in points)
    assert {call.purpose for call in answer.account.calls} >= {"answer", "headings", "point 1"}
