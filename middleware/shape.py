"""What a provider's format must be able to do, for its calls to carry out a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tersely.contracts import Capability, Chunk, Completion, FinishReason, Request

CAN: frozenset[Capability] = frozenset({"models", "parallel", "stream"})
"""What is asked of a provider whose client is wrapped."""


@dataclass(slots=True)
class Heard:
    """What the events of one call told so far, besides its text."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    finish: FinishReason | None = None
    model: str = ""

    def whole(self, text: str) -> Completion:
        """The answer that has ended."""
        return Completion(
            text=text,
            prompt_tokens=self.prompt,
            cached_tokens=self.cached,
            completion_tokens=self.completion,
            finish_reason=self.finish or "other",
            model=self.model,
        )


class Saying(Protocol):
    """A stream of an answer as bytes, event by event."""

    def begin(self) -> bytes: ...
    def piece(self, chunk: Chunk, /) -> bytes: ...
    def end(self, answer: Completion, /) -> Iterator[bytes]: ...
    def broken(self, error: Exception, /) -> bytes: ...


class Shape(Protocol):
    """A provider's format: requests are read and written, answers are heard and told."""

    @property
    def sdk(self) -> str: ...
    def read(self, body: Mapping[str, Any], /) -> Request: ...
    def call(self, body: Mapping[str, Any], request: Request, *, whole: bool) -> dict[str, Any]: ...
    def heard(self, heard: Heard, part: Mapping[str, Any], /) -> str: ...
    def whole(self, body: Mapping[str, Any], answer: Completion, /) -> bytes: ...
    def saying(self, body: Mapping[str, Any], model: str, /) -> Saying: ...
