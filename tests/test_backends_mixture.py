"""Several prompts, one answer: as the formula has it, and with what they share read once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.backends.local import LocalBackend
from tersely.backends.prefix import can_share, prefilled, shared_length
from tersely.backends.rows import Rows
from tersely.contracts import Mixing, Request
from tersely.errors import BackendError, ConfigError, ContextLengthError
from tersely.prompt import Prompt, Segment
from tersely.weights import CausalLM, causal_lm

BEGIN = "Answer by what is told. "
TEXTS = [
    BEGIN + end for end in ("The quick brown fox", "Ein schöner Tag", "東京の天気は晴れ, 12 times")
]


def ask(text: str, **wishes: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **{"max_tokens": 12, **wishes})


@contextmanager
def forwards(lm: CausalLM) -> Iterator[list[tuple[int, ...]]]:
    """The shape of the input of every forward pass inside."""
    shapes: list[tuple[int, ...]] = []
    hook = lm.model.register_forward_pre_hook(
        lambda _module, _args, given: shapes.append(tuple(given["input_ids"].shape)),
        with_kwargs=True,
    )
    try:
        yield shapes
    finally:
        hook.remove()


def by_the_formula(
    lm: CausalLM, prompts: list[list[int]], weights: list[float], tokens: int
) -> tuple[list[int], list[float]]:
    """The greedy mixture, each prompt read whole and by itself for every token."""
    import torch

    made: list[int] = []
    logprobs = []
    for _ in range(tokens):
        mean = 0.0
        for prompt, weight in zip(prompts, weights, strict=True):
            logits = lm.model(torch.tensor([[*prompt, *made]])).logits[0, -1].double()
            mean = mean + weight * logits.softmax(-1)
        best = int(mean.argmax())
        if best == lm.tokenizer.eos_token_id:
            break
        made.append(best)
        logprobs.append(math.log(float(mean[best])))
    return made, logprobs


# --- what is said ----------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [[0.2, 0.3, 0.5], [0.9, 0.05, 0.05], [1 / 3] * 3])
def test_a_mix_is_the_mean_of_the_probabilities(
    backend: LocalBackend, lm: CausalLM, weights: list[float]
) -> None:
    requests = [ask(text, logprobs=True) for text in TEXTS]
    prompts = [backend.encode(request) for request in requests]
    made, logprobs = by_the_formula(lm, prompts, weights, 12)
    if weights[0] < 0.5:
        assert made != by_the_formula(lm, prompts[:1], [1.0], 12)[0], "the others have a say"
    done = backend.mix(requests, weights)
    assert done.text == lm.tokenizer.decode(made, skip_special_tokens=True).rstrip("�")
    assert done.completion_tokens == len(made)
    assert done.logprobs == pytest.approx(logprobs, abs=1e-4)
    assert "".join(done.tokens) == done.text


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_mix_of_one_is_its_answer(backend: LocalBackend, temperature: float) -> None:
    for text in TEXTS:
        request = ask(text, temperature=temperature, seed=3, logprobs=True, alternatives=3)
        (alone,) = backend.complete([request])
        mixed = backend.mix([request], [1.0])
        assert mixed.logprobs == pytest.approx(alone.logprobs, abs=1e-4)
        for likeliest, expected in zip(mixed.alternatives, alone.alternatives, strict=True):
            assert likeliest == pytest.approx(expected, abs=1e-4)
        blank: dict[str, Any] = {"logprobs": (), "alternatives": ()}
        assert replace(mixed, **blank) == replace(alone, **blank)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_mix_of_the_same_is_its_answer(backend: LocalBackend, temperature: float) -> None:
    for text in TEXTS:
        request = ask(text, temperature=temperature, seed=3, logprobs=True)
        (alone,) = backend.complete([request])
        mixed = backend.mix([request] * 3, [0.25, 0.25, 0.5])
        assert mixed.logprobs == pytest.approx(alone.logprobs, abs=1e-4)
        blank: dict[str, Any] = {"logprobs": (), "prompt_tokens": 0}
        assert replace(mixed, **blank) == replace(alone, **blank)


def test_the_first_request_sets_how_it_is_answered(backend: LocalBackend) -> None:
    first, other = ask(TEXTS[0], max_tokens=30), ask(TEXTS[1], max_tokens=1, stop=("e",))
    whole = backend.mix([first, other], [0.5, 0.5])
    assert whole.completion_tokens > 8
    stop = whole.text[6:9]
    done = backend.mix([replace(first, stop=(stop,)), other], [0.5, 0.5])
    assert (done.text, done.finish_reason) == (whole.text.partition(stop)[0], "stop")
    short = backend.mix([replace(first, max_tokens=3), other], [0.5, 0.5])
    assert (short.completion_tokens, short.finish_reason) == (3, "length")
    drawn = [replace(first, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    one, again, another = (backend.mix([draw, other], [0.5, 0.5]).text for draw in drawn)
    assert one == again != another


def test_the_local_backend_mixes(backend: LocalBackend) -> None:
    assert isinstance(backend, Mixing)
    assert "mixes" in backend.capabilities


# --- what is computed ------------------------------------------------------------------------


def test_what_prompts_begin_with_is_read_once(backend: LocalBackend, lm: CausalLM) -> None:
    requests = [ask(text, max_tokens=4) for text in TEXTS]
    prompts = [backend.encode(request) for request in requests]
    shared = shared_length(prompts)
    assert shared > 10
    longest = max(len(prompt) - shared for prompt in prompts)
    with forwards(lm) as shapes:
        done = backend.mix(requests, [0.2, 0.3, 0.5])
    assert shapes == [(1, shared), (3, longest), *[(3, 1)] * (len(shapes) - 2)]
    assert done.prompt_tokens == shared + sum(len(prompt) - shared for prompt in prompts)


def test_one_prompt_is_read_in_one_pass(backend: LocalBackend, lm: CausalLM) -> None:
    request = ask(TEXTS[0], max_tokens=2)
    with forwards(lm) as shapes:
        backend.mix([request], [1.0])
    assert shapes[0] == (1, len(backend.encode(request)))


lists = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@given(begin=st.lists(st.integers(0, 2), max_size=4), ends=st.lists(lists, min_size=1, max_size=4))
@settings(max_examples=200)
def test_the_longest_beginning_that_leaves_each_a_token(
    begin: list[int], ends: list[list[int]]
) -> None:
    prompts = [[*begin, *end] for end in ends]
    shared = shared_length(prompts)
    assert len(begin) <= shared < min(map(len, prompts))
    assert all(prompt[:shared] == prompts[0][:shared] for prompt in prompts)
    longer = {tuple(prompt[: shared + 1]) for prompt in prompts}
    assert len(longer) > 1 or shared + 1 == min(map(len, prompts))


def test_nothing_is_shared_by_none() -> None:
    assert shared_length([]) == 0
    assert shared_length([[1, 2], [2, 2]]) == 0


tokens = st.lists(st.integers(5, 319), min_size=1, max_size=12)


@given(begin=tokens, ends=st.lists(tokens, min_size=2, max_size=3), more=st.integers(5, 319))
@settings(max_examples=25)
def test_rows_that_share_score_as_rows_that_do_not(
    lm: CausalLM, begin: list[int], ends: list[list[int]], more: int
) -> None:
    import torch

    prompts = [[*begin, *end] for end in ends]
    with torch.inference_mode():
        apart, together = Rows(lm, prompts), Rows(lm, prompts, len(begin))
        assert torch.allclose(apart.scores(), together.scores(), atol=1e-4)
        for rows in (apart, together):
            rows.add(torch.tensor([more] * len(ends)))
        assert torch.allclose(apart.scores(), together.scores(), atol=1e-4)
    assert apart.read - together.read == len(begin) * (len(ends) - 1)


def test_a_beginning_is_copied_to_every_row(lm: CausalLM) -> None:
    cache = prefilled(lm, [7, 8, 9], 4)
    assert cache.get_seq_length() == 3
    keys = cache.layers[0].keys
    assert keys.shape[0] == 4 and bool((keys == keys[:1]).all())


@pytest.fixture(scope="module")
def windowed(tiny_windowed: Path) -> LocalBackend:
    return LocalBackend(model=str(tiny_windowed), precision="float32")


def test_a_model_with_a_window_reads_every_prompt_whole(windowed: LocalBackend) -> None:
    lm = causal_lm(windowed.model, precision="float32")
    requests = [ask(text, logprobs=True) for text in TEXTS]
    prompts = [windowed.encode(request) for request in requests]
    assert not can_share(lm)
    with forwards(lm) as shapes:
        done = windowed.mix(requests, [0.2, 0.3, 0.5])
    assert shapes[0] == (3, max(map(len, prompts)))
    made, logprobs = by_the_formula(lm, prompts, [0.2, 0.3, 0.5], 12)
    assert done.completion_tokens == len(made)
    assert done.logprobs == pytest.approx(logprobs, abs=1e-4)
    assert done.prompt_tokens == sum(map(len, prompts))


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    [[0.5, 0.6], [1.0, 0.0], [1.5, -0.5], [math.nan, 1.0], [0.5, 0.4999]],
)
def test_weights_must_be_shares(backend: LocalBackend, weights: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"above 0 and add up to 1, were \["):
        backend.mix([ask("a"), ask("b")], weights)


def test_weights_may_be_rounded(backend: LocalBackend) -> None:
    assert backend.mix([ask("a"), ask("b")], [0.3333333, 0.6666666]).completion_tokens > 0


@pytest.mark.parametrize("weights", [[], [1.0]])
def test_each_request_has_a_weight(backend: LocalBackend, weights: list[float]) -> None:
    with pytest.raises(ConfigError, match=f"was given 2 and {len(weights)}"):
        backend.mix([ask("a"), ask("b")], weights)
    with pytest.raises(ConfigError, match="takes requests"):
        backend.mix([], [])


def test_a_prompt_too_long_is_refused_before_anything_is_computed(
    backend: LocalBackend, lm: CausalLM
) -> None:
    with forwards(lm) as shapes, pytest.raises(ContextLengthError):
        backend.mix([ask("short"), ask("dog " * 400)], [0.5, 0.5])
    with pytest.raises(ConfigError, match="max_tokens"):
        backend.mix([ask("short", max_tokens=0), ask("b")], [0.5, 0.5])
    assert shapes == []


def test_what_torch_raises_is_told_as_ours(backend: LocalBackend, lm: CausalLM) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    hook = lm.model.register_forward_pre_hook(fail)
    try:
        with pytest.raises(BackendError, match="the local model failed: out of memory"):
            backend.mix([ask("a"), ask("b")], [0.5, 0.5])
    finally:
        hook.remove()


@pytest.mark.model
def test_the_embedded_model_answers_by_the_likelier_document(smollm2: Path) -> None:
    backend = LocalBackend(precision="float32")
    head = "Answer in one word by this note. Which town has the well?\n\nNote: "
    requests = [ask(head + f"The well is in {town}.", max_tokens=6) for town in ("Ulm", "Bern")]
    alone = [done.text for done in backend.complete(requests)]
    assert "Ulm" in alone[0] and "Bern" in alone[1]
    assert "Ulm" in backend.mix(requests, [0.95, 0.05]).text
    assert "Bern" in backend.mix(requests, [0.05, 0.95]).text
