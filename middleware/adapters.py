"""Find who reads a request, and write changed texts back into a copy of it.

An adapter only reads: it lists the texts of a request with the place of each. Writing back is
the same for every shape, since a place is a path. What no path names comes out equal, and the
caller's objects are never changed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import BaseModel

from tersely.contracts import Adapter
from tersely.prompt import Path, Prompt

ADAPTERS = {
    "openai-responses": "tersely.middleware.adapter_responses:RESPONSES",
    "anthropic": "tersely.middleware.adapter_anthropic:ANTHROPIC",
    "openai-chat": "tersely.middleware.adapter_chat:CHAT",
    "langchain": "tersely.middleware.adapter_langchain:LANGCHAIN",
    "text": "tersely.middleware.adapter_text:TEXT",
}
"""Where each adapter lies; the first that matches reads. Opened on first use."""


@cache
def adapter(name: str) -> Adapter:
    """The adapter of that name."""
    module, _, attribute = ADAPTERS[name].partition(":")
    found: Adapter = getattr(import_module(module), attribute)
    return found


def find(request: Any) -> Adapter | None:
    """Who reads this request; None when nobody knows its shape."""
    return next((adapter(name) for name in ADAPTERS if adapter(name).matches(request)), None)


def write(request: Any, prompt: Prompt) -> Any:
    """The request with the prompt's texts in their places.

    Texts that did not change are not touched; whatever lies on no changed path is shared with
    the caller's request, not copied.
    """
    edits = {
        leaf.path: leaf.text for leaf in prompt.leaves if leaf.text != look(request, leaf.path)
    }
    return _edited(request, edits) if edits else request


def look(tree: Any, path: Path) -> Any:
    """What lies at a path; None when nothing does."""
    for step in path:
        if isinstance(tree, Mapping):
            tree = tree.get(step)
        elif isinstance(step, int) and isinstance(tree, Sequence) and not isinstance(tree, str):
            tree = tree[step] if step < len(tree) else None
        else:
            tree = getattr(tree, str(step), None)
    return tree


def _edited(tree: Any, edits: Mapping[Path, Any]) -> Any:
    """A copy of a tree with other values at some paths."""
    if () in edits:
        return edits[()]
    below: dict[str | int, dict[Path, Any]] = {}
    for (step, *rest), value in edits.items():
        below.setdefault(step, {})[tuple(rest)] = value
    made = {step: _edited(look(tree, (step,)), inner) for step, inner in below.items()}
    return _with(tree, made)


def _with(tree: Any, made: Mapping[str | int, Any]) -> Any:
    """A shallow copy of one node with other children."""
    if isinstance(tree, BaseModel):
        return tree.model_copy(update={str(step): value for step, value in made.items()})
    if isinstance(tree, tuple):
        return tuple(made.get(i, value) for i, value in enumerate(tree))
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{str(step): value for step, value in made.items()})
    node = copy.copy(tree)
    for step, value in made.items():
        node[step] = value
    return node
