"""Embeddings by a sentence encoder that was exported once, and runs without torch since."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import RLock
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from tersely.artefact import settings_key
from tersely.models import Say, resolve
from tersely.rag.onnx_export import Grade, export, place_of
from tersely.rag.onnx_run import PAGE, Exported, cores
from tersely.retrieval import Vectors

_loading = RLock()


class Onnx(BaseModel):
    """Runs a sentence encoder in onnxruntime, by default with weights of 8 bits.

    That is several times faster on a CPU than torch in float32, and starts in a fraction of a
    second. `model` is a name of ours, a folder, a hub id, or the folder of an export. The first
    time, the model is exported to our folder, in some seconds and with torch; `export` does it
    beforehand. In `fp32` the vectors are the model's own; in `int8` their cosine with those is
    about 0.995.

    `threads` texts are read at once (None: `OMP_NUM_THREADS`, else one for each core). The vector
    of a text depends on nothing but the text, to the last bit. Texts too long for the model are
    cut as the model does; special tokens in a text are read as plain text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "onnx"

    model: str = "minilm"
    precision: Grade = "int8"
    threads: int | None = Field(default=None, ge=1)
    query_prompt: str | None = None
    document_prompt: str | None = None

    @property
    def key(self) -> str:
        """Raises MissingExtra, UnknownName, ModelError."""
        return f"{self._loaded().about.key}:{settings_key(*self._prompts())}"

    @property
    def width(self) -> int:
        """Raises MissingExtra, UnknownName, ModelError."""
        return self._loaded().about.width

    def documents(self, texts: Sequence[str], /) -> Vectors:
        """Raises MissingExtra, UnknownName, ModelError. Shape: (texts, width)."""
        return self._read(texts, self._prompts()[1])

    def queries(self, texts: Sequence[str], /) -> Vectors:
        """Raises MissingExtra, UnknownName, ModelError. Shape: (texts, width)."""
        return self._read(texts, self._prompts()[0])

    @property
    def exported(self) -> bool:
        """Whether the export is there already. Raises UnknownName, ModelError."""
        return self._own() is not None or place_of(resolve(self.model), self.precision).is_dir()

    def export(self, say: Say = lambda _: None) -> Path:
        """Export the model unless that was done; tells where the export lies.

        Raises MissingExtra, UnknownName, and ModelError that tells why it can't be exported.
        """
        return self._own() or export(resolve(self.model), self.precision, say)

    def _read(self, texts: Sequence[str], prompt: str) -> Vectors:
        return self._loaded().vectors([prompt + text for text in texts], self.threads or cores())

    def _prompts(self) -> tuple[str, str]:
        about = self._loaded().about
        return (
            about.asked if self.query_prompt is None else self.query_prompt,
            about.told if self.document_prompt is None else self.document_prompt,
        )

    def _loaded(self) -> Exported:
        with _loading:
            return _load(self.model, self.precision)

    def _own(self) -> Path | None:
        """The folder that `model` names, if it is an export."""
        folder = Path(self.model).expanduser()
        return folder if (folder / PAGE).is_file() else None


@cache
def _load(model: str, precision: Grade) -> Exported:
    return Exported(Onnx(model=model, precision=precision).export())
