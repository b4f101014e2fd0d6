"""Teach a sentence encoder which sentences answer: contrastive training of the dual encoder."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from tersely.artefact import About, save, weights_hash
from tersely.convert import quiet
from tersely.errors import ConfigError, require
from tersely.models import resolve
from tersely.training import Fit, Row, TrainerModel, Training
from tersely.weights import Encoder, encoder, prompts

if TYPE_CHECKING:
    from torch import Tensor

FEWEST = 4
"""Rows below which there is nothing to learn from and something to hold out."""

LAST = 20
"""Steps over which the loss in the figures is a mean."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question, a sentence that helps to answer it, and some that don't."""

    question: str
    positive: str
    negatives: tuple[str, ...]


class Sentences(TrainerModel):
    """Trains the dual encoder that `recomp` takes, so that helpful sentences come out nearest.

    A row holds a `question`, a `positive` sentence and perhaps `negatives`, hard ones above all:
    sentences of the same documents that do not help. The loss is InfoNCE over cosines divided by
    `temperature`. A share of the rows, `holdout`, is kept for measuring: the mean reciprocal rank
    of the positive among all held-out sentences, before and after. The artefact is a
    sentence-transformers folder, for `Recomp(model=...)` or any other use.

    What differs from the paper: the rows come labelled (there a language model's likelihood of
    the answer labels them), the sentences of the other rows in a batch are negatives too, and
    nearness is a cosine.
    """

    name = "sentences"
    needs = frozenset({"encoder"})
    paper = "Xu et al. 2023, https://arxiv.org/abs/2310.04408"
    columns = ("question", "positive")

    model: str = "minilm"
    steps: int = Field(default=1000, ge=1)
    batch: int = Field(default=16, ge=2)
    negatives: int = Field(default=5, ge=0)
    rate: float = Field(default=2e-5, gt=0)
    temperature: float = Field(default=0.05, gt=0)
    holdout: float = Field(default=0.1, gt=0, lt=1)
    every: int = Field(default=50, ge=1)

    def ready(self) -> None:
        require("sentence_transformers", extra="rag")
        resolve(self.model)

    def train(self, training: Training, /) -> Path:
        """Train, or go on training; the folder of the encoder."""
        lessons, held = self._parted(list(_examples(training.rows)))
        learner = Encoder(copy.deepcopy(encoder(self.model, precision="float32").model))
        before = reciprocal_rank(learner, held)
        checkpoints = self.checkpoints(training)
        losses = Fit(
            module=learner.model.train(),
            loss=lambda step: self._loss(learner, lessons, step),
            steps=self.steps,
            rate=self.rate,
            every=self.every,
            checkpoints=checkpoints,
            progress=training.progress,
        ).run()
        learner.model.eval()
        figures = {
            "mrr_before": before,
            "mrr_after": reciprocal_rank(learner, held),
            "loss": float(np.mean(losses[-LAST:])),
        }
        self._write(training, learner, figures)
        checkpoints.clear()
        return training.out

    def _write(self, training: Training, learner: Encoder, figures: dict[str, float]) -> None:
        with quiet():
            learner.model.save(str(training.out), create_model_card=False)
        about = About(
            recipe="recomp",
            model=self.model,
            model_sha256=weights_hash(resolve(self.model)),
            settings=self.model_dump(mode="json"),
            figures=figures,
            rows=len(training.rows),
        )
        save(training.out, about)

    def _parted(self, examples: list[Example]) -> tuple[list[Example], list[Example]]:
        """What is learnt from, and what is held out. Raises ConfigError on too few."""
        if len(examples) < FEWEST:
            raise ConfigError(f"training takes at least {FEWEST} rows, were {len(examples)}")
        order = np.random.default_rng(self.seed).permutation(len(examples)).tolist()
        size = min(max(2, round(len(examples) * self.holdout)), len(examples) - 2)
        return [examples[i] for i in order[size:]], [examples[i] for i in order[:size]]

    def _loss(self, learner: Encoder, lessons: Sequence[Example], step: int) -> Tensor:
        """InfoNCE of one batch, which depends on the step alone, dropout included."""
        import torch

        draw = np.random.default_rng((self.seed, step))
        chosen = draw.choice(len(lessons), min(self.batch, len(lessons)), replace=False)
        batch = [lessons[i] for i in chosen.tolist()]
        texts = [one.positive for one in batch]
        for one in batch:
            picked = draw.permutation(len(one.negatives))[: self.negatives]
            texts += [one.negatives[i] for i in picked.tolist()]
        device = learner.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(draw.integers(2**31)))
            asked, told = prompts(learner)
            questions = _embedded(learner, [asked + one.question for one in batch])
            sentences = _embedded(learner, [told + text for text in texts])
        nearness = questions @ sentences.T / self.temperature
        twins = torch.tensor(_twins(batch, texts), device=device)
        return torch.nn.functional.cross_entropy(
            nearness.masked_fill(twins, float("-inf")),
            torch.arange(len(batch), device=device),
        )


def reciprocal_rank(learner: Encoder, held: Sequence[Example]) -> float:
    """The mean reciprocal rank of each positive among all sentences of these examples."""
    pool = list(dict.fromkeys(text for one in held for text in (one.positive, *one.negatives)))
    asked, told = prompts(learner)
    nearness = (
        learner.vectors([asked + one.question for one in held])
        @ learner.vectors([told + text for text in pool]).T
    )
    own = np.array([pool.index(one.positive) for one in held])
    ranks = (nearness >= nearness[np.arange(len(held)), own][:, None]).sum(axis=1)
    return float(np.mean(1 / ranks))


def _embedded(learner: Encoder, texts: list[str]) -> Tensor:
    """Vectors of length 1 that can be learnt from. Shape: (texts, width)."""
    import torch

    model = learner.model
    read = getattr(model, "preprocess", None) or model.tokenize  # its name before version 5
    features: dict[str, Any] = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in read(texts).items()
    }
    return torch.nn.functional.normalize(model(features)["sentence_embedding"], dim=-1)


def _twins(batch: Sequence[Example], texts: Sequence[str]) -> list[list[bool]]:
    """Where a sentence would count as wrong that is the right one, or is for the same question."""
    right: dict[str, set[str]] = {}
    for one in batch:
        right.setdefault(one.question, set()).add(one.positive)
    return [
        [text in right[one.question] and at != i for at, text in enumerate(texts)]
        for i, one in enumerate(batch)
    ]


def _examples(rows: Sequence[Row]) -> Iterator[Example]:
    """The rows as examples. Raises ConfigError with the row's number and value."""
    for number, row in enumerate(rows, 1):
        for column in Sentences.columns:
            if not isinstance(row.get(column), str) or not row[column].strip():
                raise ConfigError(
                    f"row {number}: {column} is a text that is not empty, was {row.get(column)!r}"
                )
        negatives = row.get("negatives") or ()
        if isinstance(negatives, str) or not all(isinstance(text, str) for text in negatives):
            raise ConfigError(f"row {number}: negatives is a list of texts, was {negatives!r}")
        yield Example(row["question"], row["positive"], tuple(negatives))
