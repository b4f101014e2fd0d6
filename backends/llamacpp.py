"""Models of GGUF files that run here, in llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar

from pydantic import Field

from tersely.backends.answering import Answering, check, check_length
from tersely.backends.cpus import threads
from tersely.backends.decode import Answer
from tersely.backends.engine import Engine, dismiss, engine_of
from tersely.backends.llamacpp_batch import LlamaBatch
from tersely.backends.llamacpp_weights import Weights, weights
from tersely.backends.local import encoded
from tersely.backends.places import Places
from tersely.backends.ticket import Limits, Note, Ticket
from tersely.contracts import Capability, Request
from tersely.errors import ConfigError
from tersely.soft import check_vectors
from tersely.wishes import refuse_unable


class LlamaCppBackend(Answering):
    """Answers with the model of a GGUF file in this process, by llama.cpp.

    `model` is a file, a folder that holds one, or a name of ours; it is loaded on first use. All
    requests to it that are under way in this process, by backends of the same settings, are
    answered together, a token for each in one call: they enter and leave between two tokens (see
    `Engine`). What prompts begin with in common is read once and copied, which costs nothing, and
    `prefix_tokens` tokens of recent prompts are remembered.

    `batch_size` answers are made at once, `batch_tokens` new tokens of prompts are read at once,
    and `kv_tokens` tokens have their keys and values in memory, what is shared counting once. Other
    requests wait.

    `threads` are as many as this process has cores when left out; more than there are free cores
    are ruinous. `gpu_layers` layers run on a GPU, where llama.cpp was compiled for one (-1: all).

    A model's file tells its chat template. Answers to one prompt may differ in a word by who their
    neighbours are and by what is remembered, since llama.cpp rounds several tokens at once in
    another way than one. For log-probabilities, grammars and a last turn of the assistant see
    `LocalBackend`. llama.cpp itself is silent: what it says of a failure becomes part of the error.
    Needs the extra `llamacpp`.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            "alternatives",
            "embeds",
            "grammar",
            "logprobs",
            "parallel",
            "prefill",
            "prefix_sharing",
            "repetition_penalty",
            "stream",
        }
    )

    model: str = "smollm2"
    batch_size: int = Field(default=16, ge=1, le=64)
    batch_tokens: int = Field(default=2048, ge=1)
    kv_tokens: int = Field(default=8192, ge=1)
    prefix_tokens: int = Field(default=2048, ge=0)
    threads: int = Field(default_factory=threads, ge=1)
    gpu_layers: int = Field(default=-1, ge=-1)

    def encode(self, request: Request) -> list[int]:
        """The tokens that the model reads, as `LocalBackend.encode`."""
        return encoded(request, self._batch().weights, self.model)

    def close(self) -> None:
        """Give the model's memory back. Raises BackendError where somebody waits for an answer.

        It is for all backends of the same settings; a later request loads the model again.
        """
        if (stopped := dismiss(self._key())) is not None:
            batch = stopped.batch
            assert isinstance(batch, LlamaBatch)
            batch.close()

    def _key(self) -> Hashable:
        return (
            type(self),
            self.model,
            self.batch_size,
            self.kv_tokens,
            self.threads,
            self.gpu_layers,
        )

    def _engine(self) -> Engine:
        return engine_of(self._key(), self._opened)

    def _opened(self) -> LlamaBatch:
        loaded = weights(self.model, self.gpu_layers)
        return LlamaBatch(loaded, rows=self.batch_size, tokens=self.kv_tokens, threads=self.threads)

    def _batch(self) -> LlamaBatch:
        batch = self._engine().batch
        assert isinstance(batch, LlamaBatch)
        return batch

    def _answers(self, requests: Sequence[Request], loaded: Weights) -> list[Answer]:
        """An empty answer for each request, all checked before the first is computed."""
        answers = []
        for request in requests:
            check(request)
            refuse_unable(request, self.capabilities)
            tokens = encoded(request, loaded, self.model)
            check_length(request, tokens, loaded.max_length, self.model)
            answer = Answer.to(request, tokens, loaded)
            answer.soft = soft_places(request, loaded, self.model)
            answer.guide = loaded.guide(request.grammar) if request.grammar.strip() else None
            answers.append(answer)
        return answers

    def _ticket(
        self, requests: Sequence[Request], send: Callable[[Note], None], *, streamed: bool = False
    ) -> Ticket:
        limits = Limits(
            rows=self.batch_size,
            read=self.batch_tokens,
            held=None,
            kept=self.prefix_tokens,
        )
        answers = self._answers(requests, self._batch().weights)
        return Ticket(answers, self.model, limits, send, streamed=streamed)


def soft_places(request: Request, loaded: Weights, model: str) -> Places:
    """The vectors of a request. Raises ConfigError when the model can't read them."""
    made = Places()
    for soft in request.vectors:
        if not loaded.embeds:
            raise ConfigError(f"{model!r} gives a token several positions, and takes no vectors")
        check_vectors(soft, loaded.width, model)
        made.vectors.update(zip(soft.places, soft.vectors.float(), strict=True))
    return made
