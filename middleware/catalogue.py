"""Everything that has a registry name: stages, pipelines, plans, embedders and trainers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tersely import registry
from tersely.middleware.pipeline import PIPELINES

Sort = Literal["stage", "pipeline", "plan", "embedder", "trainer"]

LONG = 60
"""Characters of a default that people are shown."""


class Entry(BaseModel):
    """One name of the registry. `error` tells why it can't be opened here, if it can't.

    `settings` are JSON schemas by field, defaults included. `columns` are what a row of a
    trainer's data must hold: all of one group.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    type: Sort
    summary: str = ""
    needs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    columns: tuple[tuple[str, ...], ...] = ()
    settings: Mapping[str, Any] = {}
    paper: str = ""
    address: str = ""
    error: str = ""


def catalogue() -> list[Entry]:
    """Every stage (other packages' included), pipeline, plan, embedder and trainer, by name."""
    return [
        *(_opened("stage", name, at) for name, at in sorted(registry.addresses().items())),
        *(_pipeline(name, settings) for name, settings in sorted(PIPELINES.items())),
        *(_opened("plan", name, at) for name, at in sorted(registry.PLANS.items())),
        *(_opened("embedder", name, at) for name, at in sorted(registry.EMBEDDERS.items())),
        *trainers(),
    ]


def trainers() -> list[Entry]:
    """Every trainer, sorted by name."""
    return [_opened("trainer", name, at) for name, at in sorted(registry.TRAINERS.items())]


def listing(entries: list[Entry]) -> RenderableType:
    """The entries for people to read."""
    return Group(*(part for entry in entries for part in _lines(entry)))


def _opened(sort: Sort, name: str, address: str) -> Entry:
    module, _, attribute = address.partition(":")
    try:
        made = getattr(import_module(module), attribute)
    except Exception as error:  # another package's module: anything may go wrong in it
        return Entry(
            name=name, type=sort, address=address, error=f"{type(error).__name__}: {error}"
        )
    return Entry(
        name=name,
        type=sort,
        summary=_first_line(made),
        needs=tuple(sorted(map(str, getattr(made, "needs", None) or ()))),
        kinds=_kinds(made),
        columns=_columns(made),
        settings=_settings(made),
        paper=str(getattr(made, "paper", "")),
        address=address,
    )


def _pipeline(name: str, settings: Mapping[str, Any]) -> Entry:
    stages = ", ".join(str(stage) for stage in settings.get("stages", ()))
    return Entry(
        name=name,
        type="pipeline",
        summary=f"The stages {stages}.",
        settings={key: {"default": value} for key, value in settings.items()},
        address="tersely.middleware.pipeline:PIPELINES",
    )


def _first_line(made: Any) -> str:
    return (inspect.getdoc(made) or "").partition("\n")[0]


def _kinds(made: Any) -> tuple[str, ...]:
    field = getattr(made, "model_fields", {}).get("kinds")
    kinds = field.default if field is not None else getattr(made, "kinds", ())
    return tuple(map(str, kinds)) if isinstance(kinds, tuple | list | frozenset) else ()


def _columns(made: Any) -> tuple[tuple[str, ...], ...]:
    groups = (getattr(made, name, ()) for name in ("columns", "other_columns"))
    return tuple(tuple(map(str, group)) for group in groups if group)


def _settings(made: Any) -> dict[str, Any]:
    """The fields with their schemas; by their defaults alone where a type has no schema."""
    if not (inspect.isclass(made) and issubclass(made, BaseModel)):
        return {}
    try:
        properties = made.model_json_schema().get("properties", {})
    except Exception:  # pydantic refuses types that JSON does not know
        properties = {
            name: {"default": repr(field.default)} for name, field in made.model_fields.items()
        }
    return {
        name: {key: value for key, value in schema.items() if key != "title"}
        for name, schema in properties.items()
        if name != "kinds"
    }


def _lines(entry: Entry) -> Iterator[RenderableType]:
    title = Text(entry.name, style="bold")
    title.append(f"  {entry.type}", style="dim")
    yield title
    if entry.error:
        yield Padding(Text(f"can't be used here: {entry.error}", style="red"), (0, 0, 1, 2))
        return
    told = {
        "needs": ", ".join(entry.needs),
        "takes": ", ".join(entry.kinds),
        "rows hold": ", or ".join(" and ".join(group) for group in entry.columns),
        "settings": ", ".join(f"{k}={_default(v)}" for k, v in entry.settings.items()),
        "paper": entry.paper,
    }
    body = Text(entry.summary)
    for name, value in told.items():
        if value:
            body.append(f"\n{name}: ", style="dim").append(value)
    yield Padding(body, (0, 0, 1, 2))


def _default(schema: Mapping[str, Any]) -> str:
    """A default for people to read: of a long one its beginning. JSON tells all."""
    told = repr(schema["default"]) if "default" in schema else "(required)"
    return told if len(told) <= LONG else f"{told[:LONG]}..."
