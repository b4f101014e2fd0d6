"""Which attention heads of a model look at what answers a question: found once, kept beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import TypeAdapter, ValidationError

from tersely import artefact
from tersely.errors import ModelError, first_fault
from tersely.models import CATALOGUE, folder_of, home, resolve

Head = tuple[int, int]
"""A layer and a head in it, counted from 0."""

RECIPE = "attention"
"""The stage that the heads are for."""

KNOWN: Mapping[str, tuple[Head, ...]] = MappingProxyType(
    {"smollm2": ((17, 3), (18, 7), (15, 6), (18, 8))}
)
"""Heads of our models, found on 80 questions of Natural Questions and SQuAD."""

_HEADS = TypeAdapter(tuple[Head, ...])


def heads_of(name: str) -> tuple[Head, ...]:
    """The heads of a model that see relevance: as found here, else as they are known.

    Raises ModelError that tells the command which finds them, or that the weights are others
    now, and what `resolve` raises.
    """
    folder = place_of(name)
    if (folder / artefact.PAGE).is_file():
        about = artefact.page(folder, RECIPE)
        artefact.check_model(about, resolve(name))
        try:
            return _HEADS.validate_python(about.settings.get("heads"))
        except ValidationError as error:
            raise ModelError(
                f"{folder / artefact.PAGE} is damaged: {first_fault(error)}"
            ) from error
    if name in KNOWN:
        return KNOWN[name]
    raise ModelError(
        f"it is not known which heads of {name!r} see relevance: tersely models calibrate {name}"
    )


def place_of(name: str) -> Path:
    """Where the heads of a model are kept: in its folder when it is ours, else in our home."""
    if name in CATALOGUE:
        return folder_of(name) / "relevance"
    key = hashlib.sha256(str(resolve(name)).encode()).hexdigest()[:16]
    return home() / "relevance" / key
