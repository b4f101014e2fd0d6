"""Several models: each point goes to one by how hard it is, and to another where that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from backend_contract import BackendContract
from engine_double import playing
from hypothesis import given
from hypothesis import strategies as st
from little_sot import Run, Slow, Writer, arun, asking, purpose, run, text_of

from tersely import registry
from tersely.backends.http import HttpBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.backends.several import Several
from tersely.contracts import Backend, Capability, Request
from tersely.errors import BackendError, ConfigError, UnknownName
from tersely.sot.difficulty import difficulty, next_model, picked
from tersely.sot.grammar import grammar
from tersely.sot.plan_sot import Sot
from tersely.sot.skeleton import Point, parsed

both = pytest.mark.parametrize("go", [run, arun])

MIXED = Sot(gate="off", models=("small", "large"))
SKELETON = "1. Better memory\n2. Compare sleep and rest\n3. Steady mood [hard]\n4. Healthy heart"


def pair(small: Any = None, large: Any = None) -> tuple[Slow, Slow, Several]:
    one, other = Slow(small, skeleton=SKELETON), Slow(large, skeleton=SKELETON)
    return one, other, Several({"small": one, "large": other})


@both
def test_hard_points_go_to_the_stronger_model(go: Run) -> None:
    small, large, several = pair()
    answer = go(MIXED, several)
    assert [point.state for point in answer.account.points] == ["whole"] * 4
    assert sorted(small.asked) == ["1", "4"]
    assert sorted(large.asked) == ["2", "3", "skeleton"]
    assert "[hard]" not in answer.text and text_of("3") in answer.text
    assert answer.account.notes == (
        "point 2 goes to the model 'large': it asks for thought",
        "point 3 goes to the model 'large': its line says that it is hard",
    )
    asked = {call.purpose: call.model for call in answer.account.calls}
    assert (asked["skeleton"], asked["point 1"], asked["point 2"]) == ("large", "small", "large")
    assert all(request.model == "" for request in [*small.requests, *large.requests])


def test_the_skeleton_is_asked_for_its_hard_points() -> None:
    can: tuple[Capability, ...] = ("grammar",)
    writers = [Writer(capabilities=can, skeleton=SKELETON) for _ in range(2)]
    run(MIXED, Several(dict(zip(("small", "large"), writers, strict=True))))
    (asked,) = [one for one in writers[1].requests if purpose(one) == "skeleton"]
    assert "[hard]" in asked.prompt.text
    assert asked.grammar == grammar(10, hard=True)


@both
def test_where_a_model_fails_the_other_is_asked(go: Run) -> None:
    busy = BackendError("busy", retryable=True)
    small, large, several = pair({"1": busy})
    answer = go(MIXED, several)
    assert answer.account.points[0].text == text_of("1")
    assert (small.asked.count("1"), large.asked.count("1")) == (1, 1)
    small, large, several = pair(large={"2": busy})
    assert go(MIXED, several).account.points[1].text == text_of("2")
    assert (small.asked.count("2"), large.asked.count("2")) == (1, 1)


def test_a_plain_answer_is_the_strongest_ones() -> None:
    small, large, several = pair()
    question = "Write a Python function that sorts a list."
    answer = run(Sot(models=("small", "large")), several, asking(question))
    assert (answer.account.route, small.asked, large.asked) == ("plain", [], ["plain"])
    own = run(Sot(models=("small", "large")), several, asking(question, model="small"))
    assert (own.account.calls[0].model, small.asked) == ("small", ["plain"])


def test_models_are_known_before_anything_is_asked() -> None:
    alone = Writer()
    with pytest.raises(ConfigError, match="the backend is one model"):
        run(MIXED, alone)
    with pytest.raises(UnknownName, match=r"no model named 'larg'; nearest: large"):
        run(Sot(gate="off", models=("small", "larg")), pair()[2])
    assert alone.asked == []


@pytest.mark.parametrize(
    ("line", "reasons"),
    [
        ("1. Better memory", []),
        ("1. Better memory [hard]", ["its line says that it is hard"]),
        ("1. Why it fails", ["it asks for thought"]),
        ("1. Trade-offs of both", ["it asks for thought"]),
        ("1. Food\n   - a\n   - b\n   - c", ["it is 3 things in one"]),
        ("1. a b c d e f g h i", ["its line has 9 words"]),
    ],
)
def test_what_makes_a_point_hard(line: str, reasons: list[str]) -> None:
    assert difficulty(parsed(line)[0]) == reasons


def test_a_point_that_brings_others_together_is_hard() -> None:
    point = Point(number=3, text="Costs", needs=(1, 2))
    assert picked(point, ("small", "large")) == ("large", "it builds on 2 others")


POINTS = st.builds(
    Point,
    number=st.integers(1, 9),
    text=st.sampled_from(["Food", "Why so", "Compare a b c d e f g h i"]),
    needs=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    hard=st.booleans(),
)
NAMES = st.lists(st.sampled_from("abcdef"), unique=True, max_size=4)


@given(POINTS, NAMES)
def test_each_reason_is_a_step_up(point: Point, names: list[str]) -> None:
    model, why = picked(point, names)
    if not names:
        assert (model, why, next_model(model, names)) == ("", "", "")
        return
    steps = len(names) - 1 if point.hard else len(difficulty(point))
    assert model == names[min(steps, len(names) - 1)]
    assert (why == "") == (not difficulty(point))
    assert (next_model(model, names) == model) == (len(names) == 1)


# One backend of several.


def saying(text: str, *more: Capability) -> ScriptedBackend:
    return ScriptedBackend(
        lambda one: f"{text}: {one.prompt.text}",
        capabilities=frozenset({"parallel", "stream", *more}),
    )


def both_models() -> Several:
    models: dict[str, Backend] = {"a": saying("A", "grammar", "mixes"), "b": saying("B", "mixes")}
    return Several(models)


class TestSeveral(BackendContract):
    @pytest.fixture
    def answers(self) -> Iterator[Backend]:
        with playing("vllm") as server:
            engine = HttpBackend(base_url=server.url, model="m", engine="vllm", pause=0)
            yield Several({"a": engine, "b": engine})


def test_answers_come_in_the_order_of_the_requests() -> None:
    several = both_models()
    asked: list[Request] = [asking(str(i), model=name) for i, name in enumerate(("b", "", "a"))]
    want = ["B: 0", "A: 1", "A: 2"]
    assert [one.text for one in several.complete(asked)] == want
    assert [one.text for one in asyncio.run(several.acomplete(asked))] == want
    for request, text in zip(asked, want, strict=True):
        assert "".join(chunk.text for chunk in several.stream(request)) == text
    for name in ("a", "b"):
        model = several.models[name]
        assert isinstance(model, ScriptedBackend)
        assert all(one.model == "" for one in model.requests)


def test_it_can_do_what_all_of_them_can() -> None:
    several = both_models()
    assert several.capabilities == {"parallel", "stream", "models"}
    assert several.parallel is None
    several.models["b"].parallel = 3  # type: ignore[attr-defined]
    several.models["a"].batch_size = 16  # type: ignore[attr-defined]
    assert several.parallel == 3


def test_models_are_told_apart_by_name() -> None:
    with pytest.raises(ConfigError, match="told apart"):
        Several({})
    with pytest.raises(UnknownName, match="no model named 'c'"):
        both_models().complete([asking("x", model="c")])
    assert isinstance(registry.backend("several", models={"a": saying("A")}), Several)


def test_one_model_refuses_to_be_another(tiny_llama: Any) -> None:
    from tersely.backends.local import LocalBackend

    for backend in (saying("A"), LocalBackend(model=str(tiny_llama))):
        with pytest.raises(ConfigError, match="model"):
            backend.complete([asking("x", model="b")])
