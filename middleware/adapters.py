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
from typing import Any, Protocol

from pydantic import BaseModel

from tersely.errors import UnknownName
from tersely.prompt import Path, Prompt

ADAPTERS = {
    "prompt": "tersely.middleware.adapter_prompt:PROMPT",
    "langchain": "tersely.middleware.adapter_langchain:LANGCHAIN",
    "openai-responses": "tersely.middleware.adapter_responses:RESPONSES",
    "anthropic": "tersely.middleware.adapter_anthropic:ANTHROPIC",
    "openai-chat": "tersely.middleware.adapter_chat:CHAT",
    "text": "tersely.middleware.adapter_text:TEXT",
}
"""Where each adapter lies; the first that matches reads. Opened on first use."""


class Adapter(Protocol):
    """Reads one shape of request. Writing back is the same for all."""

    @property
    def name(self) -> str: ...
    def matches(self, request: Any, /) -> bool: ...
    def read(self, request: Any, /) -> Prompt: ...


@cache
def adapter(name: str) -> Adapter:
    """The adapter of that name. Raises UnknownName."""
    if name not in ADAPTERS:
        raise UnknownName("request format", name, ADAPTERS)
    module, _, attribute = ADAPTERS[name].partition(":")
    found: Adapter = getattr(import_module(module), attribute)
    return found


def find(request: Any) -> Adapter | None:
    """Who reads this request; None when nobody knows its shape."""
    return next((adapter(name) for name in ADAPTERS if adapter(name).matches(request)), None)


def write(request: Any, before: Prompt, after: Prompt) -> Any:
    """The request with the texts that differ between two prompts, each in its place.

    `before` is the prompt as it was read from the request. Whatever lies on no changed path is
    shared with the caller's request, not copied. A Prompt comes back as one, with what stands in
    the place of texts; no other shape can carry that.
    """
    if isinstance(request, Prompt):
        return _renewed(request, after)
    edits = {
        new.path: new.text
        for old, new in zip(before.leaves, after.leaves, strict=True)
        if old.text != new.text
    }
    return _edited(request, edits) if edits else request


def _renewed(prompt: Prompt, after: Prompt) -> Prompt:
    """A prompt with what became of its texts, and nothing else of what happened to it."""
    made = dict(enumerate(after.segments))
    texts = {i: one.text for i, one in made.items()}
    origins = {i: one.origins for i, one in made.items()}
    stands = {i: one for i, one in made.items() if one.soft and not prompt.segments[i].soft}
    return prompt.with_texts(texts, origins=origins).with_segments(stands)


def put(request: Any, path: Path, value: Any) -> Any:
    """A copy of the request with something else at a path; all that is not on it is shared."""
    return _edited(request, {path: value})


def edited(request: Any, edits: Mapping[Path, Any]) -> Any:
    """A copy of the request with something else at some paths, of which none lies in another."""
    return _edited(request, edits)


def look(tree: Any, path: Path) -> Any:
    """What lies at a path; None when nothing does."""
    for step in path:
        if isinstance(tree, Mapping):
            tree = tree.get(step)
        elif isinstance(step, str):
            tree = getattr(tree, step, None)
        elif isinstance(tree, Sequence) and not isinstance(tree, str) and step < len(tree):
            tree = tree[step]
        else:
            return None
    return tree


def _edited(tree: Any, edits: Mapping[Path, Any]) -> Any:
    """A copy of a tree with something else at some paths."""
    if () in edits:
        return edits[()]
    below: dict[str | int, dict[Path, Any]] = {}
    for (step, *rest), value in edits.items():
        below.setdefault(step, {})[tuple(rest)] = value
    made = {step: _edited(look(tree, (step,)), inner) for step, inner in below.items()}
    return _with(tree, made)


def _with(tree: Any, made: Mapping[Any, Any]) -> Any:
    """A shallow copy of one node with other children."""
    if isinstance(tree, BaseModel):
        return tree.model_copy(update=dict(made))
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **made)
    if isinstance(tree, tuple):
        children = [made.get(i, child) for i, child in enumerate(tree)]
        named = getattr(tree, "_make", None)
        return named(children) if named else tuple(children)
    node = copy.copy(tree)
    for step, child in made.items():
        if isinstance(step, int) or isinstance(node, Mapping):
            node[step] = child
        else:
            setattr(node, step, child)
    return node
