"""Learn which questions suit points written side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from tersely.artefact import TENSORS, About, save, weights_hash, write_arrays
from tersely.errors import ConfigError, first_fault, require
from tersely.models import resolve
from tersely.sot.classifier import RECIPE, Classifier, vectors
from tersely.sot.logistic import Dense, fitted
from tersely.sot.ngrams import counted
from tersely.training import Checkpoints, TrainerModel, Training
from tersely.units import Floats, Ints

BATCH = 64
"""Questions whose vectors are made between two checkpoints."""


class Labelled(BaseModel):
    """A question, and whether its answer is a list of points that don't need one another."""

    question: str
    suits: bool


class RouterTrainer(TrainerModel):
    """Trains the classifier that decides which questions are answered in parallel points.

    Two logistic regressions: on hashed n-grams of words and characters, and on the vector of an
    `encoder` (empty: on words alone). Held-out rows give `accuracy` and `auc`, and
    `accuracy_always_same` is what the commoner label alone would reach; what is written then
    learned from all rows.
    """

    name = "router"
    paper = "Ning et al. 2024, https://arxiv.org/abs/2307.15337"
    needs = frozenset({"encoder"})
    columns = ("question", "suits")

    encoder: str = "minilm"
    penalty: float = Field(default=1e-3, gt=0, le=1)
    steps: int = Field(default=300, ge=1)
    held: float = Field(default=0.2, gt=0, lt=1)

    def ready(self) -> None:
        if self.encoder:
            require("torch", extra="local")
            require("sentence_transformers", extra="rag")
            resolve(self.encoder)

    def train(self, training: Training, /) -> Path:
        self.ready()
        rows = _checked(training)
        labels = np.array([row.suits for row in rows], np.float64)
        if labels.min() == labels.max():
            raise ConfigError("every row says the same of its question: there is nothing to learn")
        work = _Work(self, training, [row.question for row in rows], labels)
        checkpoints = self.checkpoints(training)
        read = work.read(checkpoints)
        order = np.random.default_rng(self.seed).permutation(len(rows))
        held = order[: min(max(round(self.held * len(rows)), 1), len(rows) - 1)]
        figures = work.figures(read, np.setdiff1d(order, held), held)
        made = work.made(read, np.arange(len(rows)), 2)
        training.out.mkdir(parents=True, exist_ok=True)
        arrays = {"rarity": made.rarity, "words": made.words, "meaning": made.meaning}
        small = {name: array.astype(np.float32) for name, array in arrays.items()}
        write_arrays(training.out / TENSORS, small)
        folder = save(training.out, made.about.model_copy(update={"figures": figures}))
        checkpoints.clear()
        return folder


@dataclass(slots=True)
class _Work:
    """One training: the questions, and what is known of them."""

    trainer: RouterTrainer
    training: Training
    questions: Sequence[str]
    labels: Floats

    @property
    def total(self) -> int:
        """Steps of the whole work: vectors, and both heads, once without the held-out rows."""
        heads = 2 if self.trainer.encoder else 1
        return (len(self.questions) if self.trainer.encoder else 0) + 2 * heads * self.trainer.steps

    def read(self, checkpoints: Checkpoints) -> Floats:
        """The vectors of all questions; those made before a stop are not made again."""
        if not self.trainer.encoder:
            return np.zeros((len(self.questions), 0))
        import torch

        found = checkpoints.load()
        made = [found[0]["vectors"].double().numpy()] if found else []
        done = len(made[0]) if made else 0
        while done < len(self.questions):
            made.append(vectors(self.trainer.encoder, self.questions[done : done + BATCH]))
            done += len(made[-1])
            kept = torch.from_numpy(np.concatenate(made))
            checkpoints.save({"vectors": kept}, {})
            self.training.progress(done, self.total, {})
        return np.concatenate(made)

    def made(self, read: Floats, places: Ints, turn: int) -> Classifier:
        """What is learned from the questions at some places."""
        trainer, labels = self.trainer, self.labels[places]
        seen = counted([self.questions[i] for i in places.tolist()])
        rarity = seen.rarity()
        heads = 2 if trainer.encoder else 1
        before = self.total - 2 * heads * trainer.steps + (turn - 1) * heads * trainer.steps

        def tell(done: int, loss: float) -> None:
            self.training.progress(before + done, self.total, {"loss": loss})

        words = fitted(seen.scaled(rarity), labels, trainer.penalty, trainer.steps, tell)
        meaning = np.zeros(0)
        if trainer.encoder:
            before += trainer.steps
            dense = Dense(read[places])
            meaning = fitted(dense, labels, trainer.penalty, trainer.steps, tell)
        return Classifier(self._about(), rarity, words, meaning)

    def figures(self, read: Floats, learnt: Ints, held: Ints) -> dict[str, float]:
        """How well it does on rows that it has not seen."""
        made = self.made(read, learnt, 1)
        labels = self.labels[held]
        told = made.by_words([self.questions[i] for i in held.tolist()])
        if self.trainer.encoder:
            told = (told + made.by_meaning(read[held])) / 2
        usual = float(labels.mean())
        return {
            "accuracy": float(np.mean((told >= 0.5) == (labels > 0.5))),
            "accuracy_always_same": max(usual, 1 - usual),
            "auc": auc(labels, told),
        }

    def _about(self) -> About:
        model = self.trainer.encoder
        settings: dict[str, Any] = self.trainer.model_dump(mode="json")
        return About(
            recipe=RECIPE,
            model=model,
            model_sha256=weights_hash(resolve(model)) if model else "",
            settings=settings,
            rows=len(self.questions),
        )


def auc(labels: Floats, told: Floats) -> float:
    """How often a question that suits is told to be likelier than one that does not."""
    suiting, other = told[labels > 0.5], told[labels <= 0.5]
    if not (len(suiting) and len(other)):
        return 0.5
    above = np.searchsorted(np.sort(other), suiting, side="left")
    upto = np.searchsorted(np.sort(other), suiting, side="right")
    return float((above + upto).mean() / 2 / len(other))


def _checked(training: Training) -> list[Labelled]:
    """The rows. Raises ConfigError that names the row, and where there are too few."""
    rows: list[Labelled] = []
    for i, row in enumerate(training.rows, 1):
        try:
            rows.append(Labelled.model_validate(dict(row)))
        except ValidationError as error:
            raise ConfigError(f"row {i}: {first_fault(error)}") from error
    if len(rows) < 2:
        raise ConfigError(f"trainer 'router' needs 2 rows or more, and has {len(rows)}")
    return rows
