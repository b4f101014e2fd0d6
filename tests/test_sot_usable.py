"""Skeletons that are of no use: what is left out of them, and when the answer is plain instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_sot import (
    LINES,
    QUESTION,
    SKELETON,
    Run,
    Slow,
    Writer,
    arun,
    asking,
    purpose,
    run,
    text_of,
)

from tersely.contracts import Completion
from tersely.errors import ConfigError
from tersely.retrieval import Vectors
from tersely.sot.plan_sot import Sot
from tersely.sot.skeleton import IDLE, Skeleton
from tersely.sot.templates import CHAT
from tersely.sot.usable import Sieve, verdict

both = pytest.mark.parametrize("go", [run, arun])
launches = pytest.mark.parametrize("launch", ["piped", "whole"])

LOOP = "1. Better memory\n" + "\n".join(f"{i}. The better memory" for i in range(2, 9))
COPIED = "1. Different writers answer the question\n2. First its points are listed\n3. Steady mood"
TALK = "It is well known that sleep is good for you because the body mends itself when it rests"
ESSAY = f"1. {TALK} in the night\n2. {TALK.replace('sleep', 'rest')} by day\n3. Mood"


def read(text: str, **settings: Any) -> Skeleton:
    skeleton = Skeleton(10, Sieve(**settings))
    skeleton.end(text)
    return skeleton


@both
@launches
@pytest.mark.parametrize(
    ("skeleton", "why"),
    [
        (LOOP, "lines say the same as others"),
        (COPIED, "2 of its 3 lines are copied from the prompt"),
        (ESSAY, "2 of its 3 lines are longer than 16 words"),
    ],
)
def test_a_skeleton_of_no_use_makes_the_answer_plain(
    go: Run, launch: Any, skeleton: str, why: str
) -> None:
    backend = Writer(skeleton=skeleton)
    answer = go(Sot(gate="off", launch=launch), backend)
    assert answer.account.route == "plain" and answer.account.points == ()
    assert why in answer.account.notes[-1]
    assert backend.asked == ["skeleton", "plain"]


@both
def test_a_skeleton_without_an_end_is_of_no_use(go: Run) -> None:
    text = SKELETON + "\n5. Half a"
    cut = Completion(text=text, completion_tokens=9, finish_reason="length")
    answer = go(Sot(gate="off", launch="whole"), Writer({"skeleton": cut}))
    assert answer.account.route == "plain"
    assert answer.account.notes[-1] == "the skeleton did not end within its tokens"


def test_points_that_were_begun_stand() -> None:
    cut = Completion(text=SKELETON + "\n5. Half a", completion_tokens=9, finish_reason="length")
    answer = arun(Sot(gate="off"), Slow({"skeleton": cut}))
    headings = [point.heading for point in answer.account.points]
    assert headings == list(LINES)  # and half a line is none
    assert "the skeleton did not end within its tokens: its whole lines are the points" in (
        answer.account.notes
    )
    again = f"{SKELETON}\n" + "\n".join(f"{i}. Steady mood" for i in range(5, 12))
    stood = arun(Sot(gate="off"), Slow(skeleton=again))
    assert [point.heading for point in stood.account.points] == list(LINES)


def test_points_that_were_begun_stand_though_most_lines_are_of_no_use() -> None:
    lines = ["Better memory", "Steady mood", *["The steady mood"] * 3]
    skeleton = "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))
    backend = Slow(skeleton=skeleton)
    answer = arun(Sot(gate="off"), backend)
    assert answer.account.route == "skeleton"
    notes = answer.account.notes
    assert any("stand, though of the skeleton 3 of its 5 lines say the same" in n for n in notes)
    whole = arun(Sot(gate="off", launch="whole"), Slow(skeleton=skeleton))
    assert whole.account.route == "plain"


def test_a_model_that_says_nothing_new_is_stopped() -> None:
    backend = Slow(skeleton="1. Sleep stages\n2. Moods\n" + "3. Moods\n" * 40)
    answer = arun(Sot(gate="off"), backend)
    written = next(call for call in answer.account.calls if call.purpose == "skeleton")
    assert written.completion < 3 * (IDLE + 6)
    assert [point.heading for point in answer.account.points] == ["Sleep stages", "Moods"]


@both
def test_what_is_said_twice_is_left_out_with_the_reason(go: Run) -> None:
    skeleton = "1. Better memory\n2. Steady mood\n3. A memory, better\n4. Healthy heart"
    answer = go(Sot(gate="off"), Writer(skeleton=skeleton))
    assert [point.number for point in answer.account.points] == [1, 2, 4]
    assert "\n\n4. Healthy heart" in answer.text
    (note,) = answer.account.notes
    assert note == (
        "line 3 of the skeleton was left out, 'A memory, better': it says the same as point 1"
        " (by its words)"
    )


def test_points_can_be_counted_anew() -> None:
    skeleton = "1. Better memory\n2. Memory, better\n3. Steady mood\n4. Healthy heart"
    answer = run(Sot(gate="off", renumbered=True), Writer(skeleton=skeleton))
    assert [part[:2] for part in answer.text.split("\n\n")] == ["1.", "2.", "3."]
    assert "point 4 is number 3 in the answer" in answer.account.notes
    assert text_of("4") in answer.text
    question = "Write a tagline for each of the following: tea, coffee, and milk."
    items = run(Sot(renumbered=True), Writer(), asking(question))
    assert items.text.startswith("1. tea:") and not items.account.notes


def test_who_builds_on_a_line_that_is_left_out_builds_on_the_first() -> None:
    skeleton = "1. Sleep stages\n2. The stages of sleep\n3. Costs <- 2"
    backend = Writer(skeleton=skeleton)
    run(Sot(gate="off", graph=True), backend)
    third = next(one for one in backend.requests if purpose(one) == "3").prompt.text
    assert text_of("1") in third


@pytest.mark.parametrize(
    ("merge", "left"),
    [(1.0, []), (0.7, [2]), (0.2, [2, 3])],
)
def test_how_much_alike_two_lines_may_be(merge: float, left: list[int]) -> None:
    text = "1. Lower blood pressure at night\n2. Lower blood pressure, night\n3. Blood sugar"
    skeleton = read(text.replace("pressure, night", "pressure each night"), merge=merge)
    assert [*skeleton.left_out] == left


class Meanings:
    """Vectors by what is looked up; `asked` are all texts that were read."""

    key, width = "little", 2

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.error = error

    def documents(self, texts: Sequence[str], /) -> Vectors:
        if self.error:
            raise self.error
        self.asked += texts
        near = {"Better memory": 0.0, "You recall more": 0.3}
        angles = np.array([near.get(text, 1.5) for text in texts], np.float32)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    queries = documents


def test_lines_that_mean_the_same_are_merged_where_an_embedder_is_at_hand() -> None:
    skeleton = "1. Better memory\n2. You recall more\n3. Steady mood"
    meanings = Meanings()
    answer = run(Sot(gate="off", embedder=meanings), Writer(skeleton=skeleton))
    assert [point.number for point in answer.account.points] == [1, 3]
    assert "point 1 (0.96 by its meaning)" in answer.account.notes[0]
    assert sorted(meanings.asked) == ["Better memory", "Steady mood", "You recall more"]
    without = run(Sot(gate="off"), Writer(skeleton=skeleton))
    assert len(without.account.points) == 3
    strict = run(Sot(gate="off", embedder=Meanings(), merge=0.99), Writer(skeleton=skeleton))
    assert len(strict.account.points) == 3


def test_an_embedder_that_fails_leaves_words_to_go_by() -> None:
    broken = Meanings(OSError("gone"))
    answer = run(Sot(gate="off", embedder=broken), Writer())
    assert len(answer.account.points) == 4
    assert answer.account.notes == (
        "points were compared by their words alone: the embedder failed (OSError: gone)",
    )


def test_what_is_no_embedder_is_refused() -> None:
    with pytest.raises(ConfigError, match="an embedder is one"):
        run(Sot(gate="off", embedder=3), Writer())
    with pytest.raises(ConfigError, match="no embedder named 'bets'"):
        run(Sot(gate="off", embedder="bets"), Writer())


@pytest.mark.model
def test_real_vectors_tell_what_means_the_same() -> None:
    from tersely.registry import embedder

    sieve = Sieve(merge=0.8, embedder=embedder("sentence_transformers", model="minilm"))
    lines = (
        "Reducing costs",
        "Better sleep quality",
        "Cost reduction",
        "Improved quality of sleep",
    )
    text = "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))
    skeleton = Skeleton(10, sieve)
    skeleton.end(text)
    assert [point.number for point in skeleton.points] == [1, 2]
    assert sieve.failed == ""


@pytest.mark.parametrize(
    ("line", "whose"),
    [
        ("First its points are listed", "the instruction"),
        ("What are the benefits of sleep", "the question"),
        ("The benefits of sleep", ""),
        ("Better memory", ""),
    ],
)
def test_what_is_copied(line: str, whose: str) -> None:
    skeleton = read(f"1. {line}\n2. Mood", own=CHAT.instruction, asked=QUESTION)
    found = skeleton.left_out.get(1, "")
    assert found == (f"{line!r}: it is copied from {whose}" if whose else "")


WORDS = st.sampled_from(["sleep", "mood", "the", "heart", "Better", "costs", "of", "東京", "é"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=5).map(" ".join), max_size=9)


@given(TEXTS, st.floats(0.1, 1))
def test_no_two_points_are_as_much_alike_as_is_merged(texts: list[str], merge: float) -> None:
    text = "\n".join(f"{i}. {line}" for i, line in enumerate(texts, 1))
    skeleton = read(text, merge=merge)
    points = skeleton.points
    for i, point in enumerate(points):
        assert Sieve(merge=merge).fault(point.text, points[:i]) == ("", 0)
    closed = len(points) + len(skeleton.left_out)
    assert closed == len(texts) or skeleton.full
    assert (verdict(skeleton) == "") == (2 * len(points) >= closed)
