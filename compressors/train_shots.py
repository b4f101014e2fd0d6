"""Learn from a backend how many demonstrations a question needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field, field_validator

from tersely.artefact import About, save, weights_hash
from tersely.compressors.asking import Answers, Score, begun, rows_of, scored
from tersely.compressors.controller import (
    RECIPE,
    Choose,
    Controller,
    looks,
    nearness,
    perceptron,
    ready,
)
from tersely.contracts import Request
from tersely.errors import ConfigError, require
from tersely.models import resolve
from tersely.prompt import Prompt, Segment
from tersely.training import Checkpoints, Fit, TrainerModel, Training
from tersely.units import Ints

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 256
"""Questions in one step of the fit; fewer are taken all at once."""


class Shot(BaseModel):
    """A question with its right answers and what may be shown before it."""

    question: str
    answer: str | list[str]
    demonstrations: list[str]

    @property
    def answers(self) -> list[str]:
        """Every right answer."""
        return [self.answer] if isinstance(self.answer, str) else self.answer


class Shots(TrainerModel):
    """Trains the controller of the stage `dynaicl`.

    Every question is asked with ever more demonstrations, by the `ladder`, until the answer is
    `right` by its `score`; a small network learns from the question alone where that was.
    Questions that no number of demonstrations helps teach nothing and are left out of that, but
    not of the held-out figures: `accuracy` and what it would be with always the same number,
    the mean number of `shots`, and the `score` with as many and with all of them.

    What differs from the paper: see the stage.
    """

    name = "shots"
    paper = "Zhou et al. 2023, https://arxiv.org/abs/2305.11170"
    needs = frozenset({"encoder", "llm"})
    columns = ("question", "answer", "demonstrations")

    encoder: str = "minilm"
    ladder: tuple[int, ...] = Field(default=(0, 1, 2, 4, 8), min_length=2)
    choose: Choose = "nearest"
    instruction: str = ""
    score: Score = "contains"
    right: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=64, ge=1)
    batch: int = Field(default=16, ge=1)
    held: float = Field(default=0.2, gt=0, lt=1)
    sure: float = Field(default=0.5, gt=0, lt=1)
    hidden: int = Field(default=32, ge=1)
    steps: int = Field(default=300, ge=1)
    rate: float = Field(default=0.01, gt=0)

    @field_validator("ladder")
    @classmethod
    def _climbs(cls, ladder: tuple[int, ...]) -> tuple[int, ...]:
        if ladder[0] < 0 or list(ladder) != sorted(set(ladder)):
            raise ValueError("the numbers of demonstrations must climb, from 0 or more")
        return ladder

    def ready(self) -> None:
        require("torch", extra="local")
        ready("nearest", self.encoder)

    def train(self, training: Training, /) -> Path:
        self.ready()
        rows = rows_of(Shot, training)
        if len(rows) < 2:
            raise ConfigError(f"trainer 'shots' needs 2 rows or more, and has {len(rows)}")
        checkpoints, answers = begun(self, training, self.batch)
        work = _Work(self, training, rows, answers)
        needed = work.needed()
        order = np.random.default_rng(self.seed).permutation(len(rows))
        held = np.sort(order[: min(max(round(self.held * len(rows)), 1), len(rows) - 1)])
        learnt = np.setdiff1d(order, held)
        learnt = learnt[needed[learnt] >= 0]
        if not len(learnt):
            raise ConfigError(
                f"the backend was right on none of the rows with {self.ladder} demonstrations:"
                " there is nothing to learn"
            )
        made = work.fitted(learnt, needed[learnt], checkpoints)
        about = About(
            recipe=RECIPE,
            model=self.encoder,
            model_sha256=weights_hash(resolve(self.encoder)),
            settings=self.model_dump(mode="json"),
            figures=work.figures(made, held, needed),
            rows=len(rows),
        )
        folder = save(training.out, about, made.tensors)
        checkpoints.clear()
        return folder


@dataclass(slots=True)
class _Work:
    """One training: the questions, and what the backend said to them."""

    trainer: Shots
    training: Training
    rows: Sequence[Shot]
    answers: Answers
    orders: dict[int, Ints] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Steps of the whole work: every question at every rung, and the fit."""
        return len(self.rows) * len(self.trainer.ladder) + self.trainer.steps

    def needed(self) -> Ints:
        """The rung at which each question was answered first; -1 for never. Shape: (rows,)."""
        needed = np.full(len(self.rows), -1)
        for rung, count in enumerate(self.trainer.ladder):
            open_ = np.flatnonzero(needed < 0).tolist()
            before = rung * len(self.rows) + len(self.rows) - len(open_)

            def tell(done: int, before: int = before) -> None:
                right = float(np.mean(needed >= 0))
                self.training.progress(before + done, self.total, {"right": right})

            scores = self._scores(open_, [count] * len(open_), tell)
            needed[open_] = np.where(np.array(scores) >= self.trainer.right, rung, -1)
        return needed

    def fitted(self, learnt: Ints, wanted: Ints, checkpoints: Checkpoints) -> Controller:
        """A controller that tells what these questions needed."""
        import torch

        trainer = self.trainer
        questions = [self.rows[i].question for i in learnt.tolist()]
        plain = looks(questions)
        measured = {
            "looks.mean": torch.from_numpy(plain.mean(0)).float(),
            "looks.deviation": torch.from_numpy(plain.std(0).clip(1e-6)).float(),
        }
        inputs = Controller(trainer.ladder, trainer.encoder, measured).inputs(questions)
        classes = torch.from_numpy(wanted)
        network = perceptron(inputs.shape[1], trainer.hidden, len(trainer.ladder), trainer.seed)

        def loss(step: int) -> Tensor:
            rows = torch.from_numpy(_drawn(len(questions), trainer.seed, step))
            return torch.nn.functional.cross_entropy(network(inputs[rows]), classes[rows])

        def tell(done: int, total: int, figures: Mapping[str, float]) -> None:
            self.training.progress(self.total - total + done, self.total, figures)

        place = Checkpoints(checkpoints.folder / "fit", checkpoints.key)
        Fit(
            module=network,
            loss=loss,
            steps=trainer.steps,
            rate=trainer.rate,
            checkpoints=place,
            progress=tell,
        ).run()
        learned = {f"network.{name}": t for name, t in network.state_dict().items()}
        return Controller(trainer.ladder, trainer.encoder, {**measured, **learned})

    def figures(self, made: Controller, held: Ints, needed: Ints) -> dict[str, float]:
        """What the controller is worth on questions that it has not seen."""
        ladder = list(self.trainer.ladder)
        places = held.tolist()
        counts = made.counts([self.rows[i].question for i in places], self.trainer.sure)
        known = needed[held] >= 0
        told = np.array([ladder.index(count) for count in counts])
        figures = {
            "shots": float(np.mean(counts)),
            "score": float(np.mean(self._scores(places, counts))),
            "score_all": float(np.mean(self._scores(places, [ladder[-1]] * len(places)))),
        }
        if known.any():
            usual = np.bincount(needed[held][known]).max() / known.sum()
            right = np.mean(told[known] == needed[held][known])
            figures |= {"accuracy": float(right), "accuracy_always_same": float(usual)}
        return figures

    def _scores(
        self,
        places: Sequence[int],
        counts: Sequence[int],
        tell: Callable[[int], None] = lambda done: None,
    ) -> list[float]:
        """How good the answers are to some questions, each with so many demonstrations."""
        asked = [self._request(i, count) for i, count in zip(places, counts, strict=True)]
        said = self.answers.to(asked, tell)
        how = self.trainer.score
        return [scored(how, one, self.rows[i].answers) for i, one in zip(places, said, strict=True)]

    def _request(self, place: int, count: int) -> Request:
        """A question after the demonstrations that the stage would keep."""
        row = self.rows[place]
        kept = np.sort(self._order(place)[:count]).tolist() if count else []
        shown = "\n\n".join(row.demonstrations[i] for i in kept)
        texts = [
            Segment(text=self.trainer.instruction, role="system", kind="instruction", path=(0,)),
            Segment(text=shown, kind="example", turn=1, path=(1,)),
            Segment(text=row.question, kind="question", turn=1, path=(2,)),
        ]
        prompt = Prompt(tuple(text for text in texts if text.text), question=row.question)
        return Request(prompt=prompt, max_tokens=self.trainer.max_tokens)

    def _order(self, place: int) -> Ints:
        """The demonstrations of a row, those that go first first."""
        if place not in self.orders:
            row, trainer = self.rows[place], self.trainer
            worth = nearness(row.demonstrations, row.question, trainer.choose, trainer.encoder)
            self.orders[place] = np.argsort(-worth, kind="stable")
        return self.orders[place]


def _drawn(size: int, seed: int, step: int) -> Ints:
    """The rows of one step of the fit: all of them, or as many as a batch holds."""
    if size <= BATCH:
        return np.arange(size)
    return np.random.default_rng([seed, step]).choice(size, BATCH, replace=False)
