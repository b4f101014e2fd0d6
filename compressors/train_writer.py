"""What the trainers of writers share: settings, the loop, and figures by steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from tersely.artefact import write_whole
from tersely.compressors.asking import rows_of
from tersely.compressors.writer import Shape, Writer, new_writer
from tersely.compressors.writer_artefact import WriterAbout, save_writer, told_of
from tersely.compressors.writer_figures import BASELINES, Written, baseline, figures
from tersely.compressors.writer_lessons import Lessons, WriterLesson, WriterRow, drawn, parted
from tersely.contracts import Need
from tersely.errors import ConfigError, require
from tersely.models import resolve
from tersely.soft_artefact import Form
from tersely.training import Checkpoints, Fit, TrainerModel, Training
from tersely.weights import Precision, causal_lm

if TYPE_CHECKING:
    from torch import Tensor

CURVE = "curve.json"

LAST = 20
"""Steps over which the training loss in the figures is a mean."""


class WriterTrainer(TrainerModel):
    """Trains a LoRA to write `tokens` vectors for each `span` tokens of a text it has not seen.

    A row holds a `text`, and perhaps a `question` about it with its `answer`. Of texts alone, what
    follows is to be foretold from the vectors (`rest` tokens). The model that reads is `base` as it
    is; the adapter has `rank` and `alpha` on the layers in `targets` (see peft; several with commas
    between). With `anchored` a vector begins as a token of the text, the last of its share; the
    papers begin all alike, and need far longer.

    Some of the texts (`held`, `most_held` lessons at most) are held out. On them, `measure` steps
    apart, the `held_loss` in nats a token is measured, and of questions the `held_answer_loss` and
    the `held_f1` of the model's own answers (ROUGE-L, 0 to 1), all of it beside as many tokens of
    the text: its `first`, its `last`, `random` ones, `none`, or the `full` text.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"causal_lm"})
    columns: ClassVar[tuple[str, ...]] = ("text",)

    base: str = "smollm2"
    tokens: int = Field(default=16, ge=1)
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    targets: str = "all-linear"
    anchored: bool = True
    span: int = Field(default=128, ge=8)
    rest: int = Field(default=48, ge=4)
    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=8, ge=1)
    rate: float = Field(default=5e-4, gt=0)
    held: float = Field(default=0.1, gt=0, lt=1)
    most_held: int = Field(default=64, ge=1)
    measure: int = Field(default=100, ge=1)
    every: int = Field(default=50, ge=1)
    precision: Precision = "auto"

    def ready(self) -> None:
        require("torch", "transformers", "safetensors", extra="local")
        require("peft", extra="train")
        resolve(self.base)

    @property
    def written_as(self) -> Form:
        """Whether it writes vectors, or keys and values."""
        return "embeds"

    @property
    def reach(self) -> int:
        """How many tokens of a text it reads at most to learn from."""
        return self.span

    def write(self, writer: Writer, lessons: Sequence[WriterLesson]) -> Written:
        """What stands for the texts of some lessons."""
        raise NotImplementedError

    def loss(
        self, writer: Writer, lessons: Sequence[WriterLesson], draw: np.random.Generator
    ) -> Tensor:
        """What is to become less."""
        raise NotImplementedError

    def train(self, training: Training, /) -> Path:
        self.ready()
        writer = self._writer()
        lessons, held = self._parted(training, writer)
        checkpoints = self.checkpoints(training)
        curve = Curve(checkpoints, lambda: self._measured(writer, held), self.measure)
        curve.resume()

        def loss(step: int) -> Tensor:
            curve.reach(step)
            return self._step(step, writer, lessons)

        losses = Fit(
            module=writer.module,
            loss=loss,
            steps=self.steps,
            rate=self.rate,
            every=self.every,
            checkpoints=checkpoints,
            progress=training.progress,
        ).run()
        points = curve.finished(losses)
        told = {"train_loss": float(np.mean(losses[-LAST:]))}
        told |= {name: points[-1][name] for name in points[-1] if name.startswith("held_")}
        told |= baselines(writer, held, lambda some: self.write(writer, some))
        self._save(training, writer, told, points)
        checkpoints.clear()
        return training.out

    def _writer(self) -> Writer:
        shape = Shape(
            tokens=self.tokens,
            rank=self.rank,
            alpha=self.alpha,
            targets=self.targets,
            anchored=self.anchored,
        )
        return new_writer(causal_lm(self.base, precision=self.precision), shape, self.seed)

    def _parted(
        self, training: Training, writer: Writer
    ) -> tuple[list[WriterLesson], list[WriterLesson]]:
        """What is learned from, and what is held out. Raises ConfigError on too little."""
        learned, held = parted(rows_of(WriterRow, training), self.held, self.seed)
        cut = Lessons(writer.lm, self.reach, self.rest, self.tokens)
        lessons, apart = cut.of(learned), cut.of(held)
        if not lessons or not apart:
            raise ConfigError(
                f"the rows teach too little: {len(lessons)} texts to learn from and {len(apart)}"
                f" held out have more than {self.tokens} tokens with something behind them"
            )
        kept = np.linspace(0, len(apart) - 1, min(len(apart), self.most_held)).astype(int)
        return lessons, [apart[i] for i in kept.tolist()]

    def _step(self, step: int, writer: Writer, lessons: Sequence[WriterLesson]) -> Tensor:
        """The loss of a batch, which is drawn by the step's number alone."""
        places = range(step * self.batch, (step + 1) * self.batch)
        batch = [lessons[i] for i in drawn(places, len(lessons), self.seed)]
        return self.loss(writer, batch, np.random.default_rng([self.seed, step, 1]))

    def _measured(self, writer: Writer, held: Sequence[WriterLesson]) -> dict[str, float]:
        found = figures(writer, held, lambda some: self.write(writer, some))
        return {f"held_{name}": value for name, value in found.items()}

    def _save(
        self,
        training: Training,
        writer: Writer,
        told: Mapping[str, float],
        points: Sequence[Mapping[str, float]],
    ) -> None:
        page = told_of(writer.shape, self.base) | {
            "recipe": self.name,
            "span": self.span,
            "form": self.written_as,
            "settings": self.model_dump(mode="json"),
            "figures": told,
            "rows": len(training.rows),
            "curve": points,
        }
        save_writer(training.out, WriterAbout.model_validate(page), writer)


def baselines(
    writer: Writer,
    held: Sequence[WriterLesson],
    write: Callable[[Sequence[WriterLesson]], Written],
) -> dict[str, float]:
    """Figures of as many tokens of the texts as something is written for them."""
    import torch

    with torch.inference_mode():
        sizes = [sizes_of(write([one])) for one in held]
    return {
        f"{name}_{what}": value
        for name, choice in BASELINES.items()
        for what, value in baseline(writer, held, sizes, choice).items()
    }


def sizes_of(written: Written) -> int:
    """How many tokens stand for the only text."""
    import torch

    one = written[0]
    return len(one) if isinstance(one, torch.Tensor) else int(one[0][0].shape[1])


@dataclass(slots=True)
class Curve:
    """Figures on what is held out, by steps; they are kept beside the state of the work."""

    checkpoints: Checkpoints
    measured: Callable[[], dict[str, float]]
    every: int
    points: dict[int, dict[str, float]] = field(default_factory=dict)

    def resume(self) -> None:
        """Take up what was measured before the work was stopped."""
        if self.checkpoints.load() is not None and self._file.is_file():
            known = json.loads(self._file.read_text(encoding="utf-8"))
            self.points = {int(point["step"]): point for point in known}

    def reach(self, step: int) -> None:
        """Measure, if it is time, what so many steps have taught."""
        if step % self.every == 0 and step not in self.points:
            self._measure(step)

    def finished(self, losses: Sequence[float]) -> list[dict[str, float]]:
        """All points in order, with the mean loss of training since the one before."""
        if len(losses) not in self.points:
            self._measure(len(losses))
        made, before = [], 0
        for step in sorted(self.points):
            point = dict(self.points[step])
            if step > before:
                point["loss"] = float(np.mean(losses[before:step]))
            made.append(point)
            before = step
        return made

    @property
    def _file(self) -> Path:
        return self.checkpoints.folder / CURVE

    def _measure(self, step: int) -> None:
        self.points[step] = {"step": step, **self.measured()}
        self.checkpoints.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps([*self.points.values()])
        write_whole(self._file, lambda path: path.write_text(text, encoding="utf-8"))
