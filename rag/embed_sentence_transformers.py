"""Embeddings by any model that sentence-transformers can load."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tersely.artefact import model_hash, settings_key
from tersely.models import resolve
from tersely.retrieval import Vectors, unit
from tersely.weights import Encoder, Precision, encoder, prompts

BATCHES = {"cpu": 8}
"""Texts that are read at once: on a CPU, a batch that leaves its cache takes twice as long."""

BATCH = 64
"""On other devices."""


class SentenceTransformers(BaseModel):
    """Runs a sentence encoder in torch: a name of ours, a folder, or a hub id.

    `precision` `auto` is bfloat16 where the CPU or GPU multiplies in it. What stands before
    questions and before documents is what the model was trained with, unless `query_prompt` or
    `document_prompt` say otherwise. Texts too long for the model are cut as the model does.

    Texts are read `batch` at once (None: as many as is fastest), and a text's neighbours move the
    last bits of its vector: a cosine by some ten-millionths in float32, some thousandths in
    bfloat16. Several threads may call; the model reads for one at a time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "sentence_transformers"

    model: str = "minilm"
    precision: Precision = "auto"
    query_prompt: str | None = None
    document_prompt: str | None = None
    batch: int | None = Field(default=None, ge=1)

    @property
    def key(self) -> str:
        """Raises MissingExtra, UnknownName, ModelError."""
        read = settings_key(_hash(resolve(self.model)), *self._prompts())
        return f"sentence_transformers:{read}:{self._loaded().model.dtype}".replace("torch.", "")

    @property
    def width(self) -> int:
        """Raises MissingExtra, UnknownName, ModelError."""
        return self._loaded().width

    def documents(self, texts: Sequence[str], /) -> Vectors:
        """Raises MissingExtra, UnknownName, ModelError. Shape: (texts, width)."""
        return self._read(texts, self._prompts()[1])

    def queries(self, texts: Sequence[str], /) -> Vectors:
        """Raises MissingExtra, UnknownName, ModelError. Shape: (texts, width)."""
        return self._read(texts, self._prompts()[0])

    def _read(self, texts: Sequence[str], prompt: str) -> Vectors:
        if not texts:
            return np.zeros((0, self.width), np.float32)
        loaded = self._loaded()
        batch = self.batch or BATCHES.get(loaded.model.device.type, BATCH)
        rows = loaded.vectors([prompt + text for text in texts], batch=batch)
        return unit(rows)  # in bfloat16 a length of 1 is hit but roughly

    def _prompts(self) -> tuple[str, str]:
        asked, told = prompts(self._loaded())
        return (
            asked if self.query_prompt is None else self.query_prompt,
            told if self.document_prompt is None else self.document_prompt,
        )

    def _loaded(self) -> Encoder:
        return encoder(self.model, precision=self.precision)


@cache
def _hash(folder: Path) -> str:
    """Taken once, as the model is loaded once."""
    return model_hash(folder)
