"""A task definition, and what a search found that it can do without."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from tersely.artefact import PAGE, About, load, page, save
from tersely.errors import ModelError
from tersely.prompt import Segment, Span
from tersely.units import Bools, Floats, Ints, Units, split

RECIPE = "stdc"

CLOSING = tuple(".,;:!?)]}")
"""What stands right after a word."""


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """The words of a definition, which of them are kept, and how the score fell without each.

    Shape: (words, 2), (words,), (words,).
    """

    text: str
    words: Ints
    kept: Bools
    falls: Floats

    def stands_in(self, text: str) -> list[int]:
        """Where the definition stands in a text."""
        return [match.start() for match in re.finditer(re.escape(self.text), text)]

    def cut(self, segment: Segment) -> tuple[Units, Bools, Floats]:
        """The segment's words, which are kept, and the fall of each.

        What stands outside the definition, or was marked by the caller, is kept and has no
        bound to its fall.
        """
        places = self.stands_in(segment.text)
        spans = np.concatenate([self.words[:0], *(self.words + at for at in places)])
        units = split(
            segment.text,
            "token",
            atoms=list(map(tuple, spans.tolist())),
            marked=segment.spans,
        )
        inside = units.touching([(at, at + len(self.text)) for at in places])
        inside &= ~units.touching(segment.spans)
        words = np.searchsorted(spans[:, 1], units.starts[inside], "right") % len(self.words)
        kept = np.ones(len(units), np.bool_)
        falls = np.full(len(units), np.inf)
        kept[inside], falls[inside] = self.kept[words], self.falls[words]
        return closed_up(units, kept), kept, falls


def after_spaces(units: Units, which: Bools) -> Units:
    """The units, some of them with the spaces before them: where they go no space is left."""
    starts = units.starts.copy()
    for i in np.flatnonzero(which[1:]).tolist():
        before, start = int(units.ends[i]), int(units.starts[i + 1])
        if not units.text[before:start].strip(" "):
            starts[i + 1] = before
    return replace(units, starts=starts)


def closed_up(units: Units, kept: Bools) -> Units:
    """The units, with no space left before a mark where what stood between is dropped."""
    near = units.ends[:-1] == units.starts[1:]
    mark = np.array([text.startswith(CLOSING) for text in units.texts], np.bool_)
    gone = np.zeros(len(units), np.bool_)
    for i in reversed(np.flatnonzero(~kept[:-1]).tolist()):
        gone[i] = gone[i + 1] or (near[i] and kept[i + 1] and mark[i + 1])
    return after_spaces(units, gone)


def spans_of(units: Units, kept: Bools) -> list[Span]:
    """The stretches of a text that hold kept words only."""
    steps = np.diff(np.concatenate(([0], kept.astype(np.int64), [0])))
    firsts, lasts = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) - 1
    return list(zip(units.starts[firsts].tolist(), units.ends[lasts].tolist(), strict=True))


def write(folder: Path, about: About, found: Definition) -> Path:
    """Keep what a search found."""
    import torch

    units = Units(found.text, found.words[:, 0], found.words[:, 1])
    kept = np.array(spans_of(units, found.kept), np.int64).reshape(-1, 2)
    tensors = {
        "kept": torch.from_numpy(kept),
        "words": torch.from_numpy(found.words),
        "falls": torch.from_numpy(found.falls),
    }
    settings = {**about.settings, "definition": found.text, "sha256": _hash(found.text)}
    return save(folder, about.model_copy(update={"settings": settings}), tensors)


def definition(folder: str) -> Definition:
    """What a search found; read once as long as it stays the same.

    Raises MissingExtra, and ModelError that tells what is missing or damaged.
    """
    path = Path(folder).expanduser()
    page(path, RECIPE)
    return _read(path, (path / PAGE).stat().st_mtime_ns)


@cache
def _read(path: Path, changed: int) -> Definition:
    about, tensors = load(path, RECIPE)
    try:
        text = str(about.settings["definition"])
        kept, words, falls = (tensors[name].numpy() for name in ("kept", "words", "falls"))
        sound = about.settings["sha256"] == _hash(text) and len(words) == len(falls) > 0
    except KeyError as error:
        raise ModelError(f"{path} is damaged: it lacks {error}; train it again") from error
    if not sound:
        raise ModelError(f"{path} is damaged: its definition is another one; train it again")
    units = Units(text, words[:, 0], words[:, 1])
    return Definition(text, words, units.touching(kept.tolist()), falls)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
