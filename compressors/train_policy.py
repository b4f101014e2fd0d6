"""Teach a policy which words of an instruction a model can do without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, Field, model_validator

from tersely.compressors.asking import Answers, rows_of, scored
from tersely.compressors.pcrl import HEAD, fixed
from tersely.compressors.policy import Policy, Pooled, pooled
from tersely.compressors.reinforce import Choices, Reinforced, drawn
from tersely.contracts import Backend, Completion
from tersely.protect import protected
from tersely.render import render
from tersely.select import MARK
from tersely.training import Training
from tersely.units import Bools, Floats, Units, split

if TYPE_CHECKING:
    from torch import Tensor


class _Row(BaseModel):
    """A prompt, whole or in its two parts."""

    prompt: str = ""
    instruction: str = ""
    input: str = ""

    @model_validator(mode="after")
    def _says_something(self) -> _Row:
        if not self.text.strip():
            raise ValueError("give a `prompt`, or an `instruction` and perhaps an `input`")
        return self

    @property
    def text(self) -> str:
        return self.prompt or "\n\n".join(filter(None, (self.instruction, self.input)))


@dataclass(frozen=True, slots=True, eq=False)
class _Example:
    """A prompt in words, those that are no matter of choice, and what the model says to it."""

    units: Units
    fixed: Bools
    said: str


@dataclass(frozen=True, slots=True, eq=False)
class _Episode:
    """Some ways to shorten one prompt, and what each is worth."""

    example: _Example
    choices: Choices
    removed: Floats
    tau: float
    penalty: float

    @property
    def prompts(self) -> Sequence[str]:
        return [written(self.example.units, kept) for kept in self.choices.kept]

    def rewards(self, said: Sequence[Completion], /) -> Floats:
        alike = np.array([_alike(one.text, self.example.said) for one in said])
        return alike + np.where(alike >= self.tau, self.removed, -self.penalty)

    def loss(self, advantages: Floats, entropy: float, /) -> Tensor:
        return self.choices.loss(advantages, entropy)


class PolicyTrainer(Reinforced):
    """Teaches which words can go without changing what the model answers, for `pcrl`.

    A row holds a `prompt`, or an `instruction` and perhaps an `input`. The answers to the
    prompts as they are, asked once, are the goal: a shortened prompt is worth the ROUGE-L of its
    answer with it, plus the share of tokens that went, if the two are at least `tau` alike; else
    `penalty` is taken off. The figures tell how alike the answers are on rows held out
    (`similarity`) and how many tokens are kept (`ratio`), and the same for as many words dropped
    by chance.
    """

    name = "policy"
    paper = "Jung and Kim 2023, https://arxiv.org/abs/2308.08758"
    columns = ("prompt",)
    other_columns = ("instruction",)
    recipe = "pcrl"
    widths: ClassVar = {HEAD: 1}

    tau: float = Field(default=0.9, ge=0, le=1)
    penalty: float = Field(default=0.1, ge=0)

    def examples(self, training: Training, answers: Answers) -> Sequence[_Example]:
        prompts = [row.text for row in rows_of(_Row, training)]
        said = answers.to([self.request(prompt, answers.backend) for prompt in prompts])
        return [_example(text, one) for text, one in zip(prompts, said, strict=True)]

    def episodes(
        self, examples: Sequence[_Example], policy: Policy, rng: np.random.Generator
    ) -> Sequence[_Episode]:
        read = pooled([example.units for example in examples], policy.encoder)
        tried = []
        for example, one in zip(examples, read, strict=True):
            choices = drawn(policy.logits(HEAD, one.states), example.fixed, self.samples, rng)
            removed = 1 - _shares(choices.kept, one)
            tried.append(_Episode(example, choices, removed, self.tau, self.penalty))
        return tried

    def figures(
        self, held: Sequence[_Example], policy: Policy, backend: Backend, folder: Path
    ) -> dict[str, float]:
        read = pooled([example.units for example in held], policy.encoder)
        rng = np.random.default_rng(self.seed)
        learned = [
            (policy.log_odds(HEAD, one.states) >= 0) | example.fixed
            for example, one in zip(held, read, strict=True)
        ]
        chance = [_by_chance(kept, one.fixed, rng) for kept, one in zip(learned, held, strict=True)]
        told: dict[str, float] = {}
        for prefix, choice in (("", learned), ("random_", chance)):
            prompts = [written(one.units, kept) for one, kept in zip(held, choice, strict=True)]
            said = self.asked(prompts, backend)
            alike = [_alike(a.text, one.said) for a, one in zip(said, held, strict=True)]
            shares = [_shares(kept[None], one)[0] for kept, one in zip(choice, read, strict=True)]
            told[f"{prefix}similarity"] = float(np.mean(alike))
            told[f"{prefix}ratio"] = float(np.mean(shares))
        return told


def written(units: Units, kept: Bools) -> str:
    """The text of the kept words; a prompt is never empty."""
    return render(units, kept) or MARK


def _alike(said: str, wanted: str) -> float:
    return scored("rouge_l", said, [wanted])


def _example(text: str, said: str) -> _Example:
    facts = protected(text)
    units = split(text, "word", atoms=facts)
    return _Example(units, fixed(units, facts), said)


def _shares(kept: Bools, read: Pooled) -> Floats:
    """The share of the tokens that each choice keeps. Shape: (choices, units) -> (choices,)."""
    shares: Floats = kept @ read.tokens / max(read.tokens.sum(), 1)
    return shares


def _by_chance(kept: Bools, fixed: Bools, rng: np.random.Generator) -> Bools:
    """As many of the free words kept, but by chance."""
    free = np.flatnonzero(~fixed)
    chance = fixed.copy()
    chance[rng.permutation(free)[: kept[free].sum()]] = True
    return chance
