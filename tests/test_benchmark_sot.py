"""The arithmetic by which the benchmark of points side by side judges what it measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # it belongs to no package

from benchmarks.sot_judge import asked, outcome, verdict
from benchmarks.sot_limits import Job, Reading, crossing, fewest, piped, unread, whole
from benchmarks.sot_quality import runs_on, said_again
from benchmarks.sot_skeletons import FORM, asking, taken, usable
from benchmarks.sot_time import UNEVEN, Turn, shuffled
from benchmarks.sot_time_report import breaking_even, curve
from tersely.backends.scripted import ScriptedBackend
from tersely.sot.profile import Profile

JOB = Job(points=6, tokens=80, skeleton=36)
NOTHING = Reading(plain=0, sot=0)
GOOD = "1. Better memory every day\n2. Stronger immune defence\n3. Steady mood"


def engine(steps: dict[int, float], **more: float) -> Profile:
    return Profile(endpoint="here", model="small", steps=steps, **{"prefill": 0.0, **more})


@pytest.mark.parametrize(("slope", "gain"), [(0.0, 480 / 116), (0.15, 480 / (36 + 80 * 1.75))])
def test_limit_is_that_of_decoding_alone_where_reading_costs_nothing(
    slope: float, gain: float
) -> None:
    measured = engine({1: 1.0, 6: 1 + 5 * slope})
    assert whole(measured, JOB, NOTHING).gain == pytest.approx(gain)
    assert measured.ceiling(6, 80, 36) == pytest.approx(gain)


def test_limit_counts_what_must_be_read_once() -> None:
    roads = whole(engine({1: 1.0, 6: 1.0}, prefill=0.5), JOB, Reading(plain=20, sot=100))
    assert (roads.plain, roads.sot) == (490.0, 166.0)


def test_piped_points_share_the_steps_of_the_skeleton() -> None:
    """On a flat engine all is over when the last point is: its line ends with the skeleton."""
    flat, dear = engine({1: 1.0, 8: 1.0}), engine({1: 1.0, 8: 8.0})
    assert piped(flat, JOB, NOTHING).sot == 36 + 80
    assert piped(dear, JOB, NOTHING).sot == pytest.approx(36 + 480)
    middle = engine({1: 1.0, 8: 2.0})
    assert piped(middle, JOB, NOTHING).sot < whole(middle, JOB, NOTHING).sot


def test_piped_points_of_one_line_begin_behind_it() -> None:
    job = Job(points=1, tokens=5, skeleton=3)
    assert piped(engine({1: 2.0, 2: 2.0}), job, NOTHING).sot == 2.0 * (3 + 5)


def test_uneven_points_have_as_many_tokens_together() -> None:
    job = Job(points=3, tokens=80, skeleton=9, parts=(0.5, 1.0, 1.5))
    assert job.lengths == [40, 80, 120]
    assert JOB.lengths == [80] * 6
    assert shuffled(job, 1).lengths != shuffled(job, 2).lengths
    assert sum(shuffled(UNEVEN, 3).lengths) == UNEVEN.total


def test_piping_wins_where_the_last_point_is_not_the_longest() -> None:
    """Else both ways take as many steps: the last point waits for the end of the skeleton."""
    flat = engine({1: 1.0, 8: 1.0})
    long_first = Job(points=3, tokens=80, skeleton=9, parts=(1.5, 1.0, 0.5))
    long_last = Job(points=3, tokens=80, skeleton=9, parts=(0.5, 1.0, 1.5))
    assert (piped(flat, long_first, NOTHING).sot, whole(flat, long_first, NOTHING).sot) == (
        123,
        129,
    )
    assert piped(flat, long_last, NOTHING).sot == whole(flat, long_last, NOTHING).sot == 129


def test_fewest_is_the_first_size_that_pays() -> None:
    flat = engine({1: 1.0, 64: 1.0})
    assert fewest(flat, JOB, NOTHING, points=True) == 2  # 160 against 36 + 80
    assert fewest(flat, JOB, NOTHING, points=False) == 8  # 6 n against 36 + n
    assert fewest(engine({1: 1.0, 64: 64.0}), JOB, NOTHING, points=True) is None


def test_crossing_lies_on_lines_through_what_was_measured() -> None:
    assert crossing([3, 6, 10], [-1.0, 2.0, 3.0]) == 4.0
    assert crossing([10, 3, 6], [3.0, 1.0, 2.0]) == 0.0
    assert crossing([20, 80], [-2.0, -1.0]) == 140.0
    assert crossing([20, 80], [-1.0, -2.0]) is None
    assert crossing([20], [1.0]) is None


def test_unread_is_what_no_text_before_begins_with() -> None:
    assert unread(["abcd", "abef", "abeg", "x"]) == 4 + 2 + 1 + 1
    assert unread([]) == 0


def test_curve_is_what_lies_between_two_lengths() -> None:
    steps = {"1, 4": 1.0, "1, 36": 4.2, "8, 4": 2.0, "8, 36": 8.4}
    reading = {"20": 1.0, "100": 3.0}
    turns = [
        turn("steps", steps, {"tokens": 32.0}),
        turn("reading", reading, {"20": 200.0, "100": 1000.0}),
    ]
    found = curve("here", turns)
    assert dict(found.steps) == pytest.approx({1: 0.1, 8: 0.2})
    assert found.prefill == pytest.approx(0.0025)


def test_break_even_is_told_as_predicted_and_as_seen() -> None:
    facts = {f"read, {way}": 0.0 for way in ("plain", "whole", "piped")}
    jobs = {"3x80": (240.0, 250.0, 230.0), "6x80": (480.0, 120.0, 110.0), "6x20": (120, 130, 90)}
    turns = [
        turn(name, dict(zip(("one answer", "whole", "piped"), costs, strict=True)), facts)
        for name, costs in jobs.items()
    ]
    points, tokens = breaking_even(turns, engine({1: 1.0, 64: 1.0}), None)
    assert (points["by the steps"], tokens["by the steps"]) == (2, 8)
    assert points["by the gate's probe"] == "not probed"
    assert points["seen, whole"] == pytest.approx(3 + 3 * 10 / 370)
    assert tokens["seen, whole"] == pytest.approx(20 + 60 * 10 / 370)
    assert 0 < points["seen, piped"] < 3


def turn(what: str, costs: dict[str, float], facts: dict[str, float]) -> Turn:
    told = {way: (float(cost), float(cost)) for way, cost in costs.items()}
    return Turn("here", what, 0, "CPU s", told, facts)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("A", "first"),
        (" B.", "second"),
        ("T", "tie"),
        ("**B**\nbecause it is shorter", "second"),
        ("Answer A is more complete.", "first"),
        ("Answer: A", "first"),
        ("I would print answer B", "second"),
        ("A good answer would say more", ""),
        ("It's a tie", "tie"),
        ("Both are equal", "tie"),
        ("Answer A and answer B", ""),
        ("Table salt", ""),
        ("", ""),
    ],
)
def test_verdicts_are_read_from_what_judges_say(said: str, meant: str) -> None:
    assert verdict(said) == meant


def test_an_answer_wins_only_in_both_orders() -> None:
    assert outcome("first", "second") == "win"
    assert outcome("second", "first") == "loss"
    assert outcome("first", "first") == outcome("tie", "second") == "tie"
    assert outcome("", "second") == "unread"


def test_judge_sees_both_answers_and_is_held_to_a_letter_where_it_can_be() -> None:
    able = ScriptedBackend(["A"], capabilities=frozenset({"grammar"}))
    request = asked("Why {one}?", "It {other} is.", "So.", able)
    assert "A reader asked:\nWhy" in request.prompt.text
    assert request.prompt.text.index("It {other} is.") < request.prompt.text.index("So.")
    assert request.grammar
    assert not asked("Why?", "It is.", "So.", ScriptedBackend(["A"])).grammar


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (GOOD, ""),
        ("Here it is:\n" + GOOD, "not numbered"),
        (GOOD.replace("2.", "3."), "not numbered"),
        ("1. One thing\n2. Another thing", "too few points"),
        ("\n".join(f"{i}. Point number {'abcdefghijk'[i - 1]}" for i in range(1, 12)), "too many"),
        (GOOD + "\n4. " + "word " * 11, "long points"),
        (GOOD + "\n4. Steady mood", "said twice"),
        (GOOD + "\n4. Write the list", "copied from the prompt"),
    ],
)
def test_skeletons_are_usable_by_definition(text: str, wrong: str) -> None:
    found = usable(text, "please write the list and nothing else.", stopped=True)
    assert found.startswith(wrong) and bool(found) == bool(wrong)


def test_a_skeleton_that_does_not_stop_is_not_usable() -> None:
    assert usable(GOOD, "", stopped=False) == "did not stop"


def test_what_the_plan_does_with_a_skeleton_is_found_out_by_the_plan() -> None:
    assert taken("What helps sleep?", GOOD, "").account.route == "skeleton"
    assert taken("What helps sleep?", GOOD[2:], "1.").account.route == "skeleton"
    refused = taken("What helps sleep?", "I can't tell.", "")
    assert refused.account.route == "plain"
    assert "no usable point" in refused.account.notes[-1]


@pytest.mark.model
def test_grammar_of_skeletons_makes_usable_forms(smollm2: None) -> None:
    from tersely.backends.local import LocalBackend
    from tersely.contracts import Request

    prompt = asking("What helps sleep?").prompt
    asked_for = Request(prompt=prompt, max_tokens=100, grammar=FORM, repetition_penalty=1.15)
    (made,) = LocalBackend().complete([asked_for])
    assert usable(made.text, "", stopped=True) in ("", "said twice", "long points")


def test_counted_measures_tell_repetition_and_run_on() -> None:
    again = "Sleep keeps the memory well. Food feeds the body daily. Sleep keeps the memory well."
    assert said_again(again) == pytest.approx(1 / 3)
    assert said_again("Yes.") == 0.0
    assert runs_on("It helps.\n3. Another point: more.", 2)
    assert runs_on("It helps:\n1. Here.", 2)
    assert not runs_on("It helps by 3.5 times.", 2)
