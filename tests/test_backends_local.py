"""The local engine says what transformers says, in batches, streams and threads."""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_watch import forwards
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.backends.batch import Batch
from tersely.backends.decode import Answer, sample
from tersely.backends.local import LocalBackend
from tersely.contracts import Request
from tersely.errors import BackendError, ConfigError, ContextLengthError
from tersely.prompt import Prompt, Segment
from tersely.weights import CausalLM, causal_lm

TEXTS = ["The quick", "Ein schöner Tag in Zürich: die", "東京の", "12", "over the lazy dog " * 5]


def ask(text: str, **wishes: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **{"max_tokens": 20, **wishes})


def generated(lm: CausalLM, prompt: list[int], tokens: int) -> list[int]:
    """What transformers' own generate makes of a prompt, greedily."""
    import torch

    ids = torch.tensor([prompt])
    made = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
    )
    answer: list[int] = made[0, len(prompt) :].tolist()
    return answer


# --- greedy ----------------------------------------------------------------------------------


def test_a_batch_of_any_lengths_says_what_generate_says(
    backend: LocalBackend, lm: CausalLM
) -> None:
    requests = [ask(text, max_tokens=5 + 7 * i) for i, text in enumerate(TEXTS)]
    for request, done in zip(requests, backend.complete(requests), strict=True):
        prompt = backend.encode(request)
        expected = generated(lm, prompt, request.max_tokens)
        assert done.prompt_tokens == len(prompt)
        assert done.text == lm.tokenizer.decode(expected, skip_special_tokens=True).rstrip("�")
        ended = expected[-1] == lm.tokenizer.eos_token_id
        assert done.completion_tokens == len(expected) - ended
        assert done.finish_reason == ("stop" if ended else "length")


def test_padding_does_not_move_the_positions_of_a_model_that_counts_them(
    tiny_llama: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.save_pretrained(tmp_path)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=256,
        initializer_range=0.5,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    torch.manual_seed(7)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    backend = LocalBackend(model=str(tmp_path), precision="float32")
    requests = [ask(text) for text in TEXTS]
    together = backend.complete(requests)
    assert together == [backend.complete([request])[0] for request in requests]
    assert any(done.completion_tokens > 5 for done in together)


def test_the_models_own_end_is_not_part_of_the_answer(
    backend: LocalBackend, lm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask("The quick")
    expected = generated(lm, backend.encode(request), 20)
    monkeypatch.setattr(lm.model.generation_config, "eos_token_id", [expected[3]])
    (done,) = backend.complete([request])
    assert done.finish_reason == "stop"
    assert done.completion_tokens == expected.index(expected[3]) <= 3


def test_finished_rows_leave_the_batch(backend: LocalBackend, lm: CausalLM) -> None:
    with forwards(lm) as shapes:
        backend.complete([ask("a", max_tokens=2), ask("b", max_tokens=5), ask("c", max_tokens=3)])
    assert [rows for rows, _ in shapes] == [3, 3, 2, 1, 1]
    assert [length for _, length in shapes[1:]] == [1] * 4


def test_the_prompt_is_read_once_and_scored_at_its_end_only(
    backend: LocalBackend, lm: CausalLM
) -> None:
    scored: list[int] = []
    hook = lm.model.lm_head.register_forward_pre_hook(
        lambda _module, args: scored.append(args[0].shape[1])
    )
    try:
        backend.complete([ask("over the lazy dog " * 5, max_tokens=3)])
    finally:
        hook.remove()
    assert scored == [1, 1, 1]


def test_long_prompts_are_not_padded_together(tiny_llama: Path, lm: CausalLM) -> None:
    narrow = LocalBackend(model=str(tiny_llama), precision="float32", batch_tokens=30)
    requests = [ask("a b c d e f " * 3, max_tokens=1), ask("a", max_tokens=1), ask("b")]
    with forwards(lm) as shapes:
        narrow.complete([replace(request, max_tokens=1) for request in requests])
    assert [rows for rows, _ in shapes] == [2, 1]
    pairs = LocalBackend(model=str(tiny_llama), precision="float32", batch_size=2)
    with forwards(lm) as shapes:
        pairs.complete([ask(str(i), max_tokens=1) for i in range(5)])
    assert [rows for rows, _ in shapes] == [2, 2, 1]


def test_nothing_asked_nothing_done(backend: LocalBackend) -> None:
    assert backend.complete([]) == []


# --- logprobs --------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_logprobs_are_those_of_a_pass_over_the_whole_text(
    backend: LocalBackend, lm: CausalLM, temperature: float
) -> None:
    import torch

    request = ask("The quick", temperature=temperature, seed=1, logprobs=True)
    done, without = backend.complete([request, ask("over the lazy dog")])
    assert without.logprobs == ()
    answer = Answer.to(request, backend.encode(request), lm.tokenizer)
    batch = Batch(lm)
    batch.enter([answer])
    while batch.answers:
        batch.step()
    assert len(answer.made) == done.completion_tokens > 3
    with torch.inference_mode():
        scores = lm.model(torch.tensor([[*answer.prompt, *answer.made]])).logits[0].log_softmax(-1)
    at = len(answer.prompt) - 1
    expected = [float(scores[at + i, token]) for i, token in enumerate(answer.made)]
    assert done.logprobs == pytest.approx(expected, abs=1e-4)


# --- sampling --------------------------------------------------------------------------------


def test_a_seed_fixes_the_answer_whoever_is_in_the_batch(backend: LocalBackend) -> None:
    request = ask("The quick", temperature=1.0, top_p=0.9, seed=5)
    (alone,) = backend.complete([request])
    others = [ask(text, temperature=1.5, seed=i) for i, text in enumerate(TEXTS)]
    assert backend.complete([*others, request])[-1] == alone
    assert backend.complete([request, *others[:2]])[0] == alone
    assert backend.complete([replace(request, seed=6)])[0].text != alone.text


def test_without_a_seed_answers_differ(backend: LocalBackend) -> None:
    done = backend.complete([ask("The", temperature=1.0) for _ in range(4)])
    assert len({one.text for one in done}) > 1


chances = st.lists(st.integers(1, 50), min_size=1, max_size=12)


@given(weights=chances, top_p=st.floats(0.01, 1.0), roll=st.floats(0, 1, exclude_max=True))
@settings(max_examples=200)
def test_a_draw_comes_from_the_smallest_set_that_has_top_p(
    weights: list[int], top_p: float, roll: float
) -> None:
    import torch

    logits = torch.tensor(weights, dtype=torch.float32).log()
    request = ask("x", temperature=1.0, top_p=top_p)
    token = int(sample(logits, request, roll))
    likelier = sum(weight for weight in weights if weight > weights[token]) / sum(weights)
    assert likelier < top_p + 1e-5


@given(weights=chances, seed=st.integers(0, 100))
@settings(max_examples=50)
def test_draws_are_spread_as_the_probabilities(weights: list[int], seed: int) -> None:
    import torch

    logits = torch.tensor(weights, dtype=torch.float32).log()
    request = ask("x", temperature=1.0)
    rolls = [(i + seed / 101) / 200 for i in range(200)]
    drawn = [int(sample(logits, request, roll)) for roll in rolls]
    for token, weight in enumerate(weights):
        assert drawn.count(token) / 200 == pytest.approx(weight / sum(weights), abs=0.011)


def test_a_vanishing_temperature_is_greedy() -> None:
    import torch

    logits = torch.tensor([1.0, 3.0, 2.0])
    for temperature in (1e-30, 1e-6):
        assert int(sample(logits, ask("x", temperature=temperature), 0.999)) == 1


# --- stop strings, streams -------------------------------------------------------------------


def test_a_stop_string_ends_the_answer(backend: LocalBackend, lm: CausalLM) -> None:
    (whole,) = backend.complete([ask("The quick", max_tokens=30)])
    stop = whole.text[8:11]
    with forwards(lm) as shapes:
        (done,) = backend.complete([ask("The quick", max_tokens=30, stop=("nowhere", stop))])
    assert done.text == whole.text.partition(stop)[0]
    assert done.finish_reason == "stop"
    assert len(shapes) < 30


def test_what_is_whole_is_said_when_the_answer_ends_within_a_character(
    backend: LocalBackend, lm: CausalLM
) -> None:
    spelled = {token: lm.tokenizer.decode([token]) for token in range(len(lm.tokenizer))}
    token = next(t for t, text in spelled.items() if text[-1:] == "�" and text.strip("�"))
    answer = Answer.to(ask("x", max_tokens=1), backend.encode(ask("x")), lm.tokenizer)
    answer.take(token, 0.0, ends=False)
    assert answer.completion("m").text == spelled[token].rstrip("�")


@pytest.mark.parametrize("stop", [(), ("the", "o"), ("\n",)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_stream_says_what_complete_says(
    backend: LocalBackend, stop: tuple[str, ...], temperature: float
) -> None:
    for seed, text in enumerate(TEXTS):
        request = ask(text, stop=stop, temperature=temperature, seed=seed, logprobs=True)
        *chunks, last = backend.stream(request)
        assert all(chunk.completion is None and chunk.text for chunk in chunks)
        assert last.completion == backend.complete([request])[0]
        assert "".join(chunk.text for chunk in chunks) == last.completion.text


def test_many_threads_may_ask_at_once(backend: LocalBackend) -> None:
    requests = [ask(text, temperature=1.0, seed=3) for text in TEXTS]
    expected = backend.complete(requests)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: backend.complete(requests), range(16)))
    assert all(answer == expected for answer in answers)


async def test_async_says_the_same(backend: LocalBackend) -> None:
    requests = [ask(text) for text in TEXTS]
    assert await backend.acomplete(requests) == backend.complete(requests)
    chunks = [chunk async for chunk in backend.astream(requests[0])]
    assert chunks == list(backend.stream(requests[0]))


def test_a_closed_stream_makes_no_more_tokens(backend: LocalBackend, lm: CausalLM) -> None:
    with forwards(lm) as shapes:
        stream = backend.stream(ask("The quick", max_tokens=100))
        assert shapes == []
        next(stream)
        made = len(shapes)
        stream.close()  # type: ignore[attr-defined]
    assert len(shapes) == made < 100


# --- cancelling ------------------------------------------------------------------------------


class Gate:
    """Holds the engine at its n-th forward pass until it is opened."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self.open = threading.Event()

    def __call__(self, count: int) -> None:
        if count == self.at:
            self.loop.call_soon_threadsafe(self.reached.set)
            assert self.open.wait(30)


async def test_cancelling_acomplete_stops_the_forward_passes(
    backend: LocalBackend, lm: CausalLM
) -> None:
    gate = Gate(at=3)
    with forwards(lm, gate) as shapes:
        task = asyncio.create_task(backend.acomplete([ask("The quick", max_tokens=100)]))
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open.set()
        await asyncio.get_running_loop().shutdown_default_executor()
    assert len(shapes) == 3


async def test_cancelling_astream_stops_the_forward_passes(
    backend: LocalBackend, lm: CausalLM
) -> None:
    (whole,) = backend.complete([ask("The quick", max_tokens=100)])
    held_back = ask("The quick", max_tokens=100, stop=(whole.text + "!",))

    async def read() -> None:
        async for _ in backend.astream(held_back):
            pass

    gate = Gate(at=3)
    with forwards(lm, gate) as shapes:
        task = asyncio.create_task(read())
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open.set()
        await asyncio.get_running_loop().shutdown_default_executor()
    assert len(shapes) == 3


async def test_leaving_astream_early_stops_the_forward_passes(
    backend: LocalBackend, lm: CausalLM
) -> None:
    with forwards(lm) as shapes:
        stream = backend.astream(ask("The quick", max_tokens=100))
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.get_running_loop().shutdown_default_executor()
    assert 0 < len(shapes) < 100


# --- what is asked ---------------------------------------------------------------------------


def test_a_prompt_too_long_is_refused_before_anything_is_computed(
    backend: LocalBackend, lm: CausalLM
) -> None:
    size = len(backend.encode(ask("dog " * 100)))
    with forwards(lm) as shapes, pytest.raises(ContextLengthError) as caught:
        backend.complete([ask("short"), ask("dog " * 100, max_tokens=256 - size + 1)])
    assert shapes == []
    assert not caught.value.retryable
    message = f"{size} prompt tokens and max_tokens={256 - size + 1} exceed the 256 tokens"
    assert message in str(caught.value)
    (done,) = backend.complete([ask("dog " * 100, max_tokens=256 - size)])
    assert done.prompt_tokens + done.completion_tokens <= 256


def test_the_chat_template_is_filled_in(backend: LocalBackend, lm: CausalLM) -> None:
    prompt = Prompt(
        (
            Segment(text="be brief", role="system", turn=0),
            Segment(text="hi", turn=1),
            Segment(text="hello", role="assistant", turn=2),
            Segment(text="bye", turn=3),
        )
    )
    assert lm.tokenizer.decode(backend.encode(Request(prompt=prompt))) == (
        "<|system|>be brief<|end|><|user|>hi<|end|><|assistant|>hello<|end|>"
        "<|user|>bye<|end|><|assistant|>"
    )
    raw = backend.encode(Request(prompt=prompt, raw=True))
    assert lm.tokenizer.decode(raw) == prompt.text


@pytest.mark.parametrize("raw", [True, False])
def test_odd_prompts_are_answered(backend: LocalBackend, raw: bool) -> None:
    odd = ["", " ", "a\ud800b", "\0", "👩‍👩‍👧", "שלום"]
    done = backend.complete([ask(text, raw=raw, max_tokens=3) for text in odd])
    assert all(one.prompt_tokens > 0 and one.completion_tokens <= 3 for one in done)


def test_a_model_without_a_template_reads_the_bare_text(
    backend: LocalBackend, lm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm.tokenizer, "chat_template", None)
    assert lm.tokenizer.decode(backend.encode(ask("hi there"))) == "hi there"


def test_a_template_that_refuses_is_a_clear_error(
    backend: LocalBackend, lm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm.tokenizer, "chat_template", "{{ raise_exception('users only') }}")
    with pytest.raises(BackendError, match="refused: users only"):
        backend.complete([ask("hi")])


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, was 0"),
        ({"temperature": -0.5}, "temperature must not be below 0, was -0.5"),
        ({"temperature": math.nan}, "temperature must not be below 0, was nan"),
        ({"top_p": 0.0}, r"top_p must be above 0 and at most 1, was 0\.0"),
        ({"top_p": 1.5}, r"top_p must be above 0 and at most 1, was 1\.5"),
    ],
)
def test_impossible_wishes_are_refused(
    backend: LocalBackend, wish: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        backend.complete([ask("x", **wish)])


def test_what_torch_raises_is_told_as_ours(backend: LocalBackend, lm: CausalLM) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("out of memory")

    with (
        forwards(lm, fail),
        pytest.raises(BackendError, match="the local model failed: out of memory"),
    ):
        backend.complete([ask("x")])


# --- the embedded model ----------------------------------------------------------------------


@pytest.mark.model
def test_the_embedded_model_answers(smollm2: Path) -> None:
    request = ask("What is the capital of France?", max_tokens=12)
    (done,) = LocalBackend().complete([request])
    assert "Paris" in done.text
    assert (done.finish_reason, done.model) == ("stop", "smollm2")
    *chunks, last = LocalBackend().stream(request)
    assert last.completion == done
    assert "".join(chunk.text for chunk in chunks) == done.text


@pytest.mark.model
def test_the_embedded_model_says_what_generate_says(smollm2: Path) -> None:
    backend, lm = LocalBackend(precision="float32"), causal_lm("smollm2", precision="float32")
    for text in ("Name three colours.", "Write a sentence about the sea."):
        request = ask(text, max_tokens=16)
        expected = generated(lm, backend.encode(request), 16)
        (done,) = backend.complete([request])
        assert done.text == lm.tokenizer.decode(expected, skip_special_tokens=True)
