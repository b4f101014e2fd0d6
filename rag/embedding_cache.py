"""Nothing is embedded twice: vectors on disk, for all processes and threads that ask."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tersely.rag.vector_file import VectorFile
from tersely.retrieval import Embedder, Vectors, unit

Kind = Literal["document", "query"]

MEGABYTE = 2**20

BATCH = 1024
"""Texts that are embedded before their vectors are written: what a crash can lose."""


class CachedEmbedder:
    """An embedder that remembers in a file what it embedded, and asks only for what is new.

    A vector is known by the embedder's key, by whether the text was a question or a document, by
    the text, and by `tenant`: what one tenant embedded is never given to another. Several
    processes and threads may share the file, up to `max_bytes` of vectors and keys; what was used
    longest ago goes first. Of the texts only a hash is kept.

    Vectors are kept in 16 bits, which moves a cosine by less than a thousandth, or exactly
    (`exact`). In both cases a text has the same vector the first time and every time after. A
    damaged file is set aside, with `.damaged` added to its name, and begun anew; where none can
    be written, texts are embedded each time.
    """

    def __init__(
        self,
        embedder: Embedder,
        path: Path | str,
        *,
        max_bytes: int = 256 * MEGABYTE,
        tenant: str = "",
        exact: bool = False,
    ) -> None:
        self.embedder = embedder
        self.tenant = tenant
        self.exact = exact
        self._file = VectorFile(Path(path).expanduser(), max_bytes)

    @property
    def key(self) -> str:
        """That of the embedder: its vectors and these can be compared."""
        return self.embedder.key

    @property
    def width(self) -> int:
        return self.embedder.width

    def documents(self, texts: Sequence[str], /) -> Vectors:
        """Shape: (texts, width). Raises what the embedder raises."""
        return self._found("document", texts, self.embedder.documents)

    def queries(self, texts: Sequence[str], /) -> Vectors:
        """Shape: (texts, width). Raises what the embedder raises."""
        return self._found("query", texts, self.embedder.queries)

    def _found(
        self, kind: Kind, texts: Sequence[str], embed: Callable[[Sequence[str]], Vectors]
    ) -> Vectors:
        if not texts:
            return embed([])
        keys = list(self._keys(kind, texts))
        first = dict(zip(keys, texts, strict=True))
        rows = {key: self._read(value) for key, value in self._file.get(list(first)).items()}
        new = [(key, text) for key, text in first.items() if key not in rows]
        for start in range(0, len(new), BATCH):
            named = [key for key, _ in new[start : start + BATCH]]
            made = embed([text for _, text in new[start : start + BATCH]])
            kept = {key: self._written(row) for key, row in zip(named, made, strict=True)}
            self._file.put(kept)
            rows |= {key: self._read(value) for key, value in kept.items()}
        found = np.stack([rows[key] for key in keys])
        return found if self.exact else unit(found)

    def _keys(self, kind: Kind, texts: Sequence[str]) -> Iterator[bytes]:
        head = hashlib.sha256()
        for part in (self.embedder.key, kind, self.tenant, self._type.__name__):
            data = part.encode(errors="surrogatepass")
            head.update(len(data).to_bytes(8) + data)
        for text in texts:
            digest = head.copy()
            digest.update(text.encode(errors="surrogatepass"))
            yield digest.digest()

    @property
    def _type(self) -> type[np.floating[Any]]:
        return np.float32 if self.exact else np.float16

    def _written(self, row: NDArray[np.float32]) -> bytes:
        return row.astype(self._type).tobytes()

    def _read(self, value: bytes) -> NDArray[np.floating[Any]]:
        return np.frombuffer(value, self._type)
