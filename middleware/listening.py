"""Listen to an answer while it is made, and tell what was heard."""

from __future__ import annotations

from dataclasses import dataclass, field

from tersely.contracts import Chunk, Completion
from tersely.plans import Until


@dataclass(slots=True)
class Hearing:
    """What was heard of an answer so far."""

    until: Until | None = None
    texts: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    whole: Completion | None = None

    def add(self, chunk: Chunk) -> bool:
        """Add a piece; whether that is enough."""
        self.texts.append(chunk.text)
        self.tokens += chunk.tokens
        self.logprobs += chunk.logprobs
        self.whole = chunk.completion
        return self.until is not None and self.until("".join(self.texts))

    @property
    def completion(self) -> Completion:
        """The answer as it came, or as far as it came."""
        return self.whole or Completion(
            text="".join(self.texts),
            completion_tokens=len(self.tokens),
            finish_reason="cancelled",
            logprobs=tuple(self.logprobs),
            tokens=tuple(self.tokens),
        )
