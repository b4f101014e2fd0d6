"""Reads a prompt of ours: for those who send it to a backend of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tersely.prompt import Prompt


@dataclass(frozen=True, slots=True)
class PromptAdapter:
    """A `Prompt` as it is. It is the only shape of a request that soft input can stand in."""

    name: str = "prompt"

    def matches(self, request: Any, /) -> bool:
        return isinstance(request, Prompt)

    def read(self, request: Any, /) -> Prompt:
        prompt: Prompt = request
        return prompt


PROMPT = PromptAdapter()
