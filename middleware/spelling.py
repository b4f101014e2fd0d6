"""Pipelines as YAML, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic_core import PydanticSerializationError

from tersely.contracts import Stage
from tersely.errors import ConfigError
from tersely.middleware.ledger import name_of
from tersely.middleware.pipeline import Pipeline
from tersely.registry import spelled


def to_yaml(pipeline: Pipeline, path: str | Path | None = None) -> str:
    """The pipeline as YAML: what differs from the defaults, stages by their registry names."""
    plain: dict[str, Any] = {"stages": [_plain(stage) for stage in pipeline.stages]}
    settings = pipeline.model_dump(
        include={"model", "mode", "strict", "floor", "cache", "seed"}, exclude_defaults=True
    )
    if budget := pipeline.budget.model_dump(exclude_defaults=True):
        plain["budget"] = budget
    if pipeline.fallback is not None:
        plain["fallback"] = _plain(pipeline.fallback)
    if pipeline.history is not None:
        plain["history"] = pipeline.history.plain()
    text: str = yaml.safe_dump(plain | settings, sort_keys=False, allow_unicode=True)
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def from_yaml(source: str | Path) -> Pipeline:
    """The pipeline that a YAML text or file describes.

    A `Path` is read; a string is the YAML itself. Raises ConfigError with the place.
    """
    try:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        read = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"can't read {source}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}") from error
    if not isinstance(read, dict):
        raise ConfigError(f"a pipeline in YAML is a mapping with `stages`, was {read!r}")
    settings: dict[str, Any] = {str(key): value for key, value in read.items()}
    return Pipeline(**settings)


def _plain(stage: Stage) -> Any:
    if isinstance(stage, Pipeline):
        raise ConfigError("a pipeline inside a pipeline can't be written as YAML: list its stages")
    try:
        return spelled(stage)
    except PydanticSerializationError as error:  # a stage inside of this one
        raise ConfigError(f"{name_of(stage)} can't be written as YAML: {error}") from error
