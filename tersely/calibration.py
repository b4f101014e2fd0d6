"""Which attention heads of a model look at what answers a question: found once, kept beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, ValidationError

from tersely.errors import ModelError, first_fault
from tersely.models import CATALOGUE, folder_of, home, resolve

Head = tuple[int, int]
"""A layer and a head in it, counted from 0."""

FILE = "relevance_heads.json"

KNOWN: Mapping[str, tuple[Head, ...]] = MappingProxyType(
    {"smollm2": ((17, 3), (18, 7), (15, 6), (18, 8))}
)
"""Heads of our models, found on 80 questions of Natural Questions and SQuAD."""


class Calibration(BaseModel):
    """The heads of a model that see relevance, and how well they do.

    `figures` tell, on the questions they were chosen on, the mean reciprocal rank of the sentence
    that answers, and the share that is within a quarter of the tokens.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    heads: tuple[Head, ...]
    layers: int
    questions: int = 0
    figures: Mapping[str, float] = {}


def heads_of(name: str) -> tuple[Head, ...]:
    """The heads of a model that see relevance, the last layer first needed.

    Raises ModelError that tells the command which finds them, and what `resolve` raises.
    """
    path = place_of(name)
    if path.is_file():
        try:
            return Calibration.model_validate_json(path.read_text(encoding="utf-8")).heads
        except ValidationError as error:
            raise ModelError(f"{path} is damaged: {first_fault(error)}") from error
    if name in KNOWN:
        return KNOWN[name]
    raise ModelError(
        f"it is not known which heads of {name!r} see relevance: tersely models calibrate {name}"
    )


def keep(name: str, calibration: Calibration) -> Path:
    """Write what was found into the model's entry, and tell where."""
    path = place_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(calibration.model_dump_json(indent=1) + "\n", encoding="utf-8")
    beside.replace(path)
    return path


def place_of(name: str) -> Path:
    """Where the heads of a model are kept: in its folder when it is ours, else in our home."""
    if name in CATALOGUE:
        return folder_of(name) / FILE
    key = hashlib.sha256(str(resolve(name)).encode()).hexdigest()[:16]
    return home() / "calibrated" / key / FILE
