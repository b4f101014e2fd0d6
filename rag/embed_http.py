"""Embeddings from any server that speaks the OpenAI-compatible API."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import httpx
import numpy as np
from pydantic import Field, PrivateAttr
from tenacity import Retrying

from tersely.artefact import settings_key
from tersely.calls import Server, check, translated
from tersely.errors import BackendError
from tersely.prompt import sendable
from tersely.retrieval import Vectors, unit


class Http(Server):
    """Asks a server's `/embeddings` for vectors.

    `dimensions` asks for shorter vectors, where the model can. `batch` texts go in one request,
    and at most `parallel` requests are under way at once; see `tersely.calls.Server` for the
    rest. `query_prompt` and `document_prompt` stand before questions and documents.

    A text that is too long for the model is refused by most servers. An empty text is sent as a
    space, since many refuse it.
    """

    name: ClassVar[str] = "http"

    dimensions: int | None = Field(default=None, ge=1)
    query_prompt: str = ""
    document_prompt: str = ""
    batch: int = Field(default=128, ge=1)
    parallel: int = Field(default=4, ge=1)
    timeout: float = Field(default=60.0, gt=0)

    _width: int = PrivateAttr(default=0)

    @property
    def key(self) -> str:
        told = (self.base_url.rstrip("/"), self.dimensions, self.query_prompt)
        return f"http:{self.model}:{settings_key(*told, self.document_prompt, self.extra)}"

    @property
    def width(self) -> int:
        """Asks the server, once. Raises BackendError."""
        return self._width or self.queries(["width"]).shape[1]

    def documents(self, texts: Sequence[str], /) -> Vectors:
        """Raises BackendError, ContextLengthError. Shape: (texts, width)."""
        return self._read(texts, self.document_prompt)

    def queries(self, texts: Sequence[str], /) -> Vectors:
        """Raises BackendError, ContextLengthError. Shape: (texts, width)."""
        return self._read(texts, self.query_prompt)

    def _read(self, texts: Sequence[str], prompt: str) -> Vectors:
        if not texts:
            return np.zeros((0, self.width), np.float32)
        sent = [sendable(prompt + text) or " " for text in texts]
        parts = [sent[i : i + self.batch] for i in range(0, len(sent), self.batch)]
        with httpx.Client(**self._options()) as client, ThreadPoolExecutor(self.parallel) as pool:
            rows = list(pool.map(lambda part: self._asked(client, part), parts))
        if len({part.shape[1] for part in rows}) > 1:
            raise BackendError("the server answered with vectors of different lengths")
        found = unit(np.concatenate(rows))
        self._width = found.shape[1]
        return found

    def _asked(self, client: httpx.Client, texts: Sequence[str]) -> Vectors:
        body = {"model": self.model, "input": texts, "dimensions": self.dimensions}
        body |= {"encoding_format": "float", **self.extra}
        with translated():
            for attempt in Retrying(**self._retrying()):
                with attempt:
                    told = {name: value for name, value in body.items() if value is not None}
                    response = client.post("embeddings", json=told)
                    check(response)
        return _vectors(response, len(texts))


def _vectors(response: httpx.Response, many: int) -> Vectors:
    """The vectors of an answer, in the order of the texts. Raises BackendError."""
    try:
        data = sorted(response.json()["data"], key=lambda one: int(one.get("index", 0)))
        rows = np.array([one["embedding"] for one in data], np.float32)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(
            f"the server's answer holds no embeddings ({type(error).__name__}: {error})"
        ) from error
    if rows.ndim != 2 or len(rows) != many or not np.isfinite(rows).all():
        raise BackendError(f"the server answered {many} texts with vectors of shape {rows.shape}")
    return rows
