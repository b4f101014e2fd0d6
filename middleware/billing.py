"""A backend that adds up what its calls are billed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence

from tersely.contracts import Backend, Capability, Chunk, Completion, Context, Request
from tersely.middleware.listening import Hearing

TELLING = ("batch_size", "models", "parallel")
"""What backends tell of themselves to plans, where they do."""


class Billed:
    """Another backend, with the tokens of all its calls as the provider tells them.

    Of an answer that was broken off nobody tells the tokens: they are counted here, as those of
    backends that tell none. Then `told` is False. A call that failed before it said anything is
    not billed.
    """

    def __init__(self, backend: Backend, context: Context) -> None:
        self._backend, self._context = backend, context
        self.prompt = self.cached = self.completion = 0
        self.told = True
        self.model = str(getattr(backend, "model", ""))
        self.base_url = str(getattr(backend, "base_url", "") or type(backend).__name__)
        for name in TELLING:
            if hasattr(backend, name):
                setattr(self, name, getattr(backend, name))

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities

    @property
    def spent(self) -> int:
        """Tokens of all calls, read and made."""
        return self.prompt + self.completion

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests, as the backend does."""
        return self._noted(requests, self._backend.complete(requests))

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests without blocking, as the backend does."""
        return self._noted(requests, await self._backend.acomplete(requests))

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece, as the backend does."""
        heard = Hearing()
        chunks = self._backend.stream(request)
        failed = False
        try:
            for chunk in chunks:
                heard.add(chunk)
                yield chunk
        except Exception:
            failed = True
            raise
        finally:
            if isinstance(chunks, Generator):
                chunks.close()
            self._note(request, heard.completion, failed=failed)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        """Answer piece by piece without blocking, as the backend does."""
        heard = Hearing()
        chunks = self._backend.astream(request)
        failed = False
        try:
            async for chunk in chunks:
                heard.add(chunk)
                yield chunk
        except Exception:
            failed = True
            raise
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
            self._note(request, heard.completion, failed=failed)

    def _noted(
        self, requests: Sequence[Request], completions: list[Completion]
    ) -> list[Completion]:
        for request, completion in zip(requests, completions, strict=True):
            self._note(request, completion, failed=False)
        return completions

    def _note(self, request: Request, heard: Completion, *, failed: bool) -> None:
        if failed and not heard.text:
            return
        self.told = self.told and heard.prompt_tokens > 0
        self.prompt += heard.prompt_tokens or self._context.tokens(request.prompt)
        self.cached += heard.cached_tokens
        made = heard.completion_tokens
        self.completion += made or (self._context.count(heard.text) if heard.text else 0)
