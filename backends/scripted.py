"""A backend that says what it was told to, for tests."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from threading import Lock

from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import BackendError, ConfigError
from tersely.wishes import refuse_unable

Scripted = str | Completion | Exception
"""An answer: its text, all of it, or an error to raise."""

Mixer = Callable[[Sequence[Request], Sequence[float]], Scripted]
"""What one answer to several requests is, by their weights."""


class ScriptedBackend:
    """Answers from a list, in order, or from a function of the request.

    `requests` holds everything it was asked. Streams come word by word, with the tokens of an
    answer that has some. Words count as tokens. `mix` makes it answer several requests at once.
    Raises BackendError when it is asked more often than the list is long, and ConfigError where a
    request wants a grammar or a repetition penalty and `capabilities` don't tell of it.
    """

    def __init__(
        self,
        answers: Sequence[Scripted] | Callable[[Request], Scripted],
        *,
        capabilities: frozenset[Capability] = frozenset({"parallel", "stream"}),
        mix: Mixer | None = None,
    ) -> None:
        mixing: tuple[Capability, ...] = ("mixes",) if mix else ()
        self.capabilities = capabilities.union(mixing)
        self.requests: list[Request] = []
        self._answers = answers
        self._mix = mix
        self._lock = Lock()

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        for request in requests:
            refuse_unable(request, self.capabilities)
        return [self._answer(request) for request in requests]

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        return self.complete(requests)

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        (completion,) = self.complete([request])
        yield from _word_by_word(completion)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        for chunk in self.stream(request):
            yield chunk

    def mix(self, requests: Sequence[Request], weights: Sequence[float], /) -> Completion:
        """The answer of the function `mix`. Raises ConfigError when there is none."""
        if self._mix is None:
            raise ConfigError("this script can't mix answers: give it a function `mix`")
        for request in requests:
            refuse_unable(request, self.capabilities)
        with self._lock:
            self.requests.extend(requests)
        return _said(self._mix(requests, weights), requests)

    def _answer(self, request: Request) -> Completion:
        return _said(self._next(request), [request])

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


def _said(answer: Scripted, requests: Sequence[Request]) -> Completion:
    if isinstance(answer, Exception):
        raise answer
    if isinstance(answer, Completion):
        return answer
    return Completion(
        text=answer,
        prompt_tokens=sum(len(request.prompt.text.split()) for request in requests),
        completion_tokens=len(answer.split()),
        model="scripted",
    )


def _word_by_word(completion: Completion) -> Iterator[Chunk]:
    """The words of an answer; a token comes with the word in which it ends."""
    ends = [*accumulate(len(token) for token in completion.tokens)]
    told = said = 0
    for word in re.findall(r"\S+\s*|\s+", completion.text):
        said += len(word)
        upto = bisect_right(ends, said)
        yield _piece(completion, word, told, upto)
        told = upto
    rest = _piece(completion, "", told, max(len(ends), len(completion.logprobs)))
    yield replace(rest, completion=completion)


def _piece(completion: Completion, text: str, start: int, end: int) -> Chunk:
    tokens, logprobs = completion.tokens[start:end], completion.logprobs[start:end]
    return Chunk(text=text, tokens=tokens, logprobs=logprobs)
