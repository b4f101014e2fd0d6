"""Embeddings by any LangChain `Embeddings`."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator

from tersely.artefact import settings_key
from tersely.errors import BackendError
from tersely.prompt import sendable
from tersely.retrieval import Vectors, unit

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

TELLING = (
    *("model", "model_name", "model_id", "model_path", "repo_id", "deployment", "revision"),
    *("dimensions", "output_dimensionality", "size", "truncate_dim", "normalize"),
    *("base_url", "openai_api_base", "azure_endpoint", "endpoint_url"),
    *("query_instruction", "embed_instruction", "model_kwargs", "encode_kwargs"),
)
"""The fields by which the integrations tell which vectors they make."""


class LangChain(BaseModel):
    """Asks a LangChain `Embeddings`, and scales its vectors to length 1.

    It is known by its class and by the fields that tell its model; an object of a class of your
    own that has no such field should be given a name, `known_as`, which changes when its vectors
    do. Of several threads one asks at a time, as few integrations say that they bear more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: ClassVar[str] = "langchain"

    embeddings: Any
    known_as: str = ""

    _lock: Any = PrivateAttr(default_factory=Lock)
    _width: int = PrivateAttr(default=0)

    @field_validator("embeddings")
    @classmethod
    def _embeds(cls, value: Any) -> Any:
        if not all(hasattr(value, name) for name in ("embed_documents", "embed_query")):
            raise ValueError("must have embed_documents and embed_query")
        return value

    @property
    def key(self) -> str:
        given: Embeddings = self.embeddings
        kind = f"{type(given).__module__}.{type(given).__qualname__}"
        fields = {name: getattr(given, name, None) for name in TELLING}
        told = {name: value for name, value in fields.items() if value is not None}
        return f"langchain:{kind}:{settings_key(self.known_as or told)}"

    @property
    def width(self) -> int:
        """Embeds a word to find out, once. Raises BackendError."""
        return self._width or self.queries(["width"]).shape[1]

    def documents(self, texts: Sequence[str], /) -> Vectors:
        """Raises BackendError. Shape: (texts, width)."""
        return self._read(texts, self.embeddings.embed_documents)

    def queries(self, texts: Sequence[str], /) -> Vectors:
        """Raises BackendError. Shape: (texts, width)."""
        ask = self.embeddings.embed_query
        return self._read(texts, lambda some: [ask(text) for text in some])

    def _read(self, texts: Sequence[str], ask: Any) -> Vectors:
        if not texts:
            return np.zeros((0, self.width), np.float32)
        try:
            with self._lock:
                rows = np.array(ask([sendable(text) for text in texts]), np.float32)
        except Exception as error:  # the integrations share no root
            kind = type(self.embeddings).__name__
            raise BackendError(f"{kind} failed ({type(error).__name__}: {error})") from error
        if rows.ndim != 2 or len(rows) != len(texts) or not np.isfinite(rows).all():
            kind = type(self.embeddings).__name__
            raise BackendError(f"{kind} gave {len(texts)} texts vectors of shape {rows.shape}")
        found = unit(rows)
        self._width = found.shape[1]
        return found
