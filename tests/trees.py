"""Compare and search requests: trees of mappings, lists and objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from tersely.prompt import Path


def children(tree: Any) -> list[tuple[str | int, Any]] | None:
    """The children of a node in order; None for a leaf."""
    if isinstance(tree, BaseModel):
        return list({**tree.__dict__, **(tree.__pydantic_extra__ or {})}.items())
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, list | tuple):
        return list(enumerate(tree))
    return None


def differences(one: Any, other: Any, path: Path = ()) -> Iterator[Path]:
    """Where two trees differ: in a value, a type, a key or the order of keys."""
    mine, theirs = children(one), children(other)
    if type(one) is not type(other):
        yield path
    elif mine is None or theirs is None:
        if one != other:
            yield path
    elif [name for name, _ in mine] != [name for name, _ in theirs]:
        yield path
    else:
        for (name, a), (_, b) in zip(mine, theirs, strict=True):
            yield from differences(a, b, (*path, name))


def strings(tree: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every string in a tree, and where it lies."""
    below = children(tree)
    if isinstance(tree, str):
        yield path, tree
    for name, child in below or ():
        yield from strings(child, (*path, name))
