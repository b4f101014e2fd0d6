"""The body of the stages that hold others: what they take and need follows from what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from tersely.contracts import Context, Need, Stage, StageModel
from tersely.errors import ConfigError
from tersely.prompt import Kind, Prompt
from tersely.registry import as_stage, spelled

WRITTEN = PlainSerializer(spelled, when_used="json")
SCHEMA = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]})

Recipe = Annotated[Stage, PlainValidator(as_stage), WRITTEN, SCHEMA]
"""A stage as a setting: by its registry name, as `{name: {setting: value}}`, or itself."""


class _Needs(frozenset[Need]):
    """What the stages that an instance holds need; of the class, nothing."""

    def __get__(self, holding: Holding | None, owner: type | None = None) -> frozenset[Need]:
        return self if holding is None else frozenset().union(*(one.needs for one in holding.held))


class Holding(StageModel):
    """Base of the stages that hold others.

    A subclass tells which in `held`. `kinds` are those of the first one unless they are set.
    """

    needs: ClassVar[frozenset[Need]] = _Needs()

    kinds: tuple[Kind, ...] = ()

    @property
    def held(self) -> tuple[Stage, ...]:
        """The stages that this one holds, the first of which tells its kinds."""
        raise NotImplementedError

    def followed(self) -> Mapping[str, Any]:
        """The settings that follow from the held stages where they are not set."""
        return {"kinds": self.held[0].kinds}

    def ready(self) -> None:
        for one in self.held:
            if isinstance(one, StageModel):
                one.ready()

    @model_validator(mode="after")
    def _follow(self) -> Self:
        for name, value in self.followed().items():
            if name not in self.model_fields_set:
                object.__setattr__(self, name, value)  # the value is frozen from here on
        return self

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The settings without those that follow."""
        written: dict[str, Any] = handler(self)
        follow = self.followed()
        return {
            name: value
            for name, value in written.items()
            if name not in follow or getattr(self, name) != follow[name]
        }

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, _shown(value)


def through(stage: Stage, prompt: Prompt, context: Context, places: Iterable[int]) -> Prompt:
    """What a stage makes of a prompt when only the texts at these places are open to it.

    Of these it sees only the kinds that it takes.
    """
    seen = seen_by(stage, prompt, places)
    made = stage(seen, context)
    return prompt.with_segments({i: made.segments[i] for i in seen.open})


def seen_by(stage: Stage, prompt: Prompt, places: Iterable[int]) -> Prompt:
    """The prompt in which only the texts at these places, and of the stage's kinds, are open."""
    reach = {i for i in places if prompt.segments[i].kind in stage.kinds}
    shut = set(prompt.open) - reach
    return prompt.with_segments({i: replace(prompt.segments[i], locked=True) for i in shut})


def _shown(value: Any) -> Any:
    """A held stage as it is written, so that a repr needs no names; all else as it is."""
    if isinstance(value, tuple):
        return tuple(map(_shown, value))
    try:
        return spelled(value) if isinstance(value, Stage) else value
    except ConfigError:
        return value
