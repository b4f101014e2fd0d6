"""Embeddings without a model to run: a text is the sum of the vectors of its tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tersely.artefact import weights_hash
from tersely.errors import ModelError, require
from tersely.prompt import sendable
from tersely.retrieval import Vectors, unit

WEIGHTS = "weights/l2_supercat_256.safetensors"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"

SPACE = "▁"
"""What the tokenizer reads for a space."""

PIECE = re.compile(f"{SPACE}*[^{SPACE}\n]+|{SPACE}+|\n+")
"""A word with the spaces before it. No token reaches over its end, so each is read by itself."""

KNOWN_PIECES = 200_000
"""How many words are remembered with their tokens: some 40 MB."""

LONGEST_PIECE = 48
"""Characters; what is longer is hardly a word, and seldom comes again."""

TOKENS_AT_ONCE = 1 << 14
"""So that the vectors of the tokens, before they are summed, take 16 MB at most."""


class Static(BaseModel):
    """Adds up one learned vector for each token: thousands of passages a second, no model run.

    The vectors are those of the package wordllama, which brings them in its wheel: nothing is
    downloaded and none of its code runs. `width` may be shortened at some loss. Texts may be of
    any length; the order of words does not matter. The vector of a text depends on nothing but
    the text, to the last bit. An empty text has a vector of zeros, which is like nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "static"

    width: Literal[64, 128, 256] = 256

    @property
    def key(self) -> str:
        """Raises MissingExtra, ModelError."""
        return f"static:l2_supercat:{weights_hash(_folder() / 'weights')[:16]}:{self.width}"

    def documents(self, texts: Sequence[str], /) -> Vectors:
        """Raises MissingExtra, ModelError. Shape: (texts, width)."""
        rows = np.zeros((len(texts), self.width), np.float32)
        if texts:
            table = _table()
            for row, ids in zip(rows, table.tokens(texts), strict=True):
                row[:] = table.sum(ids)[: self.width]
        return unit(rows)

    def queries(self, texts: Sequence[str], /) -> Vectors:
        """Raises MissingExtra, ModelError. Shape: (texts, width)."""
        return self.documents(texts)


class _Table:
    """A vector for each token, and the tokens of the words that were met so far."""

    def __init__(self, vectors: NDArray[np.float32], tokenizer: Any) -> None:
        self.vectors = vectors
        self._tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...]] = {}
        self._learning = Lock()

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, as the whole tokenizer would find them."""
        pieces = [
            PIECE.findall(SPACE + sendable(text).replace(" ", SPACE)) if text else []
            for text in texts
        ]
        known = self._known  # words are added to it and never taken out
        new = {piece for row in pieces for piece in row if piece not in known}
        if not new:
            return [list(chain.from_iterable(map(known.__getitem__, row))) for row in pieces]
        read = self._read(sorted(new))
        return [[i for p in row for i in (read[p] if p in read else known[p])] for row in pieces]

    def _read(self, pieces: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Words that are new. Those worth it are remembered."""
        encoded = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
        found = {piece: tuple(one.ids) for piece, one in zip(pieces, encoded, strict=True)}
        short = {piece: ids for piece, ids in found.items() if len(piece) <= LONGEST_PIECE}
        with self._learning:
            if len(self._known) + len(short) > KNOWN_PIECES:
                self._known = {}  # another one: somebody may be reading the old
            self._known.update(short)
        return found

    def sum(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The sum of the vectors of some tokens. Shape: (width,)."""
        total = np.zeros(self.vectors.shape[1], np.float32)
        for start in range(0, len(ids), TOKENS_AT_ONCE):
            some = np.array(ids[start : start + TOKENS_AT_ONCE], np.intp)
            total += self.vectors.take(some, axis=0, mode="clip").sum(axis=0)
        return total


def _folder() -> Path:
    """Where the package lies. It is not imported: it would set up the logging of the program."""
    require("wordllama", extra="static")
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ModelError("the package wordllama can't be found on the disk")
    return Path(spec.origin).parent


@cache
def _table() -> _Table:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer, normalizers

    folder = _folder()
    try:
        (vectors,) = load_file(folder / WEIGHTS).values()
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # safetensors and tokenizers share no root
        raise ModelError(
            f"{folder} holds no embeddings that can be loaded: {error};"
            " pip install --force-reinstall wordllama"
        ) from error
    tokenizer.normalizer = normalizers.Sequence([])  # done here, before the text is cut into words
    tokenizer.encode_special_tokens = True
    return _Table(np.ascontiguousarray(vectors, np.float32), tokenizer)
