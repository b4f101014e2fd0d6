"""Embeddings from any server that speaks the OpenAI-compatible API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import httpx
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator
from tenacity import Retrying

from tersely.artefact import settings_key
from tersely.calls import certificates, check, retrying, translated
from tersely.errors import BackendError
from tersely.prompt import sendable
from tersely.retrieval import Vectors, unit


class Http(BaseModel):
    """Asks a server's `/embeddings` for vectors.

    `base_url` ends where the API begins, as in `https://api.openai.com/v1`. `dimensions` asks for
    shorter vectors, where the model can. `batch` texts go in one request, and at most `parallel`
    requests are under way at once. What failed for a reason that may pass is asked `retries`
    times more, after a pause that starts at `pause` seconds and doubles, or the pause that the
    server wants. `query_prompt` and `document_prompt` stand before questions and documents.
    `extra` fields go into every body; None there leaves a field out.

    A text that is too long for the model is refused by most servers. An empty text is sent as a
    space, since many refuse it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "http"

    base_url: str
    model: str
    api_key: SecretStr | None = None
    dimensions: int | None = Field(default=None, ge=1)
    query_prompt: str = ""
    document_prompt: str = ""
    batch: int = Field(default=128, ge=1)
    parallel: int = Field(default=4, ge=1)
    timeout: float = Field(default=60.0, gt=0)
    retries: int = Field(default=3, ge=0)
    pause: float = Field(default=0.5, ge=0)
    headers: Mapping[str, str] = {}
    extra: Mapping[str, Any] = {}

    _width: int = PrivateAttr(default=0)

    @field_validator("base_url")
    @classmethod
    def _with_scheme(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

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
            for attempt in Retrying(**retrying(self.retries, self.pause)):
                with attempt:
                    told = {name: value for name, value in body.items() if value is not None}
                    response = client.post("embeddings", json=told)
                    check(response)
        return _vectors(response, len(texts))

    def _options(self) -> dict[str, Any]:
        headers = dict(self.headers)
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key.get_secret_value()}"
        return {
            "base_url": self.base_url,
            "headers": headers,
            "timeout": self.timeout,
            "verify": certificates(),
        }


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
