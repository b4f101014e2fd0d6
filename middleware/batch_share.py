"""Texts that come again and again in a job are compressed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import SkipValidation

from tersely.ahead import Given, begun, can_read_ahead
from tersely.budget import Budget
from tersely.contracts import Context, StageModel
from tersely.errors import ConfigError
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt, Segment
from tersely.registry import as_stage

MEGABYTES = 256
"""So much of what was made is kept for the other processes of a job."""


class Apart(StageModel):
    """Compresses each text by itself, so that the same text always becomes the same.

    Every text has the budget's ratio of its own tokens. The question is left aside, unless a stage
    of the pipeline needs one: then a text is another one under another question.
    """

    name: ClassVar[str] = "apart"

    pipeline: SkipValidation[Pipeline]

    def takes(self, segment: Segment) -> bool:
        return self.pipeline.takes(segment)

    @property
    def reads_ahead(self) -> bool:
        """Whether a stage can read for several texts together."""
        return can_read_ahead([self.pipeline])

    def ahead(self, given: Sequence[Given], /) -> None:
        """Have the first stage that has something to read do so for all texts."""
        begun(
            self.pipeline.calls(*self._alone(prompt, i, context))
            for prompt, context in given
            for i in prompt.open
        )

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        made = {i: self._made(*self._alone(prompt, i, context), context) for i in prompt.open}
        return prompt.with_texts(
            {i: one.text for i, one in made.items()},
            origins={i: one.origins for i, one in made.items()},
        )

    def _alone(self, prompt: Prompt, at: int, context: Context) -> Given:
        """A text by itself, as it is given to the pipeline wherever it stands."""
        asked = any("question" in stage.needs for stage in self.pipeline.stages)
        segment = replace(prompt.segments[at], path=(), turn=0, reason="")
        alone = Prompt((segment,), question=prompt.question if asked else "")
        return alone, replace(context, budget=self.pipeline.budget, limit=None, only=())

    def _made(self, alone: Prompt, within: Context, context: Context) -> Segment:
        """What becomes of a text."""
        run = self.pipeline.through(alone, within)
        for note in run.ledger.notes:
            context.say(note)
        return run.prompt.segments[0]


def shared(pipeline: Pipeline, folder: Path | None) -> Pipeline:
    """A pipeline that makes of a text what it made of it before, wherever it comes again.

    What was made is remembered by its content: in this process and, given a folder, there for
    other processes. Raises ConfigError when the budget is not one that each text can have.
    """
    budget = pipeline.budget
    if budget.tokens is not None or (budget.ratio is None and not budget.shares):
        raise ConfigError(
            f"texts can be shared under a budget that is a ratio, such as 50%; was {_told(budget)}"
        )
    inner = pipeline.but(
        stages=[_remembering(stage, folder) for stage in pipeline.stages],
        budget=budget.model_copy(update={"ms": None}),
        history=None,
    )
    return pipeline.but(stages=[Apart(pipeline=inner, kinds=inner.kinds)], fallback=None)


def _remembering(stage: Any, folder: Path | None) -> Any:
    where = {"folder": str(folder), "megabytes": MEGABYTES} if folder else {"megabytes": 0}
    return as_stage({"cached": {"recipe": stage, **where}})


def _told(budget: Budget) -> str:
    return "no budget" if budget.tokens is None else f"{budget.tokens} tokens"
