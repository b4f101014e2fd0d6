"""A small embedder that needs no model: words are hashed to directions, and summed up."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tersely.lexical import terms_of
from tersely.retrieval import Vectors


@dataclass
class Hashing:
    """Texts that share words are alike. `seen` are the texts that it embedded."""

    width: int = 32
    name: str = "hashing"
    seen: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.name}-{self.width}"

    def documents(self, texts: Sequence[str], /) -> Vectors:
        self.seen += texts
        return self.queries(texts)

    def queries(self, texts: Sequence[str], /) -> Vectors:
        rows = np.array([self._row(text) for text in texts], np.float32).reshape(-1, self.width)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(lengths > 0, lengths, 1)

    def _row(self, text: str) -> Vectors:
        row = np.zeros(self.width, np.float32)
        for term in terms_of(text):
            seed = zlib.crc32(term.encode(errors="surrogatepass"))
            row += np.random.default_rng(seed).standard_normal(self.width, np.float32)
        return row
