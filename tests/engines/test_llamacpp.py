"""The contract of all backends and more, kept by llama.cpp in this process: see `make engines`.

Nothing is tested where llama-cpp-python isn't installed. `TERSELY_LLAMACPP_MODEL` names another
model than the one of ours.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backend_contract import BackendContract, asked, one

from tersely.backends import llamacpp_context
from tersely.backends.llamacpp import LlamaCppBackend
from tersely.backends.llamacpp_context import Context
from tersely.backends.llamacpp_weights import _loaded, file_of, weights
from tersely.backends.probe import probe
from tersely.contracts import Request
from tersely.errors import BackendError, ConfigError, ContextLengthError, ModelError, missing
from tersely.prompt import Prompt, Segment
from tersely.soft import KVPrefix, SoftPrompt
from tersely.sot.probing import probed

pytestmark = pytest.mark.skipif(missing("llama_cpp"), reason="llama-cpp-python is not installed")

MODEL = os.environ.get("TERSELY_LLAMACPP_MODEL", "smollm2")
LONG = "The kettle holds 1.7 litres and is blue. " * 9
POINTS = [asked(f"{LONG} Point {i}: tell of it.", max_tokens=20) for i in range(6)]

JOB = (6, 80, 36, 155, 107)
"""Six points of eighty tokens after a skeleton of 36; prompts of 155 tokens share 107."""


@pytest.fixture
def answers() -> Iterator[LlamaCppBackend]:
    """A backend of its own, which remembers nothing of other tests."""
    backend = LlamaCppBackend(model=MODEL, threads=1, kv_tokens=4096)
    yield backend
    backend.close()


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[Any]:
    """The weights stay in memory from test to test."""
    yield weights(MODEL, -1) if not missing("llama_cpp") else None


class TestLlamaCpp(BackendContract):
    @pytest.fixture
    def answers(self) -> LlamaCppBackend:
        return LlamaCppBackend(model=MODEL, threads=1)

    def test_what_it_declares_is_what_it_does(self, answers: LlamaCppBackend) -> None:
        wavering = {"prefill"}  # half a word may be too hard for a tiny model
        assert probe(answers) - wavering == answers.capabilities - wavering


@contextmanager
def calls(backend: LlamaCppBackend, at: Any = lambda count: None) -> Iterator[list[list[int]]]:
    """How many tokens each row reads in every call of the context; `at` is told their number."""
    context = backend._batch().context
    found: list[list[int]] = []

    def read(pieces: Any, vectors: Any = None) -> Any:
        found.append([len(tokens) for _, _, tokens in pieces])
        at(len(found))
        return Context.read(context, pieces, vectors)

    context.read = read  # type: ignore[method-assign]
    try:
        yield found
    finally:
        del context.read


# --- together --------------------------------------------------------------------------------


def test_what_prompts_have_in_common_is_read_once(answers: LlamaCppBackend) -> None:
    lengths = [len(answers.encode(request)) for request in POINTS]
    with calls(answers) as read:
        answers.complete(POINTS)
    shared, own = read[0][0], read[1]
    assert shared > 90
    assert own == [length - shared for length in lengths]
    assert all(rows == [1] * 6 for rows in read[2:])
    assert len(read) == 2 + 19, "a call a token for all"
    print(f"{shared} of {lengths} tokens read once")


def test_six_branches_say_what_each_says_alone(answers: LlamaCppBackend) -> None:
    together = answers.complete(POINTS)
    alone = []
    for request in POINTS:
        answers.close()
        alone.append(one(answers, request))
    same = sum(a.text == b.text for a, b in zip(alone, together, strict=True))
    print(f"{same} of 6 equal")
    assert same >= 5, "rounding may part two words that are nearly as likely"


def test_finished_rows_leave_and_waiting_ones_enter(answers: LlamaCppBackend) -> None:
    two = answers.model_copy(update={"batch_size": 2})
    limits = [2, 6, 3, 4, 1]
    with calls(two) as read:
        done = two.complete([asked(f"{i}?", max_tokens=limit) for i, limit in enumerate(limits)])
    two.close()
    assert [answer.completion_tokens for answer in done] == limits
    assert max(map(len, read)) == 2
    assert [2, 2] not in read


def test_what_was_said_is_gone_on_with(answers: LlamaCppBackend) -> None:
    begun = asked(LONG, max_tokens=40)
    first = one(answers, begun)
    with calls(answers) as read:
        one(answers, asked(LONG, begun=first.text, max_tokens=3))
    assert read[0][0] <= 3, "only the last words of the answer are new"
    forgetful = answers.model_copy(update={"prefix_tokens": 0})
    one(forgetful, begun)
    with calls(answers) as read:
        one(forgetful, begun)
    assert read[0][0] == len(answers.encode(begun))


def test_requests_wait_while_the_cache_is_full(answers: LlamaCppBackend) -> None:
    small = answers.model_copy(update={"kv_tokens": 512})
    requests = [asked(f"{i} {LONG}", max_tokens=90 + i) for i in range(7)]
    with calls(small) as read:
        done = small.complete(requests)
    assert all(answer.finish_reason in {"length", "stop"} for answer in done)
    assert max(map(len, read)) == 2
    shared = [asked(f"{LONG} {i}", max_tokens=40) for i in range(7)]
    with calls(small) as read:
        small.complete(shared)
    assert max(map(len, read)) == 7, "what is shared takes room once"
    small.close()


def test_a_prompt_longer_than_a_call(
    answers: LlamaCppBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(LONG, max_tokens=8)
    whole = one(answers, request)
    monkeypatch.setattr(llamacpp_context, "AT_ONCE", 50)
    answers.close()
    assert one(answers, request).text == whole.text
    assert len(answers.complete([request] * 3)) == 3


# --- what is asked ---------------------------------------------------------------------------


def test_log_probabilities_are_those_of_the_next_token(answers: LlamaCppBackend) -> None:
    done = one(answers, asked(logprobs=True, alternatives=3, temperature=3.0, seed=5))
    assert done.completion_tokens == len(done.tokens) == len(done.alternatives)
    told = zip(done.tokens, done.logprobs, done.alternatives, strict=True)
    for token, logprob, likeliest in told:
        assert [*likeliest.values()] == sorted(likeliest.values(), reverse=True)
        if token in likeliest:
            assert logprob == pytest.approx(likeliest[token], abs=1e-5)
    again = one(answers, asked(logprobs=True))
    streamed = [*answers.stream(asked(logprobs=True))]
    assert tuple(token for chunk in streamed for token in chunk.tokens) == again.tokens


def test_seeds_are_of_their_own(answers: LlamaCppBackend) -> None:
    wild = [asked(temperature=1.5, seed=seed) for seed in (1, 2, 1)]
    first, second, third = answers.complete(wild)
    assert first.text == third.text != second.text


def test_characters_of_several_tokens_come_whole(answers: LlamaCppBackend) -> None:
    grammar = 'root ::= "東京 👍🏽 Zürich"'
    request = asked(grammar=grammar, max_tokens=40, logprobs=True)
    done = one(answers, request)
    assert done.text == "".join(done.tokens) == "東京 👍🏽 Zürich"
    assert "".join(chunk.text for chunk in answers.stream(request)) == done.text
    with pytest.raises(ConfigError, match="grammar"):
        one(answers, asked(grammar="root ::= nothing"))


def test_special_tokens_are_read_and_not_said(answers: LlamaCppBackend) -> None:
    raw = asked("<|im_start|>user\nSay yes<|im_end|>\n<|im_start|>assistant\n", raw=True)
    templated = answers.encode(asked("Say yes"))
    assert templated[-len(answers.encode(raw)) :] == answers.encode(raw)
    done = one(answers, replace(raw, max_tokens=60, grammar='root ::= "yes"'))
    assert (done.text, done.finish_reason) == ("yes", "stop")
    assert answers.encode(asked("", raw=True))


def test_what_is_too_long_is_told_before_anything_is_computed(answers: LlamaCppBackend) -> None:
    with calls(answers) as read:
        with pytest.raises(BackendError, match="raise kv_tokens"):
            answers.complete([asked(), asked("word " * 4200)])
        with pytest.raises(ContextLengthError, match="lower max_tokens"):
            one(answers, asked(max_tokens=9000))
        with pytest.raises(ConfigError, match="max_tokens"):
            one(answers, asked(max_tokens=0))
    assert read == []


# --- vectors ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(loaded: Any) -> Any:
    """The embeddings of the model's tokens."""
    import torch
    from gguf import GGUFReader, dequantize

    found = {one.name: one for one in GGUFReader(file_of(MODEL)).tensors}["token_embd.weight"]
    return torch.from_numpy(dequantize(found.data, found.tensor_type))


def soft(answers: LlamaCppBackend, table: Any, text: str, **wishes: Any) -> Request:
    """A question of which the beginning stands there as vectors."""
    tokens = answers._batch().weights.encode(text, add_special_tokens=False)
    segments = (Segment(text="[soft]", kind="soft"), Segment(text="\nTell me more of it."))
    vectors = SoftPrompt(table[tokens])
    return Request(prompt=Prompt(segments), soft=(vectors,), **{"max_tokens": 16, **wishes})


def test_embeddings_say_what_their_tokens_say(answers: LlamaCppBackend, table: Any) -> None:
    text = "The kettle holds 1.7 litres and is blue."
    request = soft(answers, table, text, repetition_penalty=1.01)
    hard = [
        part if i else replace(part, text=text) for i, part in enumerate(request.prompt.segments)
    ]
    plain = replace(
        request, soft=(), prompt=Prompt(tuple(replace(p, kind="context") for p in hard))
    )
    marks = answers.encode(request)
    assert [n if n >= 0 else None for n in marks] == [
        None if n < 0 else m for n, m in zip(marks, answers.encode(plain), strict=True)
    ]
    said, expected = one(answers, request), one(answers, plain)
    assert (said.text, said.prompt_tokens) == (expected.text, expected.prompt_tokens)
    streamed = [*answers.stream(request)]
    assert "".join(chunk.text for chunk in streamed) == said.text
    print(said.text)


def test_vectors_are_shared_and_remembered_as_text_is(answers: LlamaCppBackend, table: Any) -> None:
    first = soft(answers, table, LONG, max_tokens=3)
    others = [
        replace(first, prompt=Prompt((*first.prompt.segments, Segment(text=f" {i}"))))
        for i in range(3)
    ]
    with calls(answers) as read:
        together = answers.complete([first, *others])
    assert read[0][0] > 90 and all(own < 30 for own in read[1])
    with calls(answers) as read:
        alone = [one(answers, request) for request in (first, *others)]
    assert all(rows[0] < 30 for rows in read)
    assert [done.text for done in alone] == [done.text for done in together]


def test_vectors_that_cant_be_read_are_refused(answers: LlamaCppBackend, table: Any) -> None:
    request = soft(answers, table, "Hello")
    for vectors, fault in [
        (SoftPrompt(table[:2, :5]), "have 5 values"),
        (SoftPrompt(table[:2], model="other"), "made for the model 'other'"),
    ]:
        with pytest.raises(ConfigError, match=fault):
            one(answers, replace(request, soft=(vectors,)))
    prefix = KVPrefix([(table[None, :2, :4], table[None, :2, :4])])
    with pytest.raises(ConfigError, match="kv_prefix"):
        one(answers, asked(kv_prefix=prefix))


# --- streams, threads, ends ------------------------------------------------------------------


async def test_a_stream_that_was_left_takes_no_room(answers: LlamaCppBackend) -> None:
    small = answers.model_copy(update={"kv_tokens": 256})
    for _ in range(3):
        stream: Any = small.astream(asked(LONG, max_tokens=100))
        await anext(stream)
        await stream.aclose()
    small.close()


async def test_callers_of_all_sorts_are_answered_together(answers: LlamaCppBackend) -> None:
    async def heard(request: Request) -> str:
        return "".join([chunk.text async for chunk in answers.astream(request)])

    with calls(answers) as read:
        *streams, whole, threaded = await asyncio.gather(
            *map(heard, POINTS[:3]),
            answers.acomplete(POINTS[3:]),
            asyncio.to_thread(answers.complete, POINTS),
        )
    assert isinstance(whole, list) and isinstance(threaded, list)
    assert [len(done) for done in (streams, whole, threaded)] == [3, 3, 6]
    assert max(map(len, read)) > 6


def test_closing_gives_the_memory_back_and_the_next_opens_again(answers: LlamaCppBackend) -> None:
    before = one(answers, asked())
    batch = answers._batch()
    answers.close()
    answers.close()
    with pytest.raises(RuntimeError, match="closed"):
        batch.context.read([(0, 0, [1])])
    del batch
    assert one(answers, asked()) == before


async def test_who_waits_while_it_is_closed_is_told(answers: LlamaCppBackend) -> None:
    stream = answers.astream(asked(max_tokens=2000))
    await anext(stream)
    waiting = asyncio.create_task(answers.acomplete([asked(max_tokens=2000)]))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(answers.close)
    with pytest.raises(BackendError, match="stopped"):
        await waiting


def test_a_failure_of_llama_cpp_is_told_and_the_next_is_answered(answers: LlamaCppBackend) -> None:
    before = one(answers, asked())
    lib = answers._batch().context.lib

    class Broken:
        def __init__(self, code: int) -> None:
            self.code = code

        def __getattr__(self, name: str) -> Any:
            return (lambda *_: self.code) if name == "llama_decode" else getattr(lib, name)

    for code, said, passes in [(1, "out of memory.*lower kv_tokens", True), (-3, "-3", False)]:
        answers._batch().context.lib = Broken(code)
        with pytest.raises(BackendError, match=said) as caught:
            one(answers, asked("Something new"))
        assert caught.value.retryable is passes
        answers._batch().context.lib = lib
        assert one(answers, asked()) == before


def test_a_failure_amidst_many_leaves_no_trace(answers: LlamaCppBackend) -> None:
    def fail(count: int) -> None:
        if count == 5:
            raise RuntimeError("broken")

    with calls(answers, fail), pytest.raises(BackendError, match="broken"):
        answers.complete(POINTS)
    assert len(answers.complete(POINTS)) == 6
    sequences = answers._batch().sequences
    assert sequences._ledger.taken() == sequences.kept, "only the common beginning is kept"


def test_no_memory_for_the_cache(answers: LlamaCppBackend) -> None:
    """Twice what the machine has, at 23,040 bytes a token of the model of ours."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    vast = answers.model_copy(update={"kv_tokens": 2 * memory // 23_040})
    with pytest.raises(BackendError, match=r"no memory for kv_tokens=\d+; lower it: .+"):
        one(vast, asked())


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match=r"holds no model that llama\.cpp can load: .+"):
        one(LlamaCppBackend(model=str(tmp_path)), asked())


def test_weights_are_freed_when_nobody_has_them() -> None:
    backend = LlamaCppBackend(model=MODEL, threads=1, gpu_layers=0)
    one(backend, asked(max_tokens=1))
    assert any(layers == 0 for _, layers in _loaded)
    backend.close()
    gc.collect()
    assert not any(layers == 0 for _, layers in _loaded)


def test_a_child_of_a_fork_has_an_engine_of_its_own() -> None:
    script = f"""
import os, warnings
from backend_contract import asked, one
from tersely.backends.llamacpp import LlamaCppBackend
warnings.simplefilter("ignore")
backend = LlamaCppBackend(model={MODEL!r}, threads=1)
before = one(backend, asked())
child = os.fork()
if not child:
    os._exit(0 if one(backend, asked()) == before else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert one(backend, asked()) == before
print("both")
"""
    path = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **path}
    )
    assert done.stdout.strip() == "both", done.stderr
    assert done.stderr == "", "llama.cpp is silent"


# --- the gate --------------------------------------------------------------------------------


def test_the_gate_takes_the_faster_road(answers: LlamaCppBackend) -> None:
    profile = probed(answers)
    print(profile.model_dump_json(), profile.reason(*JOB))
    if MODEL == "smollm2":
        assert not profile.pays(*JOB), profile.reason(*JOB)
    assert profile.shared > 0.5
