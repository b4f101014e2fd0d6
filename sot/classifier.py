"""The small classifier that tells whether a question suits points written side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tersely.artefact import PAGE, TENSORS, About, page, read_arrays, weights_hash
from tersely.errors import ModelError, missing
from tersely.models import resolve
from tersely.sot.logistic import chances
from tersely.sot.ngrams import READ, WIDTH, counted
from tersely.units import Floats
from tersely.weights import encoder

RECIPE = "router"

SHIPPED = Path(__file__).parent / "trained"
"""The classifier that comes with the package."""


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """Weights of the n-grams (`words`), what these are worth (`rarity`), and of a sentence vector.

    `meaning` has one weight for each number of the vector; the last of each is the bias. It is
    empty where the classifier was trained on words alone.
    """

    about: About
    rarity: Floats
    words: Floats
    meaning: Floats

    def by_words(self, questions: Sequence[str]) -> Floats:
        """How likely each question suits, by its words. Shape: (questions,)."""
        seen = counted(questions).scaled(self.rarity)
        return chances(seen.times(self.words[:-1]) + self.words[-1])

    def by_meaning(self, read: Floats) -> Floats:
        """How likely questions suit, by their `vectors`. Shape: (questions, width)."""
        return chances(read @ self.meaning[:-1] + self.meaning[-1])

    def chances(self, questions: Sequence[str], *, meaning: bool = True) -> Floats:
        """The mean of both, or by words where the encoder is not at hand or not wanted.

        Shape: (questions,). Raises as `weights.encoder` does.
        """
        told = self.by_words(questions)
        if not (meaning and self.reads_meaning):
            return told
        return (told + self.by_meaning(vectors(self.about.model, questions))) / 2

    @property
    def reads_meaning(self) -> bool:
        """Whether the encoder that it was trained with is on this machine, the very same."""
        if not len(self.meaning) or missing("sentence_transformers") or missing("torch"):
            return False
        try:
            folder = resolve(self.about.model)
        except ModelError:
            return False
        return weights_hash(folder) == self.about.model_sha256


def vectors(model: str, questions: Sequence[str]) -> Floats:
    """A sentence vector for each question. Shape: (questions, width)."""
    read = encoder(model).vectors([question[:READ] for question in questions], batch=8)
    return np.asarray(read, np.float64)


def classifier(folder: str = "") -> Classifier:
    """A trained classifier, or the one that comes along; read once as long as it stays the same.

    Raises ModelError that tells what is missing or damaged.
    """
    path = Path(folder).expanduser() if folder else SHIPPED
    page(path, RECIPE)
    return _read(path, (path / PAGE).stat().st_mtime_ns)


@cache
def _read(path: Path, changed: int) -> Classifier:
    about, arrays = page(path, RECIPE), read_arrays(path / TENSORS)
    try:
        found = {name: arrays[name].astype(np.float64) for name in ("rarity", "words", "meaning")}
    except KeyError as error:
        raise ModelError(f"the router at {path} is damaged: it lacks {error}") from error
    if found["rarity"].shape != (WIDTH,) or found["words"].shape != (WIDTH + 1,):
        raise ModelError(f"the router at {path} is of another width; train it again")
    return Classifier(about, **found)
