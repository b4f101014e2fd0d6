"""Reading for many prompts at once what the stages that get them will ask of a model."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from tersely.contracts import Context, Stage
from tersely.prompt import Prompt

T = TypeVar("T")

Given = tuple[Prompt, Context]
"""What a stage is called with."""


@runtime_checkable
class ReadsAhead(Protocol):
    """A stage that can read for several of its calls together, before they come.

    `ahead` reads in one set of forward passes what the calls with these prompts will want to know,
    and leaves it in the stage's own memory. It changes nothing else, and no outcome: a call finds
    what it would have read by itself. It may raise what it likes; then each call reads for itself.
    A stage that holds others tells in a property `reads_ahead` whether one of them can.
    """

    def ahead(self, given: Sequence[Given], /) -> None: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A stage that is about to be called, and what with."""

    stage: Stage
    prompt: Prompt
    context: Context


Calls = Generator[Call, None, T]
"""The way of one prompt: each call is told right before it happens, and at the end what came."""


def alone(calls: Calls[T]) -> T:
    """Go a prompt's way to its end, every call reading for itself."""
    while True:
        try:
            next(calls)
        except StopIteration as end:
            came: T = end.value
            return came


def can_read_ahead(stages: Iterable[object]) -> bool:
    """Whether one of these stages, or one that it holds, has something to read ahead."""
    return any(
        isinstance(stage, ReadsAhead) and bool(getattr(stage, "reads_ahead", True))
        for stage in stages
    )


def begun(ways: Iterable[Calls[T]]) -> None:
    """Go each way to its first call, and have the stages read for those; the ways end there."""
    foreseen([call for way in ways if (call := next(way, None))])


def foreseen(calls: Sequence[Call]) -> None:
    """Have each stage read for all of its calls together; where it can't, each reads for itself.

    A call that has only so much time is left out: that time is for its own reading alone. One call
    needs no reading ahead.
    """
    waiting = [one for one in calls if one.context.deadline is None]
    while waiting:
        stage = waiting[0].stage
        given = [(one.prompt, one.context) for one in waiting if one.stage is stage]
        waiting = [one for one in waiting if one.stage is not stage]
        if len(given) > 1 and isinstance(stage, ReadsAhead):
            with suppress(Exception):  # the calls will tell, each of its own text
                stage.ahead(given)
