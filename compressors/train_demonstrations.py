"""Teach a policy which demonstrations, and which words in them, lead to right answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import regex
from pydantic import BaseModel, Field

from tersely.compressors.asking import Answers, rows_of, scored
from tersely.compressors.baselines import Random
from tersely.compressors.cot_influx import SHOTS, WORDS, CoTInflux, features, fixed, whole
from tersely.compressors.policy import Policy, pooled
from tersely.compressors.reinforce import Choices, Reinforced, drawn
from tersely.contracts import Backend, Completion, Context, StageModel
from tersely.prompt import Prompt, Segment
from tersely.protect import protected
from tersely.render import render
from tersely.tokens import counter
from tersely.training import Training
from tersely.units import Bools, Floats, Units, split

if TYPE_CHECKING:
    from torch import Tensor

BLANK_LINES = regex.compile(r"\n\s*\n")
NUMBER = regex.compile(
    r"(?:(?<![\w.,])-)?\d{1,3}(?:,\d{3})++(?:\.\d++)?|(?:(?<![\w.,])-)?\d++(?:\.\d++)?"
)
ENDS_IN_NUMBER = regex.compile(rf"(?:{NUMBER.pattern})[^\p{{L}}\d]{{0,8}}$")


class _Row(BaseModel):
    """A question with its answer, and the demonstrations to choose from."""

    question: str = Field(min_length=1)
    answer: str | list[str] = Field(min_length=1)
    demonstrations: list[str] = Field(min_length=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Example:
    """A question with its answer, the demonstrations in words, and the words that go last."""

    question: str
    answers: Sequence[str]
    shots: Sequence[Units]
    fixed: Sequence[Bools]


@dataclass(frozen=True, slots=True, eq=False)
class _Episode:
    """Some ways to thin out the demonstrations of one question."""

    trainer: DemonstrationsTrainer
    example: _Example
    shots: Choices
    words: Choices
    kept: Floats

    @property
    def prompts(self) -> Sequence[str]:
        bounds = np.cumsum([len(one) for one in self.example.shots])[:-1]
        return [
            _written(self.example, shots, np.split(words, bounds))
            for shots, words in zip(self.shots.kept, self.words.kept, strict=True)
        ]

    def rewards(self, said: Sequence[Completion], /) -> Floats:
        right = np.array([self._worth(one) for one in said])
        filled = self.kept / self.trainer.ratio
        return right * np.minimum(filled, 1 / np.maximum(filled, 1e-9)) ** self.trainer.pull

    def loss(self, advantages: Floats, entropy: float, /) -> Tensor:
        return self.shots.loss(advantages, entropy) + self.words.loss(advantages, entropy)

    def _worth(self, said: Completion) -> float:
        """1 for a right answer, and more when the model was sure of it."""
        if not is_right(said.text, self.example.answers):
            return 0.0
        sure = float(np.exp(np.mean(said.logprobs))) if said.logprobs else 0.0
        return 1 + self.trainer.sureness * sure


class DemonstrationsTrainer(Reinforced):
    """Teaches which demonstrations and words lead to right answers, for `cot_influx`.

    A row holds a `question`, its `answer` (or a list of them) and the `demonstrations` to choose
    from. A choice is
    worth 1 when the model's answer is right (the last number is the same, or the words of the
    answer are said), plus `sureness` times the mean chance of its tokens where the backend tells
    log-probabilities. This is scaled by how near the kept tokens are to `ratio` of all, to the
    power `pull`: too many and too few are both worth less. The figures tell the `accuracy` on
    rows held out at that ratio, beside `untrained_accuracy` and `random_accuracy`.

    What differs from the paper: the backend isn't asked how likely the right answer is, which
    few can tell.
    """

    name = "demonstrations"
    paper = "Huang et al. 2023, https://arxiv.org/abs/2312.08901"
    columns = ("question", "answer", "demonstrations")
    recipe = "cot_influx"
    widths: ClassVar = {SHOTS: 2, WORDS: 1}

    ratio: float = Field(default=0.5, gt=0, le=1)
    pull: float = Field(default=1.0, ge=0)
    sureness: float = Field(default=0.0, ge=0)
    coarse: float = Field(default=1.2, ge=1)

    def examples(self, training: Training, answers: Answers) -> Sequence[_Example]:
        return [_example(row) for row in rows_of(_Row, training)]

    def episodes(
        self, examples: Sequence[_Example], policy: Policy, rng: np.random.Generator
    ) -> Sequence[_Episode]:
        import torch

        texts = [each for one in examples for each in (whole(one.question), *one.shots)]
        read = iter(pooled(texts, policy.encoder))
        tried = []
        for example in examples:
            asked, shots = next(read), [next(read) for _ in example.shots]
            odds = policy.logits(SHOTS, features(shots, asked))
            chosen = drawn(odds, np.zeros(len(shots), np.bool_), self.samples, rng)
            odds = torch.cat([policy.logits(WORDS, one.states) for one in shots])
            words = drawn(odds, np.concatenate(example.fixed), self.samples, rng)
            inside = np.repeat(chosen.kept, [len(one) for one in example.shots], axis=1)
            words = Choices(words.logits, words.kept & inside, words.free & inside)
            tokens = np.concatenate([one.tokens for one in shots])
            kept = words.kept @ tokens / max(tokens.sum(), 1)
            tried.append(_Episode(self, example, chosen, words, kept))
        return tried

    def figures(
        self, held: Sequence[_Example], policy: Policy, backend: Backend, folder: Path
    ) -> dict[str, float]:
        stages: dict[str, StageModel] = {
            "": CoTInflux(policy=str(folder), coarse=self.coarse),
            "untrained_": CoTInflux(coarse=self.coarse),
            "random_": Random(),
        }
        told: dict[str, float] = {}
        for prefix, stage in stages.items():
            prompts = [_shortened(example, stage, self.ratio) for example in held]
            said = self.asked(prompts, backend)
            right = [is_right(a.text, one.answers) for a, one in zip(said, held, strict=True)]
            told[f"{prefix}accuracy"] = float(np.mean(right))
        return told


def is_right(said: str, wanted: Sequence[str]) -> bool:
    """Whether a text gives one of the wanted answers.

    An answer that ends in a number is given when the last number said is the same, any other
    when its words are said, one after the other.
    """
    return any(_is_given(one, said) for one in wanted)


def _is_given(answer: str, said: str) -> bool:
    if not ENDS_IN_NUMBER.search(answer.rstrip()):
        return scored("contains", said, [answer]) == 1
    found = NUMBER.findall(said)
    return bool(found) and _value(found[-1]) == _value(NUMBER.findall(answer)[-1])


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _example(row: _Row) -> _Example:
    shots = [_words(BLANK_LINES.sub("\n", text.strip())) for text in row.demonstrations]
    facts = [fixed(one, protected(one.text)) for one in shots]
    answers = [row.answer] if isinstance(row.answer, str) else row.answer
    return _Example(row.question.strip(), answers, shots, facts)


def _words(text: str) -> Units:
    return split(text, "word", atoms=protected(text))


def _written(example: _Example, shots: Bools, words: Sequence[Bools]) -> str:
    """The kept words of the kept demonstrations, and the question."""
    texts = [
        render(units, kept)
        for units, shot, kept in zip(example.shots, shots, words, strict=True)
        if shot
    ]
    return "\n\n".join([*filter(None, texts), example.question])


def _shortened(example: _Example, stage: StageModel, ratio: float) -> str:
    """The demonstrations as a stage keeps them, and the question."""
    text = "\n\n".join(units.text for units in example.shots)
    prompt = Prompt((Segment(text=text, kind="example"),), question=example.question)
    context = Context(count=counter())
    made = stage(prompt, context.within(int(context.tokens(prompt) * ratio)))
    return f"{made.text}\n\n{example.question}"
