"""One engine for all: requests enter and leave between tokens, and say what they say alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_watch import forget, forwards, generated
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.backends import engine as engines
from tersely.backends.batch import Batch, filled
from tersely.backends.decode import Answer
from tersely.backends.engine import Engine, engine
from tersely.backends.local import LocalBackend
from tersely.contracts import Chunk, Request
from tersely.errors import BackendError
from tersely.prompt import Prompt, Segment
from tersely.weights import CausalLM, causal_lm

BEGIN = "The quick brown fox jumps over the lazy dog, 12 times a day. " * 2
TEXTS = [BEGIN + end for end in ("The", "Ein schöner Tag in Zürich", "12 times", "東京", "a day.")]


def ask(text: str, **wishes: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **{"max_tokens": 20, **wishes})


@pytest.fixture(autouse=True)
def fresh(lm: CausalLM) -> Iterator[None]:
    """No test finds what another one left in memory."""
    yield
    forget(lm)


async def read(stream: AsyncIterator[Chunk]) -> str:
    return "".join([chunk.text async for chunk in stream])


# --- what is said ----------------------------------------------------------------------------


async def test_every_branch_says_what_generate_says(backend: LocalBackend, lm: CausalLM) -> None:
    requests = [ask(text, max_tokens=5 + 9 * i) for i, text in enumerate(TEXTS)]
    whole = asyncio.create_task(backend.acomplete(requests))
    texts = await asyncio.gather(*(read(backend.astream(request)) for request in requests))
    done = await whole
    for request, text, one in zip(requests, texts, done, strict=True):
        expected = generated(lm, backend.encode(request), request.max_tokens)
        assert text == one.text == expected


plans = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(range(len(TEXTS))), st.integers(1, 12)),
    min_size=1,
    max_size=7,
)


@given(plan=plans, drop=st.integers(0, 20), kept=st.sampled_from([0, 50, 5000]))
@settings(max_examples=25)
def test_whoever_comes_and_goes_an_answer_is_the_same(
    backend: LocalBackend, lm: CausalLM, plan: list[tuple[int, int, int]], drop: int, kept: int
) -> None:
    def answer(which: int, tokens: int) -> Answer:
        cut = TEXTS[which][which * 20 :] if which % 2 else TEXTS[which]
        request = ask(cut, max_tokens=tokens, temperature=which * 0.5, seed=which)
        return backend._answers([request], lm)[0]

    entries = [(when, answer(which, tokens)) for when, which, tokens in plan]
    batch = Batch(lm)
    for moment in range(24):
        if entering := [one for when, one in entries if when == moment]:
            batch.enter(entering)
            batch.rows.forget(kept)
        if moment == drop and batch.answers:
            batch.answers[0].dropped = True
            batch.leave()
        if batch.answers:
            batch.step()
    assert batch.answers == []
    for (_, made), (_, which, tokens) in zip(entries, plan, strict=True):
        alone = Batch(lm)
        alone.enter([expected := answer(which, tokens)])
        while alone.answers:
            alone.step()
        assert made.made == expected.made[: len(made.made) if made.dropped else None]
        assert made.finish == (expected.finish if made.finish else None)


@given(staying=st.sets(st.integers(0, 9)))
def test_gaps_are_filled_from_the_end(staying: set[int]) -> None:
    order = filled(sorted(staying), len(staying))
    assert sorted(order) == sorted(staying)
    assert all(row == place or row >= len(staying) for place, row in enumerate(order))


@pytest.mark.model
def test_branches_of_the_embedded_model_say_what_generate_says(smollm2: Path) -> None:
    backend = LocalBackend(precision="float32")
    lm = causal_lm("smollm2", precision="float32")
    head = "You help with short answers. " * 6
    requests = [ask(head + f"Name {n} colours.", max_tokens=8) for n in ("two", "three", "five")]
    expected = [generated(lm, backend.encode(request), 8) for request in requests]
    assert [done.text for done in backend.complete(requests)] == expected
    with ThreadPoolExecutor(3) as pool:
        streamed = pool.map(lambda one: "".join(c.text for c in backend.stream(one)), requests)
        assert [*streamed] == expected


# --- together --------------------------------------------------------------------------------


class Gate:
    """Holds the engine at its n-th forward pass until it is opened."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, count: int) -> None:
        if count == self.at:
            self.reached.set()
            assert self.open.wait(30)


def test_what_comes_meanwhile_joins_in(backend: LocalBackend, lm: CausalLM) -> None:
    alone = [backend.complete([ask(text, max_tokens=12)])[0].text for text in ("The", "Ein")]
    gate = Gate(at=3)
    with forwards(lm, gate) as shapes, ThreadPoolExecutor(2) as pool:
        first = pool.submit(backend.complete, [ask("The", max_tokens=12)])
        assert gate.reached.wait(30)
        second = pool.submit(
            lambda: "".join(c.text for c in backend.stream(ask("Ein", max_tokens=12)))
        )
        while not engine(lm)._waiting:
            pass
        gate.open.set()
        assert [first.result()[0].text, second.result()] == alone
    rows = [rows for rows, _ in shapes]
    assert rows[:5] == [1, 1, 1, 1, 2], "two are made together from then on"
    assert rows.count(2) > 5


async def test_streams_of_one_moment_share_one_batch(backend: LocalBackend, lm: CausalLM) -> None:
    prompts = [backend.encode(ask(text)) for text in TEXTS]
    with forwards(lm) as shapes:
        await asyncio.gather(*(read(backend.astream(ask(text, max_tokens=30))) for text in TEXTS))
    assert max(rows for rows, _ in shapes) == len(TEXTS)
    read_in = sum(rows * length for rows, length in shapes if length > 1)
    assert read_in < 0.5 * sum(map(len, prompts)), "what they begin with is read once"


def test_a_place_that_is_free_is_taken_at_once(tiny_llama: Path, lm: CausalLM) -> None:
    pairs = LocalBackend(model=str(tiny_llama), precision="float32", batch_size=2)
    requests = [ask(text, max_tokens=n) for text, n in (("a", 2), ("b", 9), ("c", 3), ("d", 3))]
    expected = [pairs.complete([request])[0] for request in requests]
    with forwards(lm) as shapes:
        assert pairs.complete(requests) == expected
    assert max(rows for rows, _ in shapes) == 2
    steps = [rows for rows, length in shapes if length == 1]
    assert len(steps) == 8, "no more than the longest alone"


def test_one_that_is_read_late_does_not_keep_others_waiting(tiny_llama: Path, lm: CausalLM) -> None:
    tight = LocalBackend(model=str(tiny_llama), precision="float32", kv_tokens=60)
    request, other = ask("The quick", max_tokens=40), ask("Ein", max_tokens=40)
    expected = "".join(chunk.text for chunk in tight.stream(request))
    stream = tight.stream(request)
    text = next(stream).text
    assert tight.complete([other]) == tight.complete([other])
    assert text + "".join(chunk.text for chunk in stream) == expected


def test_no_token_is_made_ahead(backend: LocalBackend, lm: CausalLM) -> None:
    with forwards(lm) as shapes:
        for stream in [backend.stream(ask(text, max_tokens=30)) for text in ("a", "b", "c")]:
            next(stream)
            made = len(shapes)
            stream.close()  # type: ignore[attr-defined]
            assert len(shapes) == made


# --- what is remembered ----------------------------------------------------------------------


def test_a_prompt_that_was_read_is_not_read_again(backend: LocalBackend, lm: CausalLM) -> None:
    request = ask(TEXTS[0], max_tokens=4)
    (first,) = backend.complete([request])
    with forwards(lm) as shapes:
        assert backend.complete([request]) == [first]
        assert backend.complete([request] * 3) == [first] * 3
    assert [length for _, length in shapes] == [1] * len(shapes)


def test_a_conversation_is_gone_on_with(backend: LocalBackend, lm: CausalLM) -> None:
    text = BEGIN + "12"
    (first,) = backend.complete([ask(text, raw=True, max_tokens=12)])
    longer = ask(text + first.text + " Zürich", raw=True, max_tokens=12)
    with forwards(lm) as shapes:
        (second,) = backend.complete([longer])
    assert shapes[0][1] < len(backend.encode(ask(text, raw=True))) / 4
    assert second.text == generated(lm, backend.encode(longer), 12)


def test_nothing_is_remembered_unasked(tiny_llama: Path, lm: CausalLM) -> None:
    bare = LocalBackend(model=str(tiny_llama), precision="float32", prefix_tokens=0)
    request = ask(TEXTS[0], max_tokens=4)
    bare.complete([request])
    with forwards(lm) as shapes:
        bare.complete([request])
    assert shapes[0] == (1, len(bare.encode(request)))


# --- limits and failures ---------------------------------------------------------------------


def test_memory_bounds_what_is_made_at_once(tiny_llama: Path, lm: CausalLM) -> None:
    requests = [ask(text, max_tokens=10) for text in "abcdefg"]
    size = len(LocalBackend(model=str(tiny_llama)).encode(requests[0])) + 10
    tight = LocalBackend(model=str(tiny_llama), precision="float32", kv_tokens=3 * size + 2)
    with forwards(lm) as shapes:
        done = tight.complete(requests)
    assert len(done) == 7
    assert max(rows for rows, _ in shapes) == 3


def test_what_no_memory_holds_is_refused(tiny_llama: Path, lm: CausalLM) -> None:
    tight = LocalBackend(model=str(tiny_llama), precision="float32", kv_tokens=20)
    with forwards(lm) as shapes, pytest.raises(BackendError, match="more than the 20 tokens"):
        tight.complete([ask("a", max_tokens=5), ask("b", max_tokens=50)])
    assert shapes == []


def test_a_failure_in_reading_leaves_the_others_alone(backend: LocalBackend, lm: CausalLM) -> None:
    (expected,) = backend.complete([ask("The", max_tokens=30)])

    def fail(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        if given["input_ids"].shape[1] > 20:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    stream = backend.stream(ask("The", max_tokens=30))
    text = next(stream).text
    hook = lm.model.register_forward_pre_hook(fail, with_kwargs=True)
    try:
        with pytest.raises(BackendError, match="2 GiB; lower kv_tokens") as caught:
            backend.complete([ask(TEXTS[0]), ask("a")])
        assert caught.value.retryable
        assert text + "".join(chunk.text for chunk in stream) == expected.text
    finally:
        hook.remove()
    assert backend.complete([ask("The", max_tokens=30)]) == [expected]


def test_all_who_wait_hear_of_a_failure(backend: LocalBackend, lm: CausalLM) -> None:
    def fail(count: int) -> None:
        gate(count)
        if count > 3:
            raise ValueError("a weight is broken")

    gate = Gate(at=2)
    with forwards(lm, fail), ThreadPoolExecutor(2) as pool:
        first = pool.submit(backend.complete, [ask("The")])
        assert gate.reached.wait(30)
        second = pool.submit(backend.complete, [ask("Ein"), ask("a")])
        while not engine(lm)._waiting:
            pass
        gate.open.set()
        for failed in (first, second):
            with pytest.raises(ValueError, match="a weight is broken"):
                failed.result()
    assert backend.complete([ask("The", max_tokens=3)])[0].completion_tokens > 0


async def test_a_cancelled_request_leaves_and_others_stay(
    backend: LocalBackend, lm: CausalLM
) -> None:
    (expected,) = await backend.acomplete([ask("The", max_tokens=40)])
    gate = Gate(at=6)
    with forwards(lm, gate) as shapes:
        keeps = asyncio.create_task(backend.acomplete([ask("The", max_tokens=40)]))
        leaves = asyncio.create_task(read(backend.astream(ask("Ein", max_tokens=100))))
        await asyncio.to_thread(gate.reached.wait, 30)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        gate.open.set()
        assert await keeps == [expected]
    assert all(rows == 1 for rows, _ in shapes[6:])


# --- the thread ------------------------------------------------------------------------------


def test_a_thread_that_ends_for_want_of_work_fails_nobody(
    backend: LocalBackend, lm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle, notes = Engine(Batch(lm)), []
    monkeypatch.setattr(idle, "_has_work", lambda: False)
    idle._tickets.append(backend._ticket([ask("late")], notes.append))  # for the next thread
    idle._run()
    assert notes == []


def test_the_thread_ends_when_idle_and_starts_again(
    backend: LocalBackend, lm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE", 0.01)
    for _ in range(2):
        assert backend.complete([ask("a", max_tokens=2)])
        worker = engine(lm)._worker
        if worker is not None:
            worker.join(30)
        assert engine(lm)._worker is None


def test_a_stopped_engine_tells_so(backend: LocalBackend, lm: CausalLM) -> None:
    stream = backend.stream(ask("The", max_tokens=30))
    next(stream)
    engine(lm).stop()
    with pytest.raises(BackendError, match="was stopped"):
        list(stream)
    with pytest.raises(BackendError, match="was stopped"):
        backend.complete([ask("a")])
    assert isinstance(engines._engines.pop(lm), Engine)


def run(code: str, model: str) -> str:
    begin = f"""
import os
from tersely.backends.local import LocalBackend
from tersely.contracts import Request
from tersely.prompt import Prompt, Segment
backend = LocalBackend(model={model!r}, precision="float32")
request = Request(prompt=Prompt((Segment(text="The"),)), max_tokens=200)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", begin + code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_leaving_in_the_midst_of_a_stream_and_forking(tiny_llama: Path) -> None:
    code = """
stream = backend.stream(request)
next(stream)
if os.fork() == 0:
    print(len(backend.complete([request])), flush=True)
    os._exit(0)
os.wait()
print("".join(chunk.text for chunk in stream) != "", flush=True)
left = backend.stream(request)
next(left)
"""
    assert run(code, str(tiny_llama)).split() == ["1", "True"]


# --- other models ----------------------------------------------------------------------------


def test_a_model_with_a_window_is_answered_in_turns(tiny_windowed: Path, lm: CausalLM) -> None:
    windowed = LocalBackend(model=str(tiny_windowed), precision="float32")
    requests = [ask(text, max_tokens=6 + i) for i, text in enumerate(TEXTS)]
    expected = [windowed.complete([request])[0] for request in requests]
    assert windowed.complete(requests) == expected
    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(lambda one: windowed.complete([one])[0], requests)] == expected


def test_int8_is_close(tiny_llama: Path, backend: LocalBackend, lm: CausalLM) -> None:
    import torch

    rounded = LocalBackend(model=str(tiny_llama), precision="int8")
    request = ask(TEXTS[0], max_tokens=3, logprobs=True)
    (done,), (exact,) = rounded.complete([request]), backend.complete([replace(request)])
    assert done.logprobs[0] == pytest.approx(exact.logprobs[0], abs=0.5)
    small = causal_lm(rounded.model, precision="int8")
    assert not isinstance(small.model.lm_head, torch.nn.Linear)
    assert isinstance(lm.model.lm_head, torch.nn.Linear), "the exact model stays as it was"
    assert small.dtype == torch.float32
