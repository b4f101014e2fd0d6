"""What a writer learns from: a text, what follows it, and what is to be told then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, Field, model_validator

from tersely.compressors.soft_reading import Rendering, ends
from tersely.errors import ConfigError
from tersely.prompt import sendable
from tersely.weights import CausalLM

FEWEST = 2
"""Tokens of a continuation: one that is read, and one that is told."""

LOST = 4
"""Of a text that is too short for both, the share that is continuation: one of so many parts."""


class WriterRow(BaseModel):
    """A text, and perhaps a question that it answers."""

    text: str = Field(min_length=1)
    question: str = ""
    answer: str = ""

    @model_validator(mode="after")
    def _whole(self) -> WriterRow:
        if bool(self.question.strip()) != bool(self.answer.strip()):
            raise ValueError("a question needs an answer, and an answer a question")
        return self


@dataclass(frozen=True, slots=True)
class WriterLesson:
    """Tokens: `before` a text, the text, what stands `after` it, and what is to be `told` then."""

    before: tuple[int, ...]
    text: tuple[int, ...]
    after: tuple[int, ...]
    told: tuple[int, ...]
    answer: str = ""

    @property
    def rest(self) -> tuple[int, ...]:
        """What the model reads behind the text, to be asked for what is told."""
        return (*self.after, *self.told[:-1])


@dataclass(frozen=True, slots=True)
class Lessons:
    """How rows are cut: `text` tokens are written from and `rest` follow, at most.

    A text of no more than `least` tokens teaches nothing.
    """

    lm: CausalLM
    text: int
    rest: int
    least: int

    def of(self, rows: Sequence[WriterRow]) -> list[WriterLesson]:
        """The lessons of some rows. A row that is too short gives none."""
        return [
            lesson
            for row in rows
            for lesson in (self._answered(row) if row.question else self._continued(row))
        ]

    def _answered(self, row: WriterRow) -> list[WriterLesson]:
        text = self.ids(row.text)[: self.text]
        if len(text) <= self.least:
            return []
        rendering = Rendering(self.lm, "user")
        last = sorted(ends(self.lm))[:1]
        told = (*self.ids(row.answer)[: self.rest], *last)
        after = tuple(rendering.rest(row.question))
        return [WriterLesson(tuple(rendering.before), tuple(text), after, told, row.answer)]

    def _continued(self, row: WriterRow) -> list[WriterLesson]:
        ids, size = self.ids(row.text), self.text + self.rest
        begins = tuple(self.lm.tokenizer.encode(""))
        made = []
        for at in range(0, len(ids), size):
            window = tuple(ids[at : at + size])
            rest = min(self.rest, len(window) // LOST)
            text, follows = window[: len(window) - rest], window[len(window) - rest :]
            if len(text) > self.least and len(follows) >= FEWEST:
                made.append(WriterLesson(begins, text, follows[:1], follows[1:]))
        return made

    def ids(self, text: str) -> list[int]:
        """The tokens of a text by itself."""
        found: list[int] = self.lm.tokenizer.encode(sendable(text), add_special_tokens=False)
        return found


def parted(
    rows: Sequence[WriterRow], share: float, seed: int
) -> tuple[list[WriterRow], list[WriterRow]]:
    """What is learned from, and what is held out: all rows of a text are on one side.

    Raises ConfigError when all are about one text, and one side would be empty.
    """
    texts = list(dict.fromkeys(row.text for row in rows))
    if len(texts) < 2:
        raise ConfigError("training takes two different texts at least: one is held out")
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    size = min(max(1, round(len(texts) * share)), len(texts) - 1)
    held = {texts[i] for i in order[:size]}
    return [row for row in rows if row.text not in held], [row for row in rows if row.text in held]


def drawn(places: Sequence[int], size: int, seed: int) -> list[int]:
    """What stands at some places in a row of endless rounds, each through all in its own order."""
    made = []
    for place in places:
        order = np.random.default_rng([seed, place // size]).permutation(size)
        made.append(int(order[place % size]))
    return made
