"""Learn a long fixed prompt as a handful of vectors: the trainer of the stage `soft`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

from pydantic import Field

from tersely.artefact import tokenizer_hash, weights_hash
from tersely.compressors.asking import rows_of
from tersely.compressors.soft_course import Course, read
from tersely.compressors.soft_distil import Student, batches
from tersely.compressors.soft_lessons import Asked, School
from tersely.compressors.soft_measure import Soft
from tersely.compressors.soft_reading import Rendering, check
from tersely.compressors.soft_start import Start
from tersely.errors import ConfigError, require
from tersely.fidelity import Figures, Threshold
from tersely.models import resolve
from tersely.soft_artefact import Form, Role, SoftAbout, SoftArtefact, text_hash
from tersely.training import Fit, TrainerModel, Training
from tersely.weights import causal_lm

WARM = 5
"""Steps in which the rate rises to its full height."""

LEFT = 0.05
"""The share of the rate with which the last step is taken."""


class SoftTrainer(TrainerModel):
    """Learns a text that begins every prompt as `tokens` vectors that a local model reads instead.

    The next-token distributions of the model with the full `text` are distilled into the model
    with the vectors, by KL divergence over every token of turns and answers. In the form `kv` they
    are keys and values of every layer, which stand for all that the prompt begins with; in the
    form `embeds` they stand where the embeddings of the text's tokens would, for engines that take
    nothing else. `role` says whether the text is the system message or begins the first user turn.

    A row holds a `question` that a user asks behind the text, and perhaps the `answer`; they are
    filled up to `turns` with some that the model makes itself from the text. Answers that are not
    given are the model's own with the full text, up to `answer_tokens`, drawn at the temperature
    `heat`.

    `start` is where learning begins: `matched` fits keys and values so that the model's own
    queries find what they find in the full text (for `embeds` it takes the tokens that are looked
    at most), `averaged` takes means over chunks, `first` the first tokens. The rate falls like a
    cosine. `held` turns decide which state is best, and when to stop: after `patience` looks, one
    every `every` steps, that were no better; as many others measure fidelity. `facts` are to be
    kept word for word; none given: those found in the text. What differs from the papers: the
    start, and that every turn stands alone and is short.
    """

    name = "soft"
    needs = frozenset({"causal_lm"})
    paper = "Eyuboglu et al. 2025, https://arxiv.org/abs/2506.06266"
    columns = ("question",)

    text: str = ""
    model: str = "smollm2"
    form: Form = "kv"
    role: Role = "system"
    tokens: int = Field(default=64, ge=1)
    start: Start = "matched"
    turns: int = Field(default=128, ge=0)
    answer_tokens: int = Field(default=40, ge=1)
    heat: float = Field(default=0.0, ge=0)
    steps: int = Field(default=150, ge=1)
    batch: int = Field(default=4, ge=1)
    rate: float = Field(default=0.005, gt=0)
    every: int = Field(default=25, ge=1)
    patience: int = Field(default=3, ge=0)
    held: int = Field(default=16, ge=1)
    facts: tuple[str, ...] = ()
    threshold: Threshold = Threshold()

    def ready(self) -> None:
        require("torch", "transformers", "safetensors", extra="local")
        if not self.text.strip():
            raise ConfigError("there is no text to learn: give it as `text`")
        resolve(self.model)

    def train(self, training: Training, /) -> Path:
        """Train, or go on training; the folder of the artefact."""
        course = self._course(training, [self.tokens])
        student = course.student(self.tokens, self.form, self.start)
        untrained = student.soft(self.model)
        steps, seconds = self._fitted(student, course, training)
        soft = student.soft(self.model)
        fidelity = course.measure(self.model).fidelity(soft, untrained)
        about = SoftAbout(
            form=self.form,
            role=self.role,
            model=self.model,
            model_sha256=weights_hash(resolve(self.model)),
            tokenizer_sha256=tokenizer_hash(resolve(self.model)),
            text_sha256=text_hash(self.text),
            text_tokens=course.school.size(self.form),
            tokens=self.tokens,
            settings=self.model_dump(mode="json", exclude={"text"}),
            figures={"kl": fidelity.kl.mean, "agreement": fidelity.agreement.mean},
            rows=len(course.learned) + len(course.watched) + len(course.last),
            seed=self.seed,
            steps=steps,
            seconds=course.school.seconds + seconds,
            read_seconds=course.school.read_seconds,
            device=course.school.rendering.lm.device.type,
            fidelity=fidelity,
            threshold=self.threshold,
        )
        SoftArtefact(about, soft, self.text).save(training.out)
        self.checkpoints(training).clear()
        return training.out

    def evaluate(
        self, softs: Mapping[str, Soft], sizes: Sequence[int], training: Training
    ) -> dict[int, dict[str, Figures]]:
        """The figures at each size: of vectors of that size, of the start, and of shorter texts.

        They are measured on what `train` would hold out of the same rows. Nothing is trained.
        """
        every = sorted({*sizes, *map(len, softs.values())})
        course = self._course(training, every)
        found: dict[int, dict[str, Figures]] = {}
        for done, size in enumerate(every, 1):
            own = {name: soft for name, soft in softs.items() if len(soft) == size}
            start = course.student(size, self.form, self.start).soft(self.model)
            found[size] = course.measure(self.model).beside({**own, "untrained": start}, size)
            training.progress(done, len(every), {})
        self.checkpoints(training).clear()
        return found

    def _course(self, training: Training, sizes: Sequence[int]) -> Course:
        """The turns, and the model that has read the full text."""
        self.ready()
        lm = causal_lm(self.model)
        check(lm, self.model)
        rows, rendering = rows_of(Asked, training), Rendering(lm, self.role)
        full, seconds = read(rendering, self.text)
        school = School(
            rendering=rendering,
            text=self.text,
            full=full,
            read_seconds=seconds,
            turns_wanted=self.turns,
            answer_tokens=self.answer_tokens,
            heat=self.heat,
            batch=self.batch,
            seed=self.seed,
            checkpoints=self.checkpoints(training),
            progress=training.progress,
        )
        school.check(sizes, self.form)
        return Course.of(school, rows, held=self.held, facts=self.facts)

    def _fitted(self, student: Student, course: Course, training: Training) -> tuple[int, float]:
        """Let it learn; how many steps were taken, and how many seconds they took."""
        own, watched = course.lessons()
        sizes = [len(one.ids) for one in own]
        ran: list[float] = [perf_counter()]

        def told(done: int, total: int, figures: Mapping[str, float]) -> None:
            ran.append(perf_counter())
            training.progress(done, total, figures)

        losses = Fit(
            module=student.module,
            loss=lambda step: student.loss(
                [own[i] for i in _drawn(step, sizes, self.batch, self.seed)]
            ),
            steps=self.steps,
            rate=self.rate,
            every=self.every,
            schedule=lambda step: _height(step, self.steps),
            held=lambda: student.far(watched),
            patience=self.patience,
            checkpoints=self.checkpoints(training),
            progress=told,
        ).run()
        return len(losses), (ran[-1] - ran[0]) / max(len(ran) - 1, 1) * len(losses)


def _drawn(step: int, sizes: Sequence[int], batch: int, seed: int) -> list[int]:
    """What a step learns from; each round goes through all in another order."""
    a_round = -(-len(sizes) // batch)
    return batches(sizes, batch, [seed, step // a_round])[step % a_round]


def _height(step: int, steps: int) -> float:
    """What the rate is multiplied by: up fast, then down like a cosine."""
    falling = (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / WARM) * (LEFT + (1 - LEFT) * falling)
