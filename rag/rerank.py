"""Read question and passage together: slower than comparing vectors, and surer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tersely.convert import muted
from tersely.errors import ConfigError, ModelError, first_fault, require
from tersely.models import resolve
from tersely.prompt import sendable
from tersely.units import Floats
from tersely.weights import Precision, best_device, best_dtype

Kind = Literal["cross-encoder", "multi-vector"]
"""A classifier of pairs, or an encoder that keeps a vector for every token."""

KINDS: Mapping[str, Kind] = {
    "CrossEncoder": "cross-encoder",
    "MultiVectorEncoder": "multi-vector",
    "ColBERT": "multi-vector",  # as PyLate writes it
}


@runtime_checkable
class Reranks(Protocol):
    """Tells how well each text answers a question; higher is better."""

    def scores(self, question: str, texts: Sequence[str], /) -> Floats: ...


class Reranker(BaseModel):
    """Scores passages with a model that sees the question beside them.

    `model` is a folder or a hub id of a cross-encoder (a classifier of pairs with one label,
    Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085) or of a multi-vector model (late
    interaction: ColBERT, Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832), told apart
    by what its files say. It is loaded on first use, once for all, and read by one thread at a
    time. `batch` is how many texts are read together. Texts too long for the model are cut.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    batch: int = Field(default=32, ge=1)
    precision: Precision = "auto"

    def ready(self) -> None:
        """Load the model. Raises MissingExtra, and ModelError that tells what is wrong with it."""
        self._read()

    def scores(self, question: str, texts: Sequence[str], /) -> Floats:
        """How well each text answers the question. Shape: (texts,).

        Scores of a cross-encoder are what its last function gives (mostly 0 to 1), those of a
        multi-vector model grow with the length of the question. Raises as `ready` does.
        """
        if not texts:
            return np.zeros(0)
        reading = self._read()
        with reading.lock:
            found = reading.scores(sendable(question), [sendable(t) for t in texts], self.batch)
        scores = np.asarray(found, np.float64)
        if scores.shape != (len(texts),) or not np.isfinite(scores).all():
            raise ModelError(f"{self.model!r} gave no score for each text: it can't rerank")
        return scores

    def _read(self) -> _Reading:
        require("sentence_transformers", extra="rag")
        with _loading:
            return _load(resolve(self.model), self.precision)


def as_reranker(source: Any, /) -> Reranks | None:
    """A reranker from itself, a model's folder or hub id, or a mapping of settings.

    None and "" are none. Raises ConfigError.
    """
    if source is None or source == "":
        return None
    if isinstance(source, Reranks):
        return source
    if isinstance(source, str):
        return Reranker(model=source)
    if isinstance(source, Mapping):
        try:
            return Reranker(**source)
        except ValidationError as error:
            raise ConfigError(f"reranker: {first_fault(error)}") from error
        except TypeError as error:
            raise ConfigError(f"reranker: {error}") from error
    raise ConfigError(f"a reranker is a model's name, a mapping or has `scores`, was {source!r}")


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """A loaded model, and the lock of whoever reads with it."""

    scores: Callable[[str, Sequence[str], int], Any]
    lock: threading.Lock = field(default_factory=threading.Lock)


_loading = threading.RLock()


@cache
def _load(folder: Path, precision: Precision) -> _Reading:
    reads = _cross_encoder if kind_of(folder) == "cross-encoder" else _multi_vector
    return reads(folder, precision)


def kind_of(folder: Path) -> Kind:
    """Which sort of reranker lies in a folder. Raises ModelError when it is none."""
    told = _json(folder / "config_sentence_transformers.json").get("model_type")
    if told in KINDS:
        return KINDS[str(told)]
    made = _json(folder / "config.json").get("architectures") or [""]
    if str(made[0]).endswith("ForSequenceClassification"):
        return "cross-encoder"
    if made[0] == "HF_ColBERT":
        return "multi-vector"
    raise ModelError(
        f"{folder} holds {told or made[0] or 'something else'}, which can't rerank: that takes a"
        " cross-encoder or a multi-vector model"
    )


def _cross_encoder(folder: Path, precision: Precision) -> _Reading:
    from sentence_transformers import CrossEncoder

    model = _opened(CrossEncoder, folder, precision)
    if model.num_labels != 1:
        raise ModelError(f"{folder} tells {model.num_labels} labels apart; to rerank takes one")

    def scores(question: str, texts: Sequence[str], batch: int) -> Any:
        pairs = [(question, text) for text in texts]
        return model.predict(pairs, batch_size=batch, show_progress_bar=False)

    return _Reading(scores)


def _multi_vector(folder: Path, precision: Precision) -> _Reading:
    import sentence_transformers

    made = getattr(sentence_transformers, "MultiVectorEncoder", None)
    if made is None:
        raise ModelError(f"{folder} is a multi-vector model: sentence-transformers 6 reads those")
    model = _opened(made, folder, precision)

    def scores(question: str, texts: Sequence[str], batch: int) -> Any:
        how = {"batch_size": batch, "show_progress_bar": False}
        asked = model.encode_query([question], **how)
        found = model.encode_document(list(texts), **how)
        return model.similarity(asked, found)[0].float().cpu().numpy()

    return _Reading(scores)


def _opened(made: Any, folder: Path, precision: Precision) -> Any:
    import torch

    device = best_device()
    dtype = best_dtype(device) if precision == "auto" else getattr(torch, precision)
    options = {"dtype": dtype, "use_safetensors": True}
    try:
        with muted():
            model = made(
                str(folder), device=device.type, local_files_only=True, model_kwargs=options
            )
    except Exception as error:  # what is missing or damaged decides what is raised
        raise ModelError(f"{folder} holds no reranker that can be loaded: {error}") from error
    return model.eval()


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} can't be read: {error}") from error
    return found if isinstance(found, dict) else {}
