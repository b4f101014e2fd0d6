"""What the llama.cpp backend keeps to besides the contract of all, with the package or its double.

A test file makes a subclass of `LlamaCppPromises` with the fixtures `answers`, a backend that
remembers nothing of other tests, and `table`, the embeddings of the model's tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from backend_contract import BackendContract, asked, one

from tersely.backends import llamacpp_context
from tersely.backends.llamacpp import LlamaCppBackend
from tersely.backends.llamacpp_context import Context
from tersely.backends.probe import probe
from tersely.backends.read import common
from tersely.contracts import Request
from tersely.errors import BackendError, ConfigError, ContextLengthError
from tersely.prompt import Prompt, Segment
from tersely.soft import KVPrefix, SoftPrompt

LONG = "The kettle holds 1.7 litres and is blue. " * 9
POINTS = [asked(f"{LONG} Point {i}: tell of it.", max_tokens=20) for i in range(6)]


@contextmanager
def calls(backend: LlamaCppBackend, at: Any = lambda count: None) -> Iterator[list[list[int]]]:
    """How many tokens each row reads in every call of the context; `at` is told their number."""
    context: Any = backend._batch().context
    found: list[list[int]] = []

    def read(pieces: Any, vectors: Any = None) -> Any:
        found.append([len(tokens) for _, _, tokens in pieces])
        at(len(found))
        return Context.read(context, pieces, vectors)

    context.read = read
    try:
        yield found
    finally:
        del context.read


def but(backend: LlamaCppBackend, **settings: Any) -> LlamaCppBackend:
    return backend.model_copy(update=settings)


def soft(backend: LlamaCppBackend, table: Any, text: str, **wishes: Any) -> Request:
    """A question of which the beginning stands there as vectors."""
    tokens = backend._batch().weights.encode(text, add_special_tokens=False)
    return standing(SoftPrompt(table[tokens]), **wishes)


def standing(vectors: SoftPrompt, **wishes: Any) -> Request:
    """A question that begins with vectors."""
    begun = Segment(text="[soft]", kind="soft", soft=vectors)
    segments = (begun, Segment(text="\nTell me more of it."))
    return Request(prompt=Prompt(segments), **{"max_tokens": 16, **wishes})


class LlamaCppPromises(BackendContract):
    same_alone: int = 6
    """Of six branches, how many say what they say alone: rounding may part a few."""

    def test_what_it_declares_is_what_it_does(self, answers: LlamaCppBackend) -> None:
        wavering = {"prefill"}  # half a word may be too hard for a tiny model
        assert probe(answers) - wavering == answers.capabilities - wavering

    # --- together ---

    def test_what_prompts_have_in_common_is_read_once(self, answers: LlamaCppBackend) -> None:
        prompts = [answers.encode(request) for request in POINTS]
        shared = common(prompts[0], prompts[1])
        with calls(answers) as read:
            answers.complete(POINTS)
        assert shared > 90
        assert read[:2] == [[shared], [len(prompt) - shared for prompt in prompts]]
        assert read[2:] == [[1] * 6] * 19, "a call a token for all"
        print(f"{shared} of {[*map(len, prompts)]} tokens read once")

    def test_six_branches_say_what_each_says_alone(self, answers: LlamaCppBackend) -> None:
        together = answers.complete(POINTS)
        alone = []
        for request in POINTS:
            answers.close()
            alone.append(one(answers, request))
        same = sum(a.text == b.text for a, b in zip(alone, together, strict=True))
        print(f"{same} of 6 say the same alone")
        assert same >= self.same_alone

    def test_finished_rows_leave_and_waiting_ones_enter(self, answers: LlamaCppBackend) -> None:
        two = but(answers, batch_size=2)
        limits = [2, 6, 3, 4, 1]
        with calls(two) as read:
            done = two.complete([asked(f"{i}?", max_tokens=most) for i, most in enumerate(limits)])
        two.close()
        assert [answer.completion_tokens for answer in done] == limits
        assert max(map(len, read)) == 2

    def test_what_was_said_is_gone_on_with(self, answers: LlamaCppBackend) -> None:
        begun = asked(LONG, max_tokens=40)
        first = one(answers, begun)
        with calls(answers) as read:
            one(answers, asked(LONG, begun=first.text, max_tokens=3))
        assert read[0][0] <= 3, "only the last words of the answer are new"
        forgetful = but(answers, prefix_tokens=0)
        one(forgetful, begun)
        with calls(answers) as read:
            one(forgetful, begun)
        assert read[0][0] == len(answers.encode(begun))

    def test_requests_wait_while_the_cache_is_full(self, answers: LlamaCppBackend) -> None:
        apart = [asked(f"{i} {LONG}", max_tokens=90) for i in range(7)]
        alike = [asked(f"{LONG} {i}", max_tokens=20) for i in range(7)]
        size = len(answers.encode(apart[0])) + 90
        small = but(answers, kv_tokens=2 * size)
        with calls(small) as read:
            done = small.complete(apart)
        assert all(answer.finish_reason in {"length", "stop"} for answer in done)
        assert max(map(len, read)) == small._batch().room // size < 7
        with calls(small) as read:
            small.complete(alike)
        assert max(map(len, read)) == 7, "what is shared takes room once"
        small.close()

    def test_a_prompt_longer_than_a_call(
        self, answers: LlamaCppBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = asked(LONG, max_tokens=8)
        whole = one(answers, request)
        monkeypatch.setattr(llamacpp_context, "AT_ONCE", 50)
        answers.close()
        assert one(answers, request).text == whole.text
        assert len(answers.complete([request] * 3)) == 3

    def test_prompts_are_read_so_many_tokens_at_a_time(self, answers: LlamaCppBackend) -> None:
        requests = [asked(f"{i} cups of tea", raw=True, max_tokens=2) for i in range(5)]
        short = but(answers, batch_tokens=2 * len(answers.encode(requests[0])))
        with calls(short) as read:
            short.complete(requests)
        assert max(len(rows) for rows in read if max(rows) > 1) == 2

    # --- what is asked ---

    def test_log_probabilities_are_those_of_the_next_token(self, answers: LlamaCppBackend) -> None:
        done = one(answers, asked(logprobs=True, alternatives=3, temperature=3.0, seed=5))
        assert done.completion_tokens == len(done.tokens) == len(done.alternatives)
        for token, logprob, likeliest in zip(
            done.tokens, done.logprobs, done.alternatives, strict=True
        ):
            assert [*likeliest.values()] == sorted(likeliest.values(), reverse=True)
            assert logprob == pytest.approx(likeliest.get(token, logprob), abs=1e-5)
        again = one(answers, asked(logprobs=True))
        streamed = [*answers.stream(asked(logprobs=True))]
        assert tuple(token for chunk in streamed for token in chunk.tokens) == again.tokens

    def test_seeds_are_of_their_own(self, answers: LlamaCppBackend) -> None:
        wild = [asked(temperature=1.5, seed=seed) for seed in (1, 2, 1)]
        first, second, third = answers.complete(wild)
        assert first.text == third.text != second.text

    def test_characters_of_several_tokens_come_whole(self, answers: LlamaCppBackend) -> None:
        request = asked(grammar='root ::= "東京 👍🏽 Zürich"', max_tokens=40, logprobs=True)
        done = one(answers, request)
        assert done.text == "".join(done.tokens) == "東京 👍🏽 Zürich"
        assert "".join(chunk.text for chunk in answers.stream(request)) == done.text
        with pytest.raises(ConfigError, match="grammar"):
            one(answers, asked(grammar="root ::= nothing"))

    def test_what_is_too_long_is_told_before_anything_is_computed(
        self, answers: LlamaCppBackend
    ) -> None:
        small = but(answers, kv_tokens=512)
        with calls(small) as read:
            with pytest.raises(BackendError, match="raise kv_tokens"):
                small.complete([asked(), asked("word " * 600)])
            with pytest.raises(ContextLengthError, match="lower max_tokens"):
                one(small, asked(max_tokens=9000))
            with pytest.raises(ConfigError, match="max_tokens"):
                one(small, asked(max_tokens=0))
        assert read == []
        small.close()

    # --- vectors ---

    def test_embeddings_say_what_their_tokens_say(
        self, answers: LlamaCppBackend, table: Any
    ) -> None:
        text = "The kettle holds 1.7 litres and is blue."
        request = soft(answers, table, text, repetition_penalty=1.01)
        _, rest = request.prompt.segments
        plain = replace(request, prompt=Prompt((Segment(text=text), rest)))
        marks, tokens = answers.encode(request), answers.encode(plain)
        assert marks != tokens
        assert [mark if mark >= 0 else n for mark, n in zip(marks, tokens, strict=True)] == tokens
        said, expected = one(answers, request), one(answers, plain)
        assert (said.text, said.prompt_tokens) == (expected.text, expected.prompt_tokens)
        answers.close()  # what is remembered is rounded in another way than what is read at once
        assert "".join(chunk.text for chunk in answers.stream(request)) == said.text
        print(said.text)

    def test_vectors_are_shared_and_remembered_as_text_is(
        self, answers: LlamaCppBackend, table: Any
    ) -> None:
        first = soft(answers, table, LONG, max_tokens=3)
        begun = first.prompt.segments
        others = [replace(first, prompt=Prompt((*begun, Segment(text=f" {i}")))) for i in range(3)]
        with calls(answers) as read:
            together = answers.complete([first, *others])
        assert read[0][0] > 90 and all(own < 40 for own in read[1])
        with calls(answers) as read:
            alone = [one(answers, request) for request in (first, *others)]
        assert all(rows[0] < 40 for rows in read)
        assert [done.text for done in alone] == [done.text for done in together]

    def test_vectors_that_cant_be_read_are_refused(
        self, answers: LlamaCppBackend, table: Any
    ) -> None:
        for vectors, fault in [
            (SoftPrompt(table[:2, :3]), "have 3 values"),
            (SoftPrompt(table[:2], model="other"), "made for the model 'other'"),
        ]:
            with pytest.raises(ConfigError, match=fault):
                one(answers, standing(vectors))
        prefix = KVPrefix([(table[None, :2, :4], table[None, :2, :4])])
        with pytest.raises(ConfigError, match="kv_prefix"):
            one(answers, asked(kv_prefix=prefix))

    # --- streams, threads, ends ---

    async def test_a_stream_that_was_left_takes_no_room(self, answers: LlamaCppBackend) -> None:
        request = asked(LONG, max_tokens=60)
        small = but(answers, kv_tokens=len(answers.encode(request)) + 60)
        for _ in range(3):
            stream: Any = small.astream(request)
            await anext(stream)
            await stream.aclose()
        small.close()

    async def test_callers_of_all_sorts_are_answered_together(
        self, answers: LlamaCppBackend
    ) -> None:
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
        assert max(map(len, read)) > 1

    def test_closing_gives_the_memory_back_and_the_next_opens_again(
        self, answers: LlamaCppBackend
    ) -> None:
        before = one(answers, asked())
        batch = answers._batch()
        answers.close()
        answers.close()
        with pytest.raises(RuntimeError, match="closed"):
            batch.context.read([(0, 0, [1])])
        del batch
        assert one(answers, asked()) == before

    async def test_who_waits_while_it_is_closed_is_told(self, answers: LlamaCppBackend) -> None:
        stream = answers.astream(asked(max_tokens=2000))
        await anext(stream)
        waiting = asyncio.create_task(answers.acomplete([asked(max_tokens=2000)]))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(answers.close)
        with pytest.raises(BackendError, match="stopped"):
            await waiting

    def test_a_failure_of_llama_cpp_is_told_and_the_next_is_answered(
        self, answers: LlamaCppBackend
    ) -> None:
        before = one(answers, asked())
        lib = answers._batch().context.lib

        class Broken:
            def __init__(self, code: int) -> None:
                self.code = code

            def __getattr__(self, name: str) -> Any:
                return (lambda *_: self.code) if name == "llama_decode" else getattr(lib, name)

        for code, said, passes in [(1, "out of memory.*lower kv_tokens", True), (-3, "-3", False)]:
            answers._batch().context.lib = Broken(code)
            for many in ([asked("Something new")], POINTS):
                with pytest.raises(BackendError, match=said) as caught:
                    answers.complete(many)
                assert caught.value.retryable is passes
            answers._batch().context.lib = lib
            assert one(answers, asked()) == before

    def test_a_failure_amidst_many_leaves_no_trace(self, answers: LlamaCppBackend) -> None:
        def fail(count: int) -> None:
            if count == 5:
                raise RuntimeError("broken")

        with calls(answers, fail), pytest.raises(BackendError, match="broken"):
            answers.complete(POINTS)
        assert len(answers.complete(POINTS)) == 6
        sequences = answers._batch().sequences
        assert sequences._ledger.taken() == sequences.kept, "only the common beginning is kept"
