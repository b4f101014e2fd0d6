"""Models that run here, in transformers, on the GPU or the CPU."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tersely.backends.decode import Answer, decode
from tersely.backends.mixture import Mixture, check_weights
from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import BackendError, ConfigError, ContextLengthError
from tersely.prompt import messages_of, sendable
from tersely.weights import CausalLM, Precision, causal_lm


class LocalBackend(BaseModel):
    """Answers with a model in this process.

    `model` is a name of ours, a folder or a hub id; its weights are loaded on first use. Up to
    `batch_size` requests are answered together, fewer when they are long: `batch_tokens` bounds
    a batch's prompts, padding included.

    In bfloat16 the rounding follows the padding, so that two nearly equal tokens may change
    places when a request gets other neighbours; `precision="float32"` rules that out.

    Log-probabilities are the model's own, before `temperature` and `top_p`. A last turn of the
    assistant is gone on with; it should not end in white space, which some templates cut away.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"alternatives", "logprobs", "mixes", "parallel", "prefill", "stream"}
    )

    model: str = "smollm2"
    precision: Precision = "auto"
    batch_size: int = Field(default=16, ge=1)
    batch_tokens: int = Field(default=16_384, ge=1)

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests.

        Raises ContextLengthError before anything is computed when one of them is too long, and
        ConfigError, ModelError or BackendError.
        """
        return self._complete(requests, Event())

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests, in a thread. Cancelling ends the work at the next token."""
        cancelled = Event()
        try:
            return await asyncio.to_thread(self._complete, requests, cancelled)
        finally:
            cancelled.set()

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece. No token is made unless the next piece is asked for."""
        return self._stream(request, Event())

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        """Answer piece by piece, in a thread. Cancelling ends the work at the next token."""
        cancelled = Event()
        chunks = self._stream(request, cancelled)
        try:
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield chunk
        finally:
            cancelled.set()
            with suppress(ValueError):  # still at its last token: it sees the event and ends
                chunks.close()

    def mix(self, requests: Sequence[Request], weights: Sequence[float], /) -> Completion:
        """Give several prompts one answer, by the settings of the first request (see `Mixture`).

        All prompts are held at once. The answer's `prompt_tokens` count what the prompts begin
        with in common once. Raises ConfigError unless the weights are above 0 and add up to 1.
        """
        check_weights(requests, weights)
        asked = [replace(requests[0], prompt=one.prompt, raw=one.raw) for one in requests]
        lm = self._lm()
        mixture = Mixture(lm, self._answers(asked, lm), weights)
        for _ in _running(mixture.steps(), Event()):
            pass
        return mixture.completion(self.model)

    def encode(self, request: Request) -> list[int]:
        """The tokens that the model reads: the chat template filled in, or the bare text.

        A last turn of the assistant is left open.
        """
        tokenizer = self._lm().tokenizer
        if request.raw or not tokenizer.chat_template:
            tokens = tokenizer.encode(sendable(request.prompt.text))
            return tokens or [tokenizer.bos_token_id or tokenizer.eos_token_id or 0]
        messages = messages_of(request.prompt)
        goes_on = messages[-1]["role"] == "assistant"
        try:
            text = tokenizer.apply_chat_template(
                messages,
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
                tokenize=False,
            )
        except Exception as error:  # a template raises what it likes
            raise BackendError(f"the chat template of {self.model!r} refused: {error}") from error
        return list(tokenizer.encode(text, add_special_tokens=False))

    def _lm(self) -> CausalLM:
        return causal_lm(self.model, precision=self.precision)

    def _answers(self, requests: Sequence[Request], lm: CausalLM) -> list[Answer]:
        """An empty answer for each request, all checked before the first is computed."""
        answers = []
        for request in requests:
            check(request)
            tokens = self.encode(request)
            if len(tokens) + request.max_tokens > lm.max_length:
                raise ContextLengthError(
                    f"{len(tokens)} prompt tokens and max_tokens={request.max_tokens} exceed the"
                    f" {lm.max_length} tokens that {self.model!r} can read; shorten the prompt or"
                    " lower max_tokens"
                )
            answers.append(Answer.to(request, tokens, lm.tokenizer))
        return answers

    def _complete(self, requests: Sequence[Request], cancelled: Event) -> list[Completion]:
        lm = self._lm()
        answers = self._answers(requests, lm)
        for batch in self._batches(answers):
            for _ in _running(decode(lm, batch), cancelled):
                pass
        return [answer.completion(self.model) for answer in answers]

    def _stream(self, request: Request, cancelled: Event) -> Generator[Chunk, None, None]:
        lm = self._lm()
        (answer,) = self._answers([request], lm)
        for _ in _running(decode(lm, [answer]), cancelled):
            if (fresh := answer.take_fresh()).text:
                yield fresh
        yield answer.last(self.model)

    def _batches(self, answers: Sequence[Answer]) -> Iterator[list[Answer]]:
        """Answers to prompts of about one length, so that little is spent on padding."""
        batch: list[Answer] = []
        for answer in sorted(answers, key=lambda answer: len(answer.prompt)):
            padded = len(answer.prompt) * (len(batch) + 1)
            if batch and (len(batch) == self.batch_size or padded > self.batch_tokens):
                yield batch
                batch = []
            batch.append(answer)
        if batch:
            yield batch


def check(request: Request) -> None:
    """Raise ConfigError when a request's settings can't be used."""
    if request.max_tokens < 1:
        raise ConfigError(f"max_tokens must be at least 1, was {request.max_tokens}")
    if not request.temperature >= 0:
        raise ConfigError(f"temperature must not be below 0, was {request.temperature}")
    if not 0 < request.top_p <= 1:
        raise ConfigError(f"top_p must be above 0 and at most 1, was {request.top_p}")
    if request.alternatives < 0:
        raise ConfigError(f"alternatives must not be below 0, was {request.alternatives}")


def _running(steps: Iterator[None], cancelled: Event) -> Iterator[None]:
    """A token loop, until it ends or is cancelled. Raises BackendError."""
    try:
        for _ in steps:
            yield
            if cancelled.is_set():
                return
    except RuntimeError as error:  # torch has no narrower one, for lack of memory either
        raise BackendError(f"the local model failed: {error}") from error
