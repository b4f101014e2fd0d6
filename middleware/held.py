"""What a session remembers of the compactions of its conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tersely.prompt import Path


@dataclass(frozen=True, slots=True)
class Held:
    """A compaction that was done: the text that stands for some of a conversation's messages.

    It reaches over the messages up to `until`, which `key` tells from others; `gone` are the places
    of those that are no longer sent.
    """

    until: int
    gone: frozenset[int]
    text: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Shrunk:
    """Old results of tools that were made short: the text that stands at each path.

    They lie in the messages up to `until`, which `key` tells from others.
    """

    until: int
    texts: Mapping[Path, str]
    key: bytes


@dataclass(frozen=True, slots=True)
class History:
    """The latest compaction, and the results that were made short, if there were any.

    `last` is when the latest request went out, in seconds of `time.monotonic`, and `refused` how
    many tokens there were to compact when that was given up.
    """

    held: Held | None = None
    shrunk: Shrunk | None = None
    last: float | None = None
    refused: int = 0
