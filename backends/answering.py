"""What is asked of an engine, by all backends that have one: whole, awaited and streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf

from pydantic import BaseModel, ConfigDict

from tersely.backends.engine import Engine
from tersely.backends.ticket import Letterbox, LoopLetterbox, Note, Ticket
from tersely.contracts import Chunk, Completion, Request
from tersely.errors import ConfigError, ContextLengthError


class Answering(BaseModel):
    """Base of the backends whose answers an engine in this process makes.

    A subclass gives the `model`, the engine, and the ticket for what is asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests.

        Raises ContextLengthError before anything is computed when one of them is too long, and
        ConfigError, ModelError or BackendError.
        """
        box = Letterbox()
        ticket = self._ticket(requests, box.put)
        with self._answering(ticket):
            box.take()
        return [answer.completion(self.model) for answer in ticket.answers]

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests, as `complete`. Cancelling ends the work at the next token."""
        box = LoopLetterbox()
        ticket = await asyncio.to_thread(self._ticket, requests, box.put)
        with self._answering(ticket):
            await box.take()
        return [answer.completion(self.model) for answer in ticket.answers]

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece.

        No token is made unless the next piece of some stream, or a whole answer, is waited for.
        """
        box = Letterbox()
        ticket = self._ticket([request], box.put, streamed=True)
        with self._answering(ticket) as engine:
            while (chunk := box.take()) is not None:
                ticket.heard += 1
                yield chunk
                engine.want(ticket)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        """Answer piece by piece, as `stream`. Cancelling ends the work at the next token."""
        box = LoopLetterbox()
        ticket = await asyncio.to_thread(self._ticket, [request], box.put, streamed=True)
        with self._answering(ticket) as engine:
            while (chunk := await box.take()) is not None:
                ticket.heard += 1
                yield chunk
                engine.want(ticket)

    def _engine(self) -> Engine:
        """The engine of this model: one for all who use it in this process."""
        raise NotImplementedError

    def _ticket(
        self, requests: Sequence[Request], send: Callable[[Note], None], *, streamed: bool = False
    ) -> Ticket:
        """An empty answer for each request, all checked before the first is computed."""
        raise NotImplementedError

    @contextmanager
    def _answering(self, ticket: Ticket) -> Iterator[Engine]:
        """Give a ticket to the engine, and let go of it in the end."""
        running = self._engine()
        running.submit(ticket)
        try:
            yield running
        finally:
            running.cancel(ticket)


def check_length(request: Request, tokens: Sequence[int], most: int, model: str) -> None:
    """Raise ContextLengthError when a prompt and its answer are more than a model can read."""
    if len(tokens) + request.max_tokens > most:
        raise ContextLengthError(
            f"{len(tokens)} prompt tokens and max_tokens={request.max_tokens} exceed the {most}"
            f" tokens that {model!r} can read; shorten the prompt or lower max_tokens"
        )


def check(request: Request) -> None:
    """Raise ConfigError when a request's settings can't be used."""
    if request.max_tokens < 1:
        raise ConfigError(f"max_tokens must be at least 1, was {request.max_tokens}")
    if not request.temperature >= 0:
        raise ConfigError(f"temperature must not be below 0, was {request.temperature}")
    if not 0 < request.top_p <= 1:
        raise ConfigError(f"top_p must be above 0 and at most 1, was {request.top_p}")
    if request.model:
        raise ConfigError(
            f"this backend is one model, and model={request.model!r} was asked for: put several"
            " together by tersely.backends.several"
        )
    if request.alternatives < 0:
        raise ConfigError(f"alternatives must not be below 0, was {request.alternatives}")
    if not 0 < request.repetition_penalty < inf:
        raise ConfigError(
            f"repetition_penalty must be above 0 (1 is none), was {request.repetition_penalty}"
        )
