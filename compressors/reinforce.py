"""Learning what to keep from what a model answers: REINFORCE with the greedy choice as baseline."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from pydantic import Field

from tersely.artefact import About
from tersely.compressors.asking import Answers, begun
from tersely.compressors.policy import Policy, new_policy, require_encoder, save_policy
from tersely.contracts import Backend, Completion, Request
from tersely.errors import ConfigError
from tersely.prompt import Prompt, Segment
from tersely.training import Checkpoints, Fit, TrainerModel, Training
from tersely.units import Bools, Floats

if TYPE_CHECKING:
    from torch import Tensor

ASKED = 64
"""Requests in one call of the backend when the answers to what is not compressed are gathered."""


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """What a head would keep of a row of units, and what was drawn from it.

    The first row is the greedy choice, the others are samples; `free` tells what was a matter of
    choice at all. Shape: (units,), (1 + samples, units) for `kept` and `free`.
    """

    logits: Tensor
    kept: Bools
    free: Bools

    def loss(self, advantages: Floats, entropy: float) -> Tensor:
        """Samples that did better than the greedy choice become likelier, others less likely.

        `entropy` is what it is worth to stay undecided. Shape: (samples,) -> ().
        """
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits

        drawn = torch.from_numpy(self.kept[1:]).float()
        free = torch.from_numpy(self.free[1:]).float()
        many = free.sum().clamp(min=1)
        rows = self.logits.expand_as(drawn)
        surprise = binary_cross_entropy_with_logits(rows, drawn, reduction="none")
        gained = (torch.from_numpy(advantages).float()[:, None] * surprise * free).sum() / many
        chances = torch.sigmoid(rows)
        undecided = binary_cross_entropy_with_logits(rows, chances, reduction="none")
        return gained - entropy * (undecided * free).sum() / many


def drawn(logits: Tensor, fixed: Bools, samples: int, rng: np.random.Generator) -> Choices:
    """The greedy choice and some samples; what is fixed is kept in all of them."""
    odds = logits.detach().numpy()
    chances = rng.random((samples, len(odds))) < 1 / (1 + np.exp(-odds))
    kept = np.vstack([odds > 0, chances]) | fixed
    return Choices(logits, kept, np.broadcast_to(~fixed, kept.shape).copy())


class Episode(Protocol):
    """What is tried for one row: the greedy choice first, then the samples."""

    @property
    def prompts(self) -> Sequence[str]: ...
    def rewards(self, said: Sequence[Completion], /) -> Floats:
        """What each answer is worth. Shape: (1 + samples,)."""
        ...

    def loss(self, advantages: Floats, entropy: float, /) -> Tensor: ...


class Reinforced(TrainerModel):
    """Base of the trainers that learn from a backend's answers.

    Each of `steps` takes `batch` rows, `samples` tries of each, and asks for all answers in one
    call. `hidden` is the width of the network on the encoder, `rate` how fast it learns,
    `entropy` what it is worth to stay undecided. `held` is the share of the rows on which
    the figures are measured. `every` is how many steps lie between two checkpoints.

    A subclass gives `recipe`, the stage that takes what is learned, and `widths`: its heads,
    with the width of their features in widths of the encoder.
    """

    needs = frozenset({"encoder", "llm"})
    recipe: ClassVar[str]
    widths: ClassVar[Mapping[str, int]]

    encoder: str = "minilm"
    hidden: int = Field(default=128, ge=1)
    steps: int = Field(default=500, ge=1)
    batch: int = Field(default=4, ge=1)
    samples: int = Field(default=4, ge=1)
    rate: float = Field(default=1e-3, gt=0)
    entropy: float = Field(default=0.03, ge=0)
    max_tokens: int = Field(default=128, ge=1)
    held: float = Field(default=0.1, gt=0, lt=1)
    every: int = Field(default=20, ge=1)

    def ready(self) -> None:
        require_encoder(self.encoder)

    @abstractmethod
    def examples(self, training: Training, answers: Answers) -> Sequence[Any]:
        """The rows as they are learned from. Raises ConfigError that names a bad one."""

    @abstractmethod
    def episodes(
        self, examples: Sequence[Any], policy: Policy, rng: np.random.Generator
    ) -> Sequence[Episode]:
        """What is tried for some examples."""

    @abstractmethod
    def figures(
        self, held: Sequence[Any], policy: Policy, backend: Backend, folder: Path
    ) -> dict[str, float]:
        """How well the policy does on rows it did not learn from; its artefact is in `folder`."""

    def asked(self, prompts: Sequence[str], backend: Backend) -> list[Completion]:
        """The answers to some prompts in one call, each different one asked once."""
        different = list(dict.fromkeys(prompts))
        said = backend.complete([self.request(prompt, backend) for prompt in different])
        by_prompt = dict(zip(different, said, strict=True))
        return [by_prompt[prompt] for prompt in prompts]

    def request(self, prompt: str, backend: Backend) -> Request:
        """A prompt as it is sent."""
        return Request(
            prompt=Prompt((Segment(text=prompt, kind="instruction"),), turns=1),
            max_tokens=self.max_tokens,
            logprobs="logprobs" in backend.capabilities,
        )

    def train(self, training: Training, /) -> Path:
        if len(training.rows) < 2:
            raise ConfigError(
                f"trainer {self.name!r} needs 2 rows at least (given: {len(training.rows)})"
            )
        checkpoints, answers = begun(self, training, ASKED)
        examples = self.examples(training, answers)
        order = np.random.default_rng(self.seed).permutation(len(examples)).tolist()
        many = max(1, min(round(len(order) * self.held), len(order) - 1))
        held, learned = [examples[i] for i in order[:many]], [examples[i] for i in order[many:]]
        policy = new_policy(self.encoder, self.widths, hidden=self.hidden, seed=self.seed)
        lesson = _Lesson(self, learned, policy, answers.backend)
        lesson.learn(Checkpoints(checkpoints.folder / "learning", checkpoints.key), training)
        about = About(recipe=self.recipe, settings=self.model_dump(), rows=len(examples))
        save_policy(policy, training.out, about)
        figures = self.figures(held, policy, answers.backend, training.out)
        save_policy(policy, training.out, about.model_copy(update={"figures": figures}))
        checkpoints.clear()
        return training.out


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """A trainer, the examples to learn from, and what learns from whom."""

    trainer: Reinforced
    examples: Sequence[Any]
    policy: Policy
    backend: Backend

    def learn(self, checkpoints: Checkpoints, training: Training) -> None:
        """All steps, or those that are left."""
        latest: dict[str, float] = {}

        def loss(step: int) -> Tensor:
            found, latest["reward"] = self._step(step)
            return found

        Fit(
            module=self.policy.heads,
            loss=loss,
            steps=self.trainer.steps,
            rate=self.trainer.rate,
            every=self.trainer.every,
            checkpoints=checkpoints,
            progress=lambda done, total, told: training.progress(done, total, {**told, **latest}),
        ).run()

    def _step(self, step: int) -> tuple[Tensor, float]:
        """The loss of a step, which depends on its number alone, and what greed was worth."""
        rng = np.random.default_rng([self.trainer.seed, step])
        size = min(self.trainer.batch, len(self.examples))
        picked = rng.choice(len(self.examples), size, replace=False).tolist()
        tried = self.trainer.episodes([self.examples[i] for i in picked], self.policy, rng)
        prompts = [prompt for one in tried for prompt in one.prompts]
        said = self.trainer.asked(prompts, self.backend)
        losses: list[Tensor] = []
        greedy: list[float] = []
        for i, one in enumerate(tried):
            many = len(prompts) // len(tried)
            rewards = one.rewards(said[i * many : (i + 1) * many])
            losses.append(one.loss(rewards[1:] - rewards[0], self.trainer.entropy))
            greedy.append(float(rewards[0]))
        total: Tensor = sum(losses[1:], start=losses[0])
        return total / len(losses), float(np.mean(greedy))
