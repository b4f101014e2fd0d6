"""What every backend keeps to, each promise as far as the backend declares the capability.

A test file makes a subclass of `BackendContract` whose fixture `answers` gives the backend.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tersely.contracts import Backend, Capability, Completion, Request
from tersely.errors import ConfigError, ContextLengthError
from tersely.prompt import Prompt, Segment

QUESTION = "Tell me about the sea."
BEGUN = "The sea is a"
EITHER = 'root ::= "yes" | "no"'


def asked(text: str = QUESTION, begun: str = "", **wishes: Any) -> Request:
    segments = [Segment(text=text, kind="question")]
    if begun:
        segments.append(Segment(text=begun, role="assistant", turn=1))
    return Request(prompt=Prompt(tuple(segments)), **{"max_tokens": 12, **wishes})


def one(backend: Backend, request: Request) -> Completion:
    (done,) = backend.complete([request])
    return done


def needs(backend: Backend, capability: Capability) -> None:
    if capability not in backend.capabilities:
        pytest.skip(f"declares no {capability}")


class BackendContract:
    too_long: int = 9000
    """Words that no context of the engine holds; 0: it tells of no limit."""

    def test_an_answer_is_told_with_its_usage(self, answers: Backend) -> None:
        done = one(answers, asked(max_tokens=5))
        assert done.text
        assert done.prompt_tokens >= len(QUESTION.split())
        assert 0 < done.completion_tokens <= 5

    def test_no_more_tokens_than_were_asked_for(self, answers: Backend) -> None:
        done = one(answers, asked(max_tokens=2))
        assert (done.completion_tokens, done.finish_reason) == (2, "length")

    def test_raw_text_is_gone_on_with(self, answers: Backend) -> None:
        done = one(answers, asked(BEGUN, raw=True, max_tokens=4))
        assert done.text and not done.text.startswith(BEGUN)

    def test_a_greedy_answer_is_the_same_again(self, answers: Backend) -> None:
        assert one(answers, asked()).text == one(answers, asked()).text

    def test_a_seed_fixes_the_answer(self, answers: Backend) -> None:
        wishes = {"temperature": 1.0, "seed": 3}
        assert one(answers, asked(**wishes)).text == one(answers, asked(**wishes)).text

    def test_an_answer_ends_before_a_stop_string(self, answers: Backend) -> None:
        whole = one(answers, asked()).text
        stop = whole[len(whole) // 2 :][:3]
        done = one(answers, asked(stop=(stop,)))
        assert done.finish_reason == "stop"
        assert done.text == whole[: whole.index(stop)]

    def test_a_stream_says_what_the_whole_answer_says(self, answers: Backend) -> None:
        needs(answers, "stream")
        *_, last = chunks = [*answers.stream(asked())]
        whole = one(answers, asked())
        assert "".join(chunk.text for chunk in chunks) == whole.text
        assert last.completion is not None
        assert last.completion.text == whole.text
        assert last.completion.completion_tokens == whole.completion_tokens
        assert last.completion.finish_reason == whole.finish_reason

    def test_a_begun_answer_is_gone_on_with_and_not_repeated(self, answers: Backend) -> None:
        needs(answers, "prefill")
        begun = asked(begun=BEGUN, max_tokens=6)
        done = one(answers, begun)
        assert done.text and not done.text.startswith(BEGUN)
        streamed = "".join(chunk.text for chunk in answers.stream(begun))
        assert streamed == done.text

    def test_a_grammar_is_kept_to(self, answers: Backend) -> None:
        needs(answers, "grammar")
        for done in answers.complete([asked(grammar=EITHER), asked("Is it?", grammar=EITHER)]):
            assert done.text in {"yes", "no"}

    def test_a_repetition_penalty_changes_a_repetitive_answer(self, answers: Backend) -> None:
        needs(answers, "repetition_penalty")
        text, tokens = "Say over and over: one two one two one two", 24
        free = one(answers, asked(text, max_tokens=tokens)).text.split()
        kept = one(answers, asked(text, max_tokens=tokens, repetition_penalty=1.8)).text.split()
        assert free != kept

    def test_what_it_cant_do_is_refused(self, answers: Backend) -> None:
        if "grammar" not in answers.capabilities:
            with pytest.raises(ConfigError, match="grammar"):
                answers.complete([asked(grammar=EITHER)])
        if "repetition_penalty" not in answers.capabilities:
            with pytest.raises(ConfigError, match="repetition_penalty"):
                [*answers.stream(asked(repetition_penalty=1.3))]

    def test_log_probabilities_come_with_the_tokens_of_the_text(self, answers: Backend) -> None:
        needs(answers, "logprobs")
        done = one(answers, asked(logprobs=True))
        assert "".join(done.tokens).startswith(done.text)
        assert len(done.tokens) == len(done.logprobs) >= done.completion_tokens - 1 > 0
        assert all(logprob <= 0 for logprob in done.logprobs)

    def test_alternatives_hold_the_likeliest(self, answers: Backend) -> None:
        needs(answers, "alternatives")
        done = one(answers, asked(logprobs=True, alternatives=2))
        assert len(done.alternatives) == len(done.tokens)
        assert all(1 <= len(likeliest) <= 2 for likeliest in done.alternatives)

    def test_many_are_answered_in_their_order(self, answers: Backend) -> None:
        limits = [1, 5, 2, 4, 3, 1, 2, 6]
        done = answers.complete([asked(max_tokens=limit) for limit in limits])
        assert [answer.completion_tokens for answer in done] == limits

    async def test_streams_at_once_are_all_whole(self, answers: Backend) -> None:
        needs(answers, "parallel")
        needs(answers, "stream")

        async def heard(limit: int) -> int:
            last = None
            async for chunk in answers.astream(asked(max_tokens=limit)):
                last = chunk.completion
            assert last is not None
            return last.completion_tokens

        assert await asyncio.gather(*map(heard, (8, 7, 6, 5))) == [8, 7, 6, 5]

    async def test_after_a_stream_that_was_left_it_answers(self, answers: Backend) -> None:
        needs(answers, "stream")
        stream: Any = answers.astream(asked(max_tokens=200))
        await anext(stream)
        await stream.aclose()
        (done,) = await answers.acomplete([asked(max_tokens=3)])
        assert done.completion_tokens == 3

    def test_a_prompt_too_long_is_told_as_such(self, answers: Backend) -> None:
        if not self.too_long:
            pytest.skip("tells of no limit")
        with pytest.raises(ContextLengthError):
            one(answers, asked("word " * self.too_long))
