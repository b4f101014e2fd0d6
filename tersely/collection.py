"""Texts from files, kept to be searched: what the command line asks of an index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tersely.retrieval import Searcher

Watch = Callable[[int, int], None]
"""Told how many bytes of the files are read, and how many passages are kept by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What came of adding files.

    They hold `passages`, of which `new` were not there before; `deleted` were, and are gone from
    their files. `skipped` are files that hold no text, and why.
    """

    files: int
    passages: int
    new: int
    deleted: int
    skipped: Mapping[str, str]


class Collection(Protocol):
    """Passages of files in a folder, of one tenant."""

    def ready(self) -> str:
        """Open it, or make it where there is none; tells what embeds."""
        ...

    def files(self, paths: Sequence[Path], globs: Sequence[str] = ()) -> list[Path]:
        """The files that paths lead to; of folders all below them whose names fit a glob."""
        ...

    def add(
        self,
        files: Sequence[Path],
        *,
        encoding: str = "utf-8",
        size: int = 128,
        watch: Watch | None = None,
    ) -> Added:
        """Bring the passages of these files up to date."""
        ...

    def prune(self, folders: Sequence[Path]) -> int:
        """Delete what came from files below these folders that are there no more."""
        ...

    def delete(self, sources: Sequence[str] = (), ids: Sequence[str] = ()) -> int:
        """Delete all passages of these sources, and those with these ids; tells how many."""
        ...

    def searcher(self, filter: Any = None, threshold: float | None = None) -> Searcher:
        """What finds passages in it."""
        ...

    def stats(self) -> Mapping[str, Any]:
        """What it holds, by name."""
        ...
