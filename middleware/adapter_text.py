"""Reads a plain text: all of it is context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tersely.prompt import Prompt, Segment


@dataclass(frozen=True, slots=True)
class TextAdapter:
    """A text by itself, without roles."""

    name: str = "text"

    def matches(self, request: Any, /) -> bool:
        return isinstance(request, str)

    def read(self, request: Any, /) -> Prompt:
        return Prompt((Segment(text=request),))


TEXT = TextAdapter()
