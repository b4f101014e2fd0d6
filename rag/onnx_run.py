"""Run an exported sentence encoder: a graph of ONNX, its tokenizer, and a page about them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from tersely.errors import ModelError, first_fault, require
from tersely.prompt import sendable
from tersely.retrieval import Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAPH, TOKENIZER, PAGE = "model.onnx", "tokenizer.json", "embedder.json"

TEXTS_AT_ONCE = 256
"""Texts whose tokens are held at the same time."""


class About(BaseModel):
    """What an exported encoder is: `key` names the weights, the precision and the layout.

    `asked` and `told` stand before questions and before documents.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    width: int
    asked: str = ""
    told: str = ""


class Exported:
    """An exported encoder ready to run, safe to use from several threads.

    Each text is read by itself. Side by side, the longest would decide how long all take, and the
    largest value how roughly all are rounded: one by one is faster on a CPU, and the vector of a
    text does not depend on its neighbours.
    """

    def __init__(self, folder: Path) -> None:
        """Raises MissingExtra, and ModelError when a file is missing or damaged."""
        require("onnxruntime", "tokenizers", extra="onnx")
        from tokenizers import Tokenizer

        try:
            self.about = About.model_validate_json((folder / PAGE).read_text("utf-8"))
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            self._session = _session(folder / GRAPH)
        except ValidationError as error:
            raise _damaged(folder, first_fault(error)) from error
        except Exception as error:  # tokenizers and onnxruntime share no root
            raise _damaged(folder, str(error)) from error
        self._tokenizer.encode_special_tokens = True

    def vectors(self, texts: Sequence[str], threads: int = 1) -> Vectors:
        """One vector of length 1 for each text; texts too long are cut. Shape: (texts, width)."""
        rows = np.zeros((len(texts), self.about.width), np.float32)
        with ThreadPoolExecutor(threads) as pool:
            each = pool.map if threads > 1 and len(texts) > 1 else map
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                some = [sendable(text) for text in texts[start : start + TEXTS_AT_ONCE]]
                ids = [one.ids for one in self._tokenizer.encode_batch_fast(some)]
                for i, vector in enumerate(each(self._vector, ids), start):
                    rows[i] = vector
        return rows

    def _vector(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The vector of one row of tokens; none has a vector of zeros. Shape: (width,)."""
        if not ids:
            return np.zeros(self.about.width, np.float32)
        found = self._session.run(None, {"input_ids": np.array([ids], np.int64)})
        row: NDArray[np.float32] = found[0][0]
        return row


def cores() -> int:
    """How many threads may read at once: `OMP_NUM_THREADS`, else the cores of this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    ask = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(ask(0)) if ask else os.cpu_count() or 1


def _session(graph: Path) -> Any:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # kept for every length
    options.log_severity_level = 3
    return InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _damaged(folder: Path, said: str) -> ModelError:
    return ModelError(
        f"{folder} holds no exported encoder that can be loaded: {said};"
        " once the folder is deleted, the encoder is exported anew"
    )
