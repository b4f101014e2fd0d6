"""The options that commands share, as values: each field is an option of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from typer import Argument, Option

if TYPE_CHECKING:
    from tersely.middleware.passage import Result
    from tersely.middleware.pipeline import Pipeline

DEFAULT_STAGE = "query"
DEFAULT_BUDGET = "50%"

SOFT = Option(help="A soft prompt for the text that it was learned from; may be repeated.")
"""The option for names or folders of `tersely soft list`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is to be compressed."""

    file: Annotated[
        Path | None,
        Argument(help="A text, or a request as JSON. Standard input when left out, or '-'."),
    ] = None
    as_text: Annotated[
        bool, Option("--text", help="Take the file as text, whatever it looks like.")
    ] = False
    encoding: Annotated[str, Option(help="How the file is encoded.")] = "utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How it is to be compressed."""

    budget: Annotated[
        str | None,
        Option("--budget", "-b", help="Tokens (1500), a ratio (0.5) or a percentage (50%)."),
    ] = None
    stage: Annotated[
        list[str],
        Option("--stage", "-s", help="A stage by name; may be repeated. See `tersely stages`."),
    ] = field(default_factory=list)
    pipeline: Annotated[
        str | None, Option("--pipeline", "-p", help="A YAML file, or a pipeline by name.")
    ] = None
    question: Annotated[
        str | None, Option("--question", "-q", help="What the user wants to know.")
    ] = None
    model: Annotated[
        str | None, Option("--model", "-m", help="Who reads the prompt, for counting its tokens.")
    ] = None
    mode: Annotated[
        str | None, Option(help="optimize, or audit: change nothing, tell what would be done.")
    ] = None
    strict: Annotated[bool, Option("--strict", help="Fail when the budget cannot be met.")] = False

    def settled(self) -> Pipeline:
        """The pipeline that the options describe. Raises ConfigError with the mend."""
        from tersely.errors import ConfigError
        from tersely.middleware.pipeline import PIPELINES, Pipeline, pipeline_of

        if self.pipeline is None:
            return Pipeline(self.stage or DEFAULT_STAGE, budget=self.budget or DEFAULT_BUDGET)
        if self.stage:
            raise ConfigError("--pipeline names its stages itself: leave out --stage")
        named = self.pipeline in PIPELINES
        made = pipeline_of(self.pipeline if named else Path(self.pipeline))
        return made if self.budget is None else made.but(budget=self.budget)

    def compress(self, request: Any) -> Result:
        """The request with fewer tokens, and the account of it."""
        from tersely.middleware.scope import Override

        wishes = Override.of({"mode": self.mode, "strict": self.strict or None})
        return self.settled().run(request, question=self.question, model=self.model, wishes=wishes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """How the outcome is told."""

    as_json: Annotated[bool, Option("--json", help="Write everything as one JSON object.")] = False
    quiet: Annotated[bool, Option("--quiet", help="No report on standard error.")] = False


def takes_values(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take values of the classes above: typer sees their fields as options."""
    hints = get_type_hints(command, include_extras=True)
    groups = {n: kind for n, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = groups.get(parameter.name)
        options += _fields(kind) if kind else [parameter.replace(annotation=hints[parameter.name])]

    def run(**given: Any) -> None:
        values = {
            name: kind(**{f.name: given.pop(f.name) for f in fields(kind)})
            for name, kind in groups.items()
        }
        command(**values, **given)

    run.__doc__, run.__name__, run.__module__ = command.__doc__, command.__name__, __name__
    run.__annotations__ = {option.name: option.annotation for option in options}
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return run


def _fields(kind: type[Any]) -> list[inspect.Parameter]:
    hints, defaults = get_type_hints(kind, include_extras=True), kind()
    return [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(defaults, one.name),
            annotation=hints[one.name],
        )
        for one in fields(kind)
    ]
