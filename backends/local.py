"""Models that run here, in transformers, on the GPU or the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from tersely.backends.answering import Answering, check, check_length
from tersely.backends.decode import Answer
from tersely.backends.engine import Engine, engine, told
from tersely.backends.grammar import guide
from tersely.backends.lookup import Guesses, guesses
from tersely.backends.marks import filled_in, marked
from tersely.backends.mixture import Mixture, check_weights
from tersely.backends.prefix import can_pad
from tersely.backends.soft_input import embedded, places, read_prefix
from tersely.backends.ticket import Limits, Note, Ticket
from tersely.contracts import Capability, Completion, Request
from tersely.errors import BackendError, ConfigError
from tersely.prompt import messages_of, sendable
from tersely.soft import KVPrefix, SoftPrompt
from tersely.weights import CausalLM, LMPrecision, causal_lm


class LocalBackend(Answering):
    """Answers with a model in this process.

    `model` is a name of ours, a folder or a hub id; its weights are loaded on first use. All
    requests to one model that are under way in this process at the same time, whole or streamed,
    are answered together: they enter and leave between two tokens (see `Engine`). What prompts
    begin with in common is read once, and `prefix_tokens` tokens of recent prompts are remembered.

    `batch_size` answers are made at once, prompts of `batch_tokens` tokens are read at once,
    padding included, and `kv_tokens` tokens have their keys and values in memory, each request
    with as many as the longest one may come to (None: what two fifths of the free memory hold).
    Other requests wait. Where backends of one model differ in this, the tightest of those under
    way counts.

    In bfloat16 and int8 the rounding follows the neighbours, so that two nearly equal tokens may
    change places when a request gets others; `precision="float32"` rules that out. `int8` rounds
    the weights too, and is the fastest on a CPU.

    While one answer is under way alone, the tokens that followed its last ones earlier in prompt or
    answer are guessed to follow again, `lookup` at most, and read at once (0: never). Of them
    stands what would have been chosen anyway; `guesses` counts those.

    Log-probabilities are the model's own, before `temperature`, `top_p`, a grammar and a repetition
    penalty. An answer ends where its grammar is complete. A last turn of the
    assistant is gone on with; it should not end in white space, which some templates cut away.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            "alternatives",
            "embeds",
            "grammar",
            "kv_prefix",
            "logprobs",
            "mixes",
            "parallel",
            "prefill",
            "prefix_sharing",
            "repetition_penalty",
            "stream",
        }
    )

    model: str = "smollm2"
    precision: LMPrecision = "auto"
    batch_size: int = Field(default=16, ge=1)
    batch_tokens: int = Field(default=16_384, ge=1)
    kv_tokens: int | None = Field(default=None, ge=1)
    prefix_tokens: int = Field(default=8192, ge=0)
    lookup: int = Field(default=5, ge=0)

    def mix(self, requests: Sequence[Request], weights: Sequence[float], /) -> Completion:
        """Give several prompts one answer, by the settings of the first request (see `Mixture`).

        All prompts are held at once. The answer's `prompt_tokens` count what the prompts begin
        with in common once. Raises ConfigError unless the weights are above 0 and add up to 1,
        for a KV prefix, and for a model with a state of its own.
        """
        check_weights(requests, weights)
        if any(one.prefix is not None for one in requests):
            raise ConfigError("a mix takes no KV prefix: put its text in front of the prompts")
        if len(requests) > 1 and not can_pad(self._lm()):
            raise ConfigError(
                f"{self.model!r} keeps a state of its own, and can't read {len(requests)} prompts"
                " side by side: ask with one"
            )
        like = requests[0]
        asked = [replace(like, prompt=one.prompt, raw=one.raw) for one in requests]
        lm = self._lm()
        mixture = Mixture(lm, self._answers(asked, lm), weights)
        try:
            for _ in mixture.steps():
                pass
        except RuntimeError as error:
            raise told(error) from error
        return mixture.completion(self.model)

    @property
    def guesses(self) -> Guesses:
        """How well `lookup` guessed for this model since the process began."""
        return guesses(self._lm())

    def encode(self, request: Request) -> list[int]:
        """The tokens that the model reads: the chat template filled in, or the bare text.

        A last turn of the assistant is left open. Where a vector or a token of a KV prefix stands,
        there is a number below 0.
        """
        return encoded(request, self._lm().tokenizer, self.model)

    def embed(self, text: str) -> SoftPrompt:
        """The embeddings of a text's tokens: in its place they say what it says."""
        return embedded(self._lm(), text, self.model)

    def prefix(self, text: str) -> KVPrefix:
        """The keys and values of a text that was read, to be gone on from without reading it.

        The tokens with which the model begins any text are among them. Raises ConfigError for a
        model with a window or a state of its own.
        """
        return read_prefix(self._lm(), text, self.model)

    def _lm(self) -> CausalLM:
        return causal_lm(self.model, precision=self.precision)

    def _engine(self) -> Engine:
        return engine(self._lm())

    def _answers(self, requests: Sequence[Request], lm: CausalLM) -> list[Answer]:
        """An empty answer for each request, all checked before the first is computed."""
        answers = []
        for request in requests:
            check(request)
            soft = places(request, lm, self.model)
            tokens = self.encode(request)
            check_length(request, tokens, lm.max_length, self.model)
            answer = Answer.to(request, tokens, lm.tokenizer)
            answer.guide = guide(lm, request.grammar) if request.grammar.strip() else None
            answer.lookup = self.lookup
            answer.soft = soft
            answers.append(answer)
        return answers

    def _ticket(
        self, requests: Sequence[Request], send: Callable[[Note], None], *, streamed: bool = False
    ) -> Ticket:
        limits = Limits(
            rows=self.batch_size,
            read=self.batch_tokens,
            held=self.kv_tokens,
            kept=self.prefix_tokens,
        )
        answers = self._answers(requests, self._lm())
        return Ticket(answers, self.model, limits, send, streamed=streamed)


def encoded(request: Request, tokenizer: Any, model: str) -> list[int]:
    """The tokens of a request; `model` is named where its chat template refuses.

    Soft input has numbers below 0 (see `places`). Behind a KV prefix bare text begins without the
    tokens that begin any text.
    """
    asked, marks = marked(request)
    raw = request.raw or not tokenizer.chat_template
    text = sendable(asked.prompt.text) if raw else _templated(asked, tokenizer, model)
    begins = raw and request.prefix is None
    tokens: list[int] = []
    for part in filled_in(text, marks, model):
        if isinstance(part, str):
            tokens += tokenizer.encode(part, add_special_tokens=begins)
        else:
            tokens += part.places
        begins = False
    tokens = tokens or [tokenizer.bos_token_id or tokenizer.eos_token_id or 0]
    return tokens if request.kv_prefix is None else [*request.kv_prefix.places, *tokens]


def _templated(request: Request, tokenizer: Any, model: str) -> str:
    messages = messages_of(request.prompt)
    goes_on = messages[-1]["role"] == "assistant"
    try:
        text: str = tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=not goes_on,
            continue_final_message=goes_on,
            tokenize=False,
        )
    except Exception as error:  # a template raises what it likes
        raise BackendError(f"the chat template of {model!r} refused: {error}") from error
    return text
