"""What embedded the texts of a store, so that it can be opened again without being told."""

from __future__ import annotations

import json
from typing import Any

from tersely.errors import ConfigError
from tersely.rag.database import facts_of, state_of
from tersely.rag.shelf import Shelf
from tersely.registry import spelled
from tersely.retrieval import Embedder

PLAIN = ("onnx", "sentence_transformers", "static")
"""Embedders whose settings may be kept: none of them is a secret or an object."""


def spelling(embedder: Embedder | None) -> str:
    """An embedder as JSON that `as_embedder` reads back; "" where it can't be kept so."""
    if embedder is None or getattr(embedder, "name", None) not in PLAIN:
        return ""
    return json.dumps(spelled(embedder))


def remembered(shelf: Shelf) -> Any:
    """What `as_embedder` takes for the embedder of a store; None while it holds no texts.

    "" is a store without vectors. Raises ConfigError when its embedder has no plain name.
    """
    with shelf.reading(index=False) as now:
        key, known = state_of(now.connection).embedder, facts_of(now.connection).get("spelled")
        filled = now.connection.execute("SELECT 1 FROM chunks LIMIT 1").fetchone()
    if known:
        return json.loads(known)
    if key:
        raise ConfigError(
            f"the texts of {str(shelf.database.folder)!r} were embedded by {key!r}, which can't be"
            " opened by name: use FaissStore(path, embedder=...) in Python"
        )
    return "" if filled else None
