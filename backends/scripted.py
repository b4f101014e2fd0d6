"""A backend that says what it was told to, for tests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from threading import Lock

from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import BackendError

Scripted = str | Completion | Exception
"""An answer: its text, all of it, or an error to raise."""


class ScriptedBackend:
    """Answers from a list, in order, or from a function of the request.

    `requests` holds everything it was asked. Streams come word by word. Words count as tokens.
    Raises BackendError when it is asked more often than the list is long.
    """

    def __init__(
        self,
        answers: Sequence[Scripted] | Callable[[Request], Scripted],
        *,
        capabilities: frozenset[Capability] = frozenset({"parallel", "stream"}),
    ) -> None:
        self.capabilities = capabilities
        self.requests: list[Request] = []
        self._answers = answers
        self._lock = Lock()

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        return [self._answer(request) for request in requests]

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        return self.complete(requests)

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        completion = self._answer(request)
        for word in re.findall(r"\S+\s*|\s+", completion.text):
            yield Chunk(text=word)
        yield Chunk(text="", completion=completion)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        for chunk in self.stream(request):
            yield chunk

    def _answer(self, request: Request) -> Completion:
        answer = self._next(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completion):
            return answer
        return Completion(
            text=answer,
            prompt_tokens=len(request.prompt.text.split()),
            completion_tokens=len(answer.split()),
            model="scripted",
        )

    def _next(self, request: Request) -> Scripted:
        with self._lock:
            self.requests.append(request)
            if callable(self._answers):
                return self._answers(request)
            if len(self.requests) > len(self._answers):
                raise BackendError(
                    f"the script has {len(self._answers)} answers and was asked for one more"
                )
            return self._answers[len(self.requests) - 1]
