"""Who embeds: from a name, settings, a model, a LangChain object, or whatever is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import getattr_static
from pathlib import Path
from typing import Any

from tersely.errors import ConfigError, UnknownName, missing
from tersely.models import CATALOGUE, HUB_ID, at_hand
from tersely.registry import EMBEDDERS, embedder
from tersely.retrieval import Embedder

AUTO = "auto"

MODEL = "minilm"
"""The model of ours that embeds."""


def as_embedder(source: Any, /) -> Embedder | None:
    """An embedder from what a caller may name it by; None where there is to be none.

    None and "" are none. "auto" is the best that is at hand, see `best`. Else it is a registry
    name, `{name: {setting: value}}`, a model (a name of ours, a folder or a hub id, run by
    sentence-transformers), a LangChain `Embeddings`, or an Embedder. Nothing is loaded yet.
    Raises UnknownName with the nearest names, ConfigError, and what `registry.embedder` raises.
    """
    if source is None or isinstance(source, str):
        return _named(source) if source else None
    if isinstance(source, Mapping):
        if len(source) != 1:
            raise ConfigError(f"an embedder is one name with its settings, was {dict(source)!r}")
        ((name, settings),) = source.items()
        return embedder(str(name), **(settings or {}))
    if _has(source, "key", "width", "documents", "queries"):
        own: Embedder = source
        return own
    if _has(source, "embed_documents", "embed_query"):
        return embedder("langchain", embeddings=source)
    raise ConfigError(
        f"an embedder is a name, a mapping, a LangChain Embeddings or an Embedder, was {source!r}"
    )


def best() -> tuple[Embedder | None, str]:
    """The best embedder that needs no download and no minutes of work, and why it is that one.

    Which one that is may differ from machine to machine and from day to day: vectors that are
    kept should be made by one that is named.
    """
    for take in (_onnx, _sentence_transformers, _static):
        found, why = take()
        if found:
            return found, why
    return None, "no embedder is at hand: pip install 'tersely[static]'"


def _named(name: str) -> Embedder | None:
    if name == AUTO:
        return best()[0]
    if name in EMBEDDERS:
        return embedder(name)
    if name in CATALOGUE or HUB_ID.fullmatch(name) or _is_path(name):
        return embedder("sentence_transformers", model=name)
    raise UnknownName("embedder or model", name, [AUTO, *EMBEDDERS, *CATALOGUE])


def _is_path(name: str) -> bool:
    try:
        return "/" in name or name.startswith((".", "~")) or Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):  # a name that no file can have
        return False


def _onnx() -> tuple[Embedder | None, str]:
    if missing("onnxruntime") or missing("tokenizers") or not at_hand(MODEL):
        return None, ""
    built: Any = embedder("onnx", model=MODEL)
    return (
        (built, f"{MODEL} is on this machine, exported to ONNX") if built.exported else (None, "")
    )


def _sentence_transformers() -> tuple[Embedder | None, str]:
    if missing("sentence_transformers") or not at_hand(MODEL):
        return None, ""
    return embedder("sentence_transformers", model=MODEL), f"{MODEL} is on this machine"


def _static() -> tuple[Embedder | None, str]:
    if missing("wordllama"):
        return None, ""
    return embedder("static"), "wordllama is installed, and no model is on this machine"


def _has(source: Any, *names: str) -> bool:
    """Whether an object has these names. None is looked up in earnest: a key may load a model."""
    return all(getattr_static(source, name, None) is not None for name in names)
