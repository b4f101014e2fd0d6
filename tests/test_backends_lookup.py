"""Tokens that are foretold by what was said before: the answer is the same, in fewer steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_watch import forget, forwards
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.backends import engine as engines
from tersely.backends.batch import Batch, Bound
from tersely.backends.decode import Answer
from tersely.backends.local import LocalBackend
from tersely.backends.lookup import LONGEST, SHORTEST, Lookup, guesses
from tersely.contracts import Request
from tersely.prompt import Prompt, Segment
from tersely.weights import CausalLM, causal_lm

TEXTS = (
    "The quick brown fox jumps over the lazy dog. " * 2,
    "12 times a day. 12 times a day. 12",
    "Ein schöner Tag in Zürich: die Brücke",
    "aaaaaaaa",
    "東京の天気は晴れ",
)


def ask(text: str, **wishes: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **{"max_tokens": 40, **wishes})


@pytest.fixture
def plain(backend: LocalBackend) -> LocalBackend:
    """The same model, which makes one token in every step."""
    return backend.model_copy(update={"lookup": 0})


@pytest.fixture(autouse=True)
def fresh(lm: CausalLM) -> Iterator[None]:
    """No test finds what another one left in memory."""
    yield
    forget(lm)


def widths(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """How many tokens every pass reads in a row."""
    return [columns for _, columns in shapes]


def made(backend: LocalBackend, lm: CausalLM, request: Request, lookup: int) -> Answer:
    """An answer that was made alone."""
    (answer,) = backend._answers([request], lm)
    answer.lookup = lookup
    batch = Batch(lm)
    batch.enter([answer])
    while batch.answers:
        batch.step()
    return answer


# --- guesses ---------------------------------------------------------------------------------


@given(tokens=st.lists(st.integers(0, 3), max_size=40), upto=st.integers(0, 5))
def test_what_followed_last_time_is_guessed(tokens: list[int], upto: int) -> None:
    expected: list[int] = []
    for size in range(SHORTEST, LONGEST + 1):
        last = tokens[-size:]
        places = [i for i in range(size, len(tokens)) if tokens[i - size : i] == last]
        if len(tokens) >= size and places:
            expected = tokens[places[-1] : places[-1] + upto]
    lookup = Lookup(tokens[:7])
    for token in tokens[7:]:
        lookup.add(token)
    assert lookup.guess(upto) == expected


# --- answers ---------------------------------------------------------------------------------


@given(
    text=st.sampled_from(TEXTS),
    cut=st.integers(0, 12),
    lookup=st.integers(1, 12),
    tokens=st.integers(1, 60),
    wishes=st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.sampled_from([0.3, 1.0]),
            "repetition_penalty": st.sampled_from([0.7, 1.2]),
            "grammar": st.sampled_from(['root ::= ("ab"{1,9} " " | [c-f]){3,30}']),
            "stop": st.sampled_from([(" ",), ("ab a",)]),
            "alternatives": st.just(2),
        },
    ),
)
@settings(max_examples=60)
def test_the_answer_is_the_one_of_plain_decoding(
    backend: LocalBackend,
    lm: CausalLM,
    text: str,
    cut: int,
    lookup: int,
    tokens: int,
    wishes: dict[str, Any],
) -> None:
    request = ask(text[cut:], max_tokens=tokens, seed=5, **wishes)
    plain = made(backend, lm, request, 0)
    guessed = made(backend, lm, request, lookup)
    assert guessed.made == plain.made
    assert guessed.tokens == plain.tokens
    assert (guessed.said, guessed.finish) == (plain.said, plain.finish)
    assert guessed.logprobs == pytest.approx(plain.logprobs, abs=1e-4)


def test_fewer_steps_are_taken_and_counted(
    backend: LocalBackend, plain: LocalBackend, lm: CausalLM
) -> None:
    quick = backend.model_copy(update={"lookup": 6})
    request = ask(TEXTS[1], max_tokens=60, repetition_penalty=0.7)
    before = guesses(lm).proposed, guesses(lm).accepted
    with forwards(lm) as shapes:
        (done,) = quick.complete([request])
    proposed = quick.guesses.proposed - before[0]
    accepted = quick.guesses.accepted - before[1]
    assert 0 < accepted <= proposed
    assert len(shapes) - 1 == done.completion_tokens - 1 - accepted
    assert max(widths(shapes)[1:]) <= 1 + quick.lookup
    with forwards(lm) as shapes:
        assert plain.complete([request])[0].text == done.text
    assert {*widths(shapes)[1:]} == {1}


def test_streams_say_the_same(backend: LocalBackend, plain: LocalBackend) -> None:
    quick = backend.model_copy(update={"lookup": 6})
    for text in TEXTS:
        request = ask(text, repetition_penalty=0.7, logprobs=True)
        chunks = [*quick.stream(request)]
        (done,) = plain.complete([request])
        assert "".join(chunk.text for chunk in chunks) == done.text
        assert sum((chunk.tokens for chunk in chunks), ()) == done.tokens


@given(
    lookup=st.integers(1, 8),
    entries=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 30)), min_size=1, max_size=4),
)
@settings(max_examples=30)
def test_others_may_come_and_go(
    backend: LocalBackend, lm: CausalLM, lookup: int, entries: list[tuple[int, int]]
) -> None:
    asked = [
        ask(TEXTS[i], max_tokens=tokens, repetition_penalty=0.8)
        for i, (_, tokens) in enumerate(entries)
    ]
    answers = backend._answers(asked, lm)
    batch = Batch(lm)
    for moment in range(50):
        due = [one for one, (when, _) in zip(answers, entries, strict=True) if when == moment]
        if due:
            batch.enter(due)
        for answer in due:
            answer.lookup = lookup
        if batch.answers:
            batch.step()
    assert not batch.answers
    for request, answer in zip(asked, answers, strict=True):
        assert answer.made == made(backend, lm, request, 0).made


def test_only_an_answer_that_is_alone_is_foretold(backend: LocalBackend, lm: CausalLM) -> None:
    quick = backend.model_copy(update={"lookup": 6})
    asked = [ask(TEXTS[1], repetition_penalty=0.7, max_tokens=20)] * 2
    with forwards(lm) as shapes:
        quick.complete(asked)
    assert max(widths(shapes)) > 1  # the prompts
    assert {*widths(shapes)[-19:]} == {1}


def test_a_conversation_goes_on_from_what_was_foretold(
    backend: LocalBackend, plain: LocalBackend
) -> None:
    quick = backend.model_copy(update={"lookup": 6})
    first = ask(TEXTS[0], raw=True, repetition_penalty=0.7, max_tokens=30)
    (done,) = quick.complete([first])
    later = ask(TEXTS[0] + done.text, raw=True, max_tokens=20)
    (on,) = quick.complete([later])
    running = engines._engines.pop(causal_lm(backend.model, precision="float32"))
    running.stop()
    assert plain.complete([later])[0].text == on.text


def test_a_model_whose_state_can_not_be_taken_back_goes_on_step_by_step(
    backend: LocalBackend, lm: CausalLM
) -> None:
    (answer,) = backend._answers([ask(TEXTS[1], repetition_penalty=0.7)], lm)
    answer.lookup = 6
    batch = Batch(lm)
    batch.rows = Bound(lm)
    batch.enter([answer])
    with forwards(lm) as shapes:
        while batch.answers:
            batch.step()
    assert {*widths(shapes)} == {1}


@pytest.mark.model
def test_the_embedded_model_quotes_as_it_would_without(smollm2: Path) -> None:
    import torch

    lm = causal_lm("smollm2", precision="float32")
    backend = LocalBackend(precision="float32", lookup=8)
    text = "The kettle holds 1.7 litres, boils in 4 minutes and is made of steel."
    request = ask(f"Repeat this text word for word: {text}", max_tokens=30)
    prompt = backend.encode(request)
    before = backend.guesses.accepted
    (done,) = backend.complete([request])
    ids = torch.tensor([prompt])
    plain = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False
    )
    told = lm.tokenizer.decode(plain[0, len(prompt) :], skip_special_tokens=True)
    assert done.text == told.rstrip("�")
    assert backend.guesses.accepted > before
