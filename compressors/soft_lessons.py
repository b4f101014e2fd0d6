"""What is learned from: turns about a text, the model's own answers to them, and what it expects.

Everything here is computed once, with the full text before it, and kept beside the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from tersely.compressors.soft_distil import Lesson, taught
from tersely.compressors.soft_fidelity import Turn
from tersely.compressors.soft_reading import AT_ONCE, Begun, Rendering, ends, length, spoken
from tersely.compressors.soft_turns import self_study
from tersely.errors import ConfigError
from tersely.prompt import sendable
from tersely.soft_artefact import Form
from tersely.training import Checkpoints, Progress

if TYPE_CHECKING:
    from torch import Tensor

FEWEST = 4
"""Turns below which there is nothing to learn from and something to hold out."""

KEPT = 256
"""Tokens of each distribution that are kept apart; the rest counts as one."""


class Asked(BaseModel):
    """What a user says behind the text, and perhaps what is to be answered."""

    question: str = Field(min_length=1)
    answer: str = ""


@dataclass(slots=True, eq=False, kw_only=True)
class School:
    """A model that has read the full text, and what it is asked.

    `turns_wanted` is how many turns there are to be with those that it makes itself. Answers are
    of `answer_tokens` at most, drawn at the temperature `heat`. `seconds` is how long making turns
    and lessons took, whenever that was.
    """

    rendering: Rendering
    text: str
    full: Begun
    read_seconds: float
    turns_wanted: int
    answer_tokens: int
    heat: float
    batch: int
    seed: int
    checkpoints: Checkpoints
    progress: Progress
    seconds: float = 0.0

    def size(self, form: Form) -> int:
        """How many tokens it is that something shorter stands for."""
        return length(self.full) - (len(self.rendering.before) if form == "embeds" else 0)

    def check(self, sizes: Iterable[int], form: Form) -> None:
        """Raise ConfigError unless all these numbers of tokens are fewer than the text's."""
        for count in sizes:
            if not 0 < count < self.size(form):
                raise ConfigError(
                    f"the text takes {self.size(form)} tokens: {count} are not fewer and above 0"
                )

    def turns(self, rows: Sequence[Asked]) -> list[Turn]:
        """Given turns, then those that the model makes itself, all with answers, and in an order.

        Raises ConfigError when there are too few, or one is longer than the model can read.
        """

        def make() -> dict[str, Tensor]:
            made = self._answered([*rows, *self._own(rows)])
            rests, answers = [one.rest for one in made], [one.answer for one in made]
            return _packed("rests", rests) | _packed("answers", answers)

        found = self._once("turns", make)
        pairs = zip(_unpacked("rests", found), _unpacked("answers", found), strict=True)
        return [Turn(*pair) for pair in pairs]

    def lessons(self, turns: Sequence[Turn]) -> list[Lesson]:
        """What the model expects behind each token of some turns, in their order."""
        rows = [turn.row for turn in turns]
        found = self._once("lessons", lambda: self._taught(rows))
        sizes = [len(row) for row in rows]
        parts = (rows, _cut(found["likeliest"], sizes), _cut(found["chances"], sizes))
        return [Lesson(*one) for one in zip(*parts, strict=True)]

    def _taught(self, rows: Sequence[tuple[int, ...]]) -> dict[str, Tensor]:
        import torch

        made: dict[tuple[int, ...], Lesson] = {}
        read = taught(self.rendering.lm, self.full, rows, kept=KEPT, batch=self.batch)
        for done, lesson in enumerate(read, 1):
            made[lesson.ids] = lesson
            self.progress(done, len(rows), {})
        return {
            "likeliest": torch.cat([made[row].likeliest for row in rows]),
            "chances": torch.cat([made[row].chances for row in rows]),
        }

    def _once(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What is made, or was made before the work was stopped."""
        place = Checkpoints(self.checkpoints.folder / name, self.checkpoints.key)
        if (found := place.load()) is None:
            began = perf_counter()
            found = make(), {"seconds": 0.0}
            found[1]["seconds"] = perf_counter() - began
            place.save(*found)
        self.seconds += found[1]["seconds"]
        return found[0]

    def _own(self, rows: Sequence[Asked]) -> list[Asked]:
        wanted = self.turns_wanted - len(rows)
        if wanted <= 0:
            return []
        made = self_study(self.rendering, self.text, wanted, self.seed)
        return [Asked(question=one) for one in made]

    def _answered(self, asked: Sequence[Asked]) -> list[Turn]:
        if len(asked) < FEWEST:
            raise ConfigError(
                f"training takes at least {FEWEST} turns, were {len(asked)}: give more rows, or a"
                " text of more sentences"
            )
        rests = [tuple(self.rendering.rest(one.question)) for one in asked]
        self._check(rests, asked)
        open_ = [i for i, one in enumerate(asked) if not one.answer]
        said: dict[int, tuple[int, ...]] = {}
        answers = spoken(
            self.rendering.lm,
            self.full,
            [rests[i] for i in open_],
            most=self.answer_tokens,
            temperature=self.heat,
            seed=self.seed,
        )
        for i, answer in zip(open_, answers, strict=True):
            said[i] = tuple(answer)
            if len(said) % AT_ONCE == 0:
                self.progress(len(said), len(open_), {})
        return [
            Turn(rest, said[i] if i in said else self._given(one.answer))
            for i, (rest, one) in enumerate(zip(rests, asked, strict=True))
        ]

    def _given(self, answer: str) -> tuple[int, ...]:
        """An answer of the user's, with the end of the turn, or as much as is learned of it."""
        lm = self.rendering.lm
        ids = lm.tokenizer.encode(sendable(answer), add_special_tokens=False)
        return tuple([*ids, *sorted(ends(lm))[:1]][: self.answer_tokens])

    def _check(self, rests: Sequence[Sequence[int]], asked: Sequence[Asked]) -> None:
        most = self.rendering.lm.max_length - length(self.full) - self.answer_tokens
        for rest, one in zip(rests, asked, strict=True):
            if len(rest) > most:
                raise ConfigError(
                    f"the text leaves {max(most, 0)} tokens of the model's context for a turn, and"
                    f" this one has {len(rest)}: {one.question[:60]!r}"
                )


def _packed(name: str, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Rows of different lengths as tensors: all their numbers, and how many each has."""
    import torch

    numbers = [one for row in rows for one in row]
    return {
        name: torch.tensor(numbers, dtype=torch.int32),
        f"{name}.sizes": torch.tensor([len(row) for row in rows], dtype=torch.int32),
    }


def _unpacked(name: str, tensors: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    sizes = tensors[f"{name}.sizes"].tolist()
    return [tuple(part.tolist()) for part in _cut(tensors[name], sizes)]


def _cut(tensor: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    import torch

    return torch.split(tensor, list(sizes))
