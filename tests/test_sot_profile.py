"""The second gate: it takes the plain way on engines where points side by side don't pay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_engine import VirtualEngine, llama_cpp, llama_cpp_python, on_virtual_time, vllm

from tersely.backends.local import LocalBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.errors import BackendError, ModelError
from tersely.sot.probing import ameasured, aprobed, measured, probed
from tersely.sot.profile import Profile, place, stored

JOB = (6, 80, 36, 155, 121)
"""Points, tokens of one, of the skeleton, of a point's prompt, and of what prompts share."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TERSELY_HOME", str(tmp_path))
    return tmp_path


def profile_of(engine: VirtualEngine) -> Profile:
    return on_virtual_time(lambda clock: aprobed(engine, clock=clock))


def test_points_side_by_side_pay_on_an_engine_that_batches() -> None:
    found = profile_of(vllm())
    assert found.fault == ""
    assert found.shared > 0.8
    assert found.step(1) == pytest.approx(0.0275, rel=0.05)
    assert found.step(8) == pytest.approx(0.0415, rel=0.15)
    assert found.prefill == pytest.approx(0.001, rel=0.1)
    assert found.pays(*JOB)
    assert 2.5 < found.predicted(*JOB).gain < 4.5


@pytest.mark.parametrize("form", ["Q4_1", "Q4_0"])
def test_they_do_not_where_a_step_of_eight_costs_as_much_as_many_of_one(form: str) -> None:
    found = profile_of(llama_cpp(form))
    assert found.fault == ""
    assert found.shared < 0.1
    assert not found.pays(*JOB)
    assert found.predicted(*JOB).gain < 1.0


def test_never_where_streams_cut_one_another_off() -> None:
    found = profile_of(llama_cpp_python())
    assert "broke off" in found.fault
    assert not found.pays(*JOB, least=0.0)
    assert "broke off" in found.reason(*JOB)


def test_nor_where_calls_wait_for_one_another() -> None:
    found = profile_of(llama_cpp_python("waits"))
    assert found.step(8) > 6 * found.step(1)
    assert not found.pays(*JOB)


def test_the_measurement_is_short() -> None:
    for engine in (vllm(), llama_cpp(), llama_cpp("Q4_0")):

        async def lasting(clock: Callable[[], float], engine: VirtualEngine = engine) -> float:
            before = clock()
            await aprobed(engine, clock=clock)
            return clock() - before

        assert on_virtual_time(lasting) < 3.5
        assert engine.asked < 25


def test_short_points_and_few_of_them_do_not_pay_anywhere() -> None:
    found = profile_of(vllm())
    assert not found.pays(2, 10, 36, 155, 121)
    assert not found.pays(1, 500, 36, 155, 121)


def test_a_silent_engine_is_not_waited_for() -> None:
    stuck = VirtualEngine(steps={1: 1e6, 8: 1e6}, prefill=0.0)
    with pytest.raises(BackendError, match="more than 30 s"):
        profile_of(stuck)


def test_an_engine_that_answers_nothing_raises_what_it_said() -> None:
    broken = ScriptedBackend(lambda request: BackendError("no such model"))
    with pytest.raises(BackendError, match="no such model"):
        probed(broken)


def test_an_answer_that_comes_at_once_is_measured_too() -> None:
    ticks = iter(range(10_000))
    backend = ScriptedBackend(lambda request: "one")
    found = probed(backend, clock=lambda: next(ticks) / 1000)
    assert found.endpoint == "ScriptedBackend"
    assert set(found.steps) == {1, 4, 8}


def test_a_profile_is_kept_for_its_endpoint_and_model() -> None:
    engine = vllm()
    first = on_virtual_time(lambda clock: ameasured(engine, clock=clock))
    asked = engine.asked
    again = on_virtual_time(lambda clock: ameasured(engine, clock=clock))
    assert (again, engine.asked) == (first, asked)
    assert measured(engine) == first == stored(engine.base_url, "small")
    assert stored(engine.base_url, "large") is None
    renewed = VirtualEngine(steps={1: 0.1, 8: 0.2}, prefill=0.01)
    fresh = on_virtual_time(lambda clock: ameasured(renewed, again=True, clock=clock))
    assert fresh != first
    assert stored(engine.base_url, "small") == fresh


def test_a_damaged_profile_is_told() -> None:
    path = place("here", "small")
    path.parent.mkdir(parents=True)
    path.write_text('{"endpoint": "here", "model": "small", "steps": {"4": 1}, "prefill": 0}')
    with pytest.raises(ModelError, match="remove it"):
        stored("here", "small")


@pytest.mark.parametrize("steps", [{}, {4: 0.1}, {0: 0.1, 1: 0.1}, {1: 0.0}])
def test_a_profile_must_tell_of_one_branch(steps: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="1 branch"):
        Profile(endpoint="", model="", steps=steps, prefill=0)


def test_the_prediction_is_the_sum_of_its_parts() -> None:
    found = Profile(
        endpoint="", model="", steps={1: 1.0, 4: 1.5, 8: 2.5}, prefill=0.1, fixed=3, shared=0.5
    )
    assert [found.step(n) for n in (1, 4, 6, 8, 12)] == [1.0, 1.5, 2.0, 2.5, 3.5]
    roads = found.predicted(6, 10, 20, 30, 20)
    assert roads.plain == pytest.approx(3 + 60)
    assert roads.sot == pytest.approx(6 + 2 + 20 + 0.1 * (180 - 0.5 * 5 * 20) + 10 * 2.0)
    assert found.ceiling(6, 10, 20) == pytest.approx(60 / 40)


def test_with_one_branch_measured_nothing_is_promised_of_more() -> None:
    found = Profile(endpoint="", model="", steps={1: 1.0}, prefill=0)
    assert found.step(6) == 6.0
    assert not found.pays(*JOB)


@given(
    points=st.integers(2, 64),
    tokens=st.floats(1, 500),
    shared=st.floats(0, 1),
    flat=st.floats(1, 8),
)
def test_sharing_never_slows_and_the_ceiling_holds(
    points: int, tokens: float, shared: float, flat: float
) -> None:
    def made(share: float) -> Profile:
        return Profile(endpoint="", model="", steps={1: 1.0, 8: flat}, prefill=0.01, shared=share)

    job = (points, tokens, 30.0, 150.0, 120.0)
    assert made(shared).predicted(*job).sot <= made(0.0).predicted(*job).sot + 1e-9
    assert made(shared).predicted(*job).gain <= made(1.0).ceiling(points, tokens, 30.0) + 1e-9


@pytest.mark.model
def test_the_embedded_model_is_measured(smollm2: Path) -> None:
    found = probed(LocalBackend(model=str(smollm2)), seconds=0.1, limit=900.0)
    assert found.fault == ""
    assert set(found.steps) == {1, 4, 8}
    assert found.prefill < found.step(1), "a token is read faster than it is made"
    assert "side by side" in found.reason(*JOB)
