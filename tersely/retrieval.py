"""What is found for a question: passages, and who finds and embeds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Rows of length 1. Shape: (texts, width)."""


def unit(rows: NDArray[np.floating[Any]]) -> Vectors:
    """The rows, each of length 1; a row of zeros stays one. Shape: (texts, width)."""
    found = rows.astype(np.float32)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    np.divide(found, lengths, out=found, where=lengths > 0)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A stretch of a text that was found for a question.

    `id` names the passage, and `source` the text it was taken from, characters `start` to `end`.
    A higher `score` is a better one; scores of one search can be compared with each other only.
    """

    text: str
    id: str = ""
    source: str = ""
    start: int = 0
    end: int = 0
    score: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Searcher(Protocol):
    """Finds passages for a question, the best first, and never more than asked for."""

    def search(self, question: str, k: int, /) -> Sequence[Passage]: ...
    async def asearch(self, question: str, k: int, /) -> Sequence[Passage]: ...


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors of length 1, so that a dot product tells how alike two are.

    `key` is what its vectors are known by (model, revision, pooling, precision): vectors of equal
    keys can be compared. `width` is the length of a row. Safe to use from several threads.
    """

    @property
    def key(self) -> str: ...
    @property
    def width(self) -> int: ...
    def documents(self, texts: Sequence[str], /) -> Vectors: ...
    def queries(self, texts: Sequence[str], /) -> Vectors: ...
