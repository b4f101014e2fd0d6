"""The search index on disk: written whole or not at all, and never believed unchecked."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tersely.rag.database import State
from tersely.rag.vector_index import Segment, library
from tersely.rag.view import View

LAYOUT = 1
"""Of the files below. Another one is no damage: the index is made anew."""

PAGE = "about.json"
KEPT, DAMAGED, SCRATCH = "snapshot-", "damaged-", ".scratch-"

told = logging.getLogger("tersely.rag")


class _Damaged(Exception):
    """A snapshot is not what was written; the message says what is wrong."""


class _Foreign(Exception):
    """A snapshot is whole, but of no use here and now."""


def write(folder: Path, view: View, state: State) -> tuple[Path, str]:
    """Write a view into a scratch folder, down to the disk; tells where, and its token."""
    clear_scratch(folder)
    token = uuid.uuid4().hex
    scratch = folder / f"{SCRATCH}{token}"
    scratch.mkdir()
    _save_numbers(scratch / "dead.npy", view.dead)
    for i, segment in enumerate(view.segments):
        _save_segment(scratch, i, segment)
    about = {
        "layout": LAYOUT,
        "store": state.store,
        "token": token,
        "generation": view.generation,
        "epoch": view.epoch,
        "last": view.last,
        "segments": [{"kind": one.kind, "effort": one.effort} for one in view.segments],
        "files": {path.name: _sum(path) for path in sorted(scratch.iterdir())},
    }
    page = {"about": about, "sha256": _sum_of(about)}
    (scratch / PAGE).write_text(json.dumps(page, indent=1), encoding="utf-8")
    for path in [*scratch.iterdir(), scratch]:
        _to_disk(path)
    return scratch, token


def publish(folder: Path, scratch: Path, generation: int, token: str) -> None:
    """Let a written snapshot be the one that is loaded; older ones go."""
    goal = folder / f"{KEPT}{generation:012}-{token[:8]}"
    scratch.rename(goal)
    _to_disk(folder)
    for path in folder.glob(f"{KEPT}*"):
        if path != goal:  # at once, so that nobody meets half of it
            path.rename(path.with_name(f"{SCRATCH}{path.name}"))
    clear_scratch(folder)


def load(folder: Path, state: State, vouched: Callable[[str], bool]) -> View | None:
    """The newest snapshot that this database wrote; None when there is none.

    One that is damaged, or that belongs to another database or to texts that have been undone
    (`vouched` knows the tokens of its own), is renamed to `damaged-...`, kept and told of.
    """
    for path in sorted(folder.glob(f"{KEPT}*"), reverse=True):
        try:
            return _read(path, state, vouched)
        except _Foreign:
            continue
        except (_Damaged, OSError, ValueError, KeyError, TypeError) as error:
            if not path.exists():  # another process has put a newer one in its place
                return load(folder, state, vouched)
            _quarantine(path, error)
    return None


def quarantined(folder: Path) -> tuple[str, ...]:
    """The names of the snapshots that were found damaged and are kept for a look."""
    return tuple(sorted(path.name for path in folder.glob(f"{DAMAGED}*")))


def size(folder: Path) -> int:
    """The bytes of the snapshots."""
    walked = (one for kept in folder.glob(f"{KEPT}*") for one in os.walk(kept))
    return sum(file_size(Path(inside) / name) for inside, _, names in walked for name in names)


def clear_scratch(folder: Path) -> None:
    """Remove what a process that was killed had begun to write."""
    for path in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


def file_size(path: Path) -> int:
    """The bytes of a file; 0 when it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path, state: State, vouched: Callable[[str], bool]) -> View:
    page = json.loads((path / PAGE).read_text(encoding="utf-8"))
    about = page["about"]
    if _sum_of(about) != page["sha256"]:
        raise _Damaged(f"{PAGE} was changed")
    if about["layout"] != LAYOUT:
        raise _Foreign
    if about["store"] != state.store or not vouched(about["token"]):
        raise _Damaged("it was not made from what the database holds")
    if about["epoch"] != state.epoch or about["generation"] > state.generation:
        raise _Foreign
    for name, expected in about["files"].items():
        if _sum(path / name) != expected:
            raise _Damaged(f"{name} is not the file that was written")
    dead = _numbers(path / "dead.npy")
    segments = tuple(_segments(path, about["segments"]))
    return View(about["generation"], about["epoch"], about["last"], segments, dead)


def _segments(path: Path, told_of: list[dict[str, Any]]) -> Iterator[Segment]:
    faiss = library()
    for i, one in enumerate(told_of):
        try:
            index = faiss.read_index(str(path / f"{i}.faiss"))
        except RuntimeError as error:  # of a faiss that writes otherwise
            raise _Foreign from error
        rows = _numbers(path / f"{i}.npy")
        if index.ntotal != len(rows):
            raise _Damaged(f"{i}.faiss holds {index.ntotal} vectors for {len(rows)} rows")
        yield Segment(one["kind"], rows, index, one["effort"])


def _save_segment(folder: Path, i: int, segment: Segment) -> None:
    faiss = library()
    _save_numbers(folder / f"{i}.npy", segment.rows)
    faiss.write_index(segment.index, str(folder / f"{i}.faiss"))


def _save_numbers(path: Path, numbers: Any) -> None:
    np.save(path, numbers, allow_pickle=False)


def _numbers(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _quarantine(path: Path, error: Exception) -> None:
    goal = path.with_name(f"{DAMAGED}{path.name.removeprefix(KEPT)}")
    try:
        path.rename(goal)
    except OSError:  # another process did it already
        return
    told.warning(
        "the snapshot of a search index is damaged (%s): it is kept as %s, and the index is made"
        " anew from the database",
        error,
        goal,
    )


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_of(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
