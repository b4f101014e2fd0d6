"""A text that is to be learned, and the turns by which it is learned and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from tersely.compressors.soft_distil import Lesson, Student, batches
from tersely.compressors.soft_fidelity import Cloze, Turn, clozes_of
from tersely.compressors.soft_lessons import FEWEST, Asked, School
from tersely.compressors.soft_measure import Measure
from tersely.compressors.soft_reading import Begun, Rendering, begun
from tersely.compressors.soft_start import Start, keys_and_values, vectors
from tersely.errors import ConfigError
from tersely.soft_artefact import Form

PROBES = 32
"""Turns whose queries show what of the text is looked at."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Course:
    """Turns about a text: those that are learned from, that decide when to stop, that measure."""

    school: School
    learned: Sequence[Turn]
    watched: Sequence[Turn]
    last: Sequence[Turn]
    clozes: Sequence[Cloze]

    @classmethod
    def of(
        cls, school: School, rows: Sequence[Asked], *, held: int, facts: Sequence[str]
    ) -> Course:
        """Given turns and those that the model makes itself, parted by the school's seed.

        Raises ConfigError for a fact that is not in the text, and what `School.turns` raises.
        """
        clozes = clozes_of(school.rendering, school.text, facts)
        learned, watched, last = parted(school.turns(rows), len(rows), held, school.seed)
        return cls(school=school, learned=learned, watched=watched, last=last, clozes=clozes)

    def lessons(self) -> tuple[list[Lesson], list[list[Lesson]]]:
        """What is learned from, and what decides when to stop, in batches."""
        made = self.school.lessons([*self.learned, *self.watched])
        own, watched = made[: len(self.learned)], made[len(self.learned) :]
        cut = batches([len(one.ids) for one in watched], self.school.batch, [self.school.seed])
        return own, [[watched[i] for i in some] for some in cut]

    def student(self, count: int, form: Form, how: Start) -> Student:
        """What is to learn, where it starts from."""
        rendering, full = self.school.rendering, self.school.full
        probes = [turn.row for turn in self.learned[:PROBES]]
        if form == "kv":
            pairs = keys_and_values(rendering.lm, full, count, how, probes)
            return Student.new(rendering.lm, pairs)
        own = rendering.head(self.school.text)[len(rendering.before) :]
        start = vectors(rendering.lm, own, full, count, how, probes)
        return Student.new(rendering.lm, [start], rendering.before)

    def measure(self, model: str) -> Measure:
        """By what all is measured."""
        rendering, text = self.school.rendering, self.school.text
        return Measure(
            rendering=rendering,
            text=text,
            full=self.school.full,
            model=model,
            turns=self.last,
            clozes=self.clozes,
            batch=self.school.batch,
            seed=self.school.seed,
        )


def read(rendering: Rendering, text: str) -> tuple[Begun, float]:
    """What the model keeps of the full text, and how many seconds it takes to read it."""
    import torch

    head = rendering.head(text)
    if len(head) >= rendering.lm.max_length:
        raise ConfigError(
            f"the text makes a prompt of {len(head)} tokens, and the model reads"
            f" {rendering.lm.max_length} at most"
        )
    began = perf_counter()
    with torch.no_grad():
        made = begun(rendering.lm, head)
    return made, perf_counter() - began


def parted(turns: Sequence[Turn], given: int, held: int, seed: int) -> list[list[Turn]]:
    """The turns to learn from, `held` that decide when to stop, and as many that measure.

    Those held out are the user's, if there are enough among the first `given` ones: of these, and
    else of all, half at least stay to learn from.
    """
    pool = given if given >= FEWEST else len(turns)
    order = np.random.default_rng(seed).permutation(pool).tolist()
    size = max(min(held, pool // 4), 1)
    watched, last = order[:size], order[size : 2 * size]
    learned = [*order[2 * size :], *range(pool, len(turns))]
    mixed = np.random.default_rng(seed).permutation(learned).tolist()
    return [[turns[i] for i in some] for some in (mixed, watched, last)]
