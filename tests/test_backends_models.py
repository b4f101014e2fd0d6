"""Architectures: whatever a model is made of, its answers are those of transformers' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from little_models import BOUND, KINDS, make

from tersely.backends import engine as engines
from tersely.backends.local import LocalBackend
from tersely.backends.memory import bytes_per_token
from tersely.contracts import Request
from tersely.errors import ConfigError, ContextLengthError
from tersely.prompt import Prompt, Segment
from tersely.weights import CausalLM, LMPrecision, causal_lm, empty_cache

BEGIN = "The quick brown fox jumps over the lazy dog, 12 times a day. " * 2
TEXTS = [BEGIN + "Ein schöner Tag", BEGIN + "12", "東京の天気は", "a day.", BEGIN + "The"]

each_kind = pytest.mark.parametrize("kind", KINDS)
every_kind = pytest.mark.parametrize("kind", {**KINDS, **BOUND})

ENDLESS = ("slopes", "a state")
"""Their context is bounded by nothing but memory."""

Opened = Callable[..., LocalBackend]


@pytest.fixture(scope="module")
def opened(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Makes a model of a kind once, and gives a backend for it."""
    made: dict[str, Path] = {}

    def of(kind: str, precision: LMPrecision = "float32", **settings: Any) -> LocalBackend:
        if kind not in made:
            made[kind] = make(kind, tiny_llama, tmp_path_factory.mktemp("kind"))
        return LocalBackend(model=str(made[kind]), precision=precision, **settings)

    return of


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    before = {*engines._engines}
    yield
    for key in {*engines._engines} - before:
        engines._engines.pop(key).stop()


def ask(text: str, **wishes: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **{"max_tokens": 12, **wishes})


def weights(backend: LocalBackend) -> CausalLM:
    return causal_lm(backend.model, precision=backend.precision)


def generated(lm: CausalLM, prompt: list[int], tokens: int) -> str:
    """What transformers' own generate makes of a prompt, greedily."""
    import torch

    ids = torch.tensor([prompt])
    made = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
    )
    return str(lm.tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True)).rstrip("�")


@every_kind
def test_ragged_branches_say_what_generate_says(opened: Opened, kind: str) -> None:
    backend = opened(kind)
    lm = weights(backend)
    requests = [ask(text, max_tokens=6 + 4 * i) for i, text in enumerate(TEXTS)]
    expected = [generated(lm, backend.encode(one), one.max_tokens) for one in requests]
    assert [done.text for done in backend.complete(requests)] == expected
    assert [done.text for one in requests for done in backend.complete([one])] == expected


@each_kind
def test_soft_input_is_read(opened: Opened, kind: str) -> None:
    backend = opened(kind)
    lm = weights(backend)
    plain, soft = ask(BEGIN + "Ein"), Segment(text="", kind="soft", soft=backend.embed(BEGIN))
    vectors = Request(prompt=Prompt((soft, Segment(text="Ein"))), max_tokens=12)
    prefixed = ask("Ein", kv_prefix=backend.prefix(BEGIN), raw=True)
    text, same, after = backend.complete([plain, vectors, prefixed])
    assert lm.tokenizer.encode(BEGIN) + lm.tokenizer.encode("Ein") == lm.tokenizer.encode(
        BEGIN + "Ein"
    )
    assert same == text
    assert after.text == generated(lm, lm.tokenizer.encode(BEGIN + "Ein"), 12)


@every_kind
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_runs(opened: Opened, kind: str, precision: LMPrecision) -> None:
    backend, exact = opened(kind, precision), opened(kind)
    requests = [ask(text, logprobs=True, max_tokens=3) for text in TEXTS[1:4]]
    for done, one in zip(backend.complete(requests), exact.complete(requests), strict=True):
        assert len(done.logprobs) == len(one.logprobs) > 0
        assert done.logprobs[0] == pytest.approx(one.logprobs[0], abs=0.5)


@each_kind
def test_memory_is_reckoned_as_it_is_used(opened: Opened, kind: str) -> None:
    import torch

    from tersely.weights import caching

    lm = weights(opened(kind))
    cache = empty_cache(lm)
    with torch.inference_mode():
        lm.model(input_ids=torch.zeros(1, 5, dtype=torch.long), **caching(lm.model, cache))
    used = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert 5 * bytes_per_token(lm) == used


@pytest.mark.parametrize("kind", [kind for kind in (*KINDS, *BOUND) if kind not in ENDLESS])
def test_a_context_may_be_full(opened: Opened, kind: str) -> None:
    backend = opened(kind)
    room = weights(backend).max_length
    text = "a " * room
    tokens = backend.encode(ask(text, raw=True))[: room - 8]
    text = weights(backend).tokenizer.decode(tokens)
    size = len(backend.encode(ask(text, raw=True)))
    full = ask(text, raw=True, max_tokens=room - size)
    assert backend.complete([full])[0].prompt_tokens == size
    with pytest.raises(ContextLengthError, match=f"exceed the {room} tokens"):
        backend.complete([ask(text, raw=True, max_tokens=room - size + 1)])


@pytest.mark.parametrize("kind", BOUND)
def test_a_window_or_a_state_takes_no_prefix(opened: Opened, kind: str) -> None:
    backend = opened(kind)
    with pytest.raises(ConfigError, match="has a window or a state of its own"):
        backend.prefix(BEGIN)


@pytest.mark.parametrize("kind", ["a state", "a state beside attention"])
def test_prompts_with_a_state_are_not_mixed(opened: Opened, kind: str) -> None:
    backend = opened(kind)
    requests = [ask(text, max_tokens=4) for text in TEXTS[:2]]
    with pytest.raises(ConfigError, match="can't read 2 prompts side by side"):
        backend.mix(requests, [0.5, 0.5])
    assert backend.mix(requests[:1], [1.0]).text == backend.complete(requests)[0].text


@every_kind
def test_what_memory_does_not_hold_waits(opened: Opened, kind: str) -> None:
    backend = opened(kind)
    requests = [ask(text, max_tokens=4) for text in TEXTS[2:]]
    most = max(len(backend.encode(one)) for one in requests) + 4
    tight = opened(kind, kv_tokens=most)
    assert tight.complete(requests) == backend.complete(requests)
