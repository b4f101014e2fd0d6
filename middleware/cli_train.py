"""`tersely train`: make a classifier, a policy or whatever else a stage learns, from your data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from tersely.errors import ConfigError, RequestError
from tersely.middleware.cli_ask import Server
from tersely.middleware.cli_io import tell, write_json
from tersely.middleware.cli_options import Display

if TYPE_CHECKING:
    from tersely.contracts import Backend
    from tersely.training import Progress, Row, TrainerModel, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """How a trainer is set up."""

    settings: Annotated[
        list[str],
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting, its value as YAML; may be repeated. See `tersely trainers`.",
        ),
    ] = field(default_factory=list)
    model: Annotated[
        str | None, Option("--model", "-m", help="Who answers, where a trainer asks a model.")
    ] = None

    def trainer(self, name: str) -> TrainerModel:
        """The trainer of that name with these settings. Raises ConfigError."""
        from tersely import registry

        return registry.trainer(name, **dict(map(setting, self.settings)))

    def backend(self, trainer: TrainerModel, server: Server) -> Backend | None:
        """Who answers. Raises ConfigError when nobody is asked."""
        if "llm" in trainer.needs:
            return server.backend(self.model)
        if self.model or server.base_url:
            raise ConfigError(
                f"trainer {trainer.name!r} asks no model: leave out --model and --base-url"
            )
        return None


def train(
    name: Annotated[str, Argument(metavar="NAME", help="A trainer: see `tersely trainers`.")],
    data: Annotated[Path, Argument(metavar="DATA", help="The JSONL file to learn from.")],
    *,
    out: Annotated[Path, Option("--out", "-o", help="The folder for what is learned.")],
    lessons: Lessons,
    server: Server,
    display: Display,
) -> None:
    """Train what a stage needs on a JSONL file; a stopped run goes on later."""
    trainer = lessons.trainer(name)
    trainer.ready()
    learn(trainer, read_rows(data, trainer), out, display, lessons.backend(trainer, server))


def learn(
    trainer: TrainerModel,
    rows: list[Row],
    out: Path,
    display: Display,
    backend: Backend | None = None,
) -> None:
    """Train, or go on training, with a progress bar, and say where it lies and how well it does."""
    with training(rows, out, display, backend) as given:
        folder = trainer.train(given)
    _told(trainer.name, folder, display)


@contextmanager
def training(
    rows: list[Row],
    out: Path,
    display: Display,
    backend: Backend | None = None,
    *,
    stopped: str = "stopped: the same command goes on where it was",
) -> Iterator[Training]:
    """What a trainer is given: its progress is shown, and Ctrl-C ends it with a word."""
    from tersely.training import Training

    try:
        with _meter(shown=not (display.quiet or display.as_json)) as progress:
            yield Training(rows=rows, out=out, backend=backend, progress=progress)
    except KeyboardInterrupt:
        from tersely.middleware.batch_summary import INTERRUPTED

        tell(stopped, "yellow")
        raise typer.Exit(INTERRUPTED) from None


def trainers(
    *, as_json: Annotated[bool, Option("--json", help="Write it as JSON.")] = False
) -> None:
    """List every trainer, with what its rows hold, what it needs, its settings and its paper."""
    from tersely.middleware import catalogue

    entries = catalogue.trainers()
    if as_json:
        write_json([entry.model_dump(mode="json") for entry in entries])
        return
    from rich.console import Console

    Console().print(catalogue.listing(entries))


def read_rows(path: Path, trainer: TrainerModel) -> list[Row]:
    """The rows of a JSONL file. Raises ConfigError and RequestError that tell the line."""
    from tersely.middleware.jsonl import check_readable, lines
    from tersely.middleware.rawjson import parse

    check_readable(path)
    rows: list[Row] = []
    for line in lines(path):
        if line.blank:
            continue
        try:
            row = parse(line.text)
        except RequestError as error:
            raise RequestError(f"{path}, line {line.number}: {error}") from error
        if not isinstance(row, Mapping):
            raise RequestError(f"{path}, line {line.number}: a row is an object in braces")
        if lacking := trainer.lacks(row):
            raise RequestError(
                f"{path}, line {line.number}: no {' and no '.join(lacking)} in it; a row for"
                f" {trainer.name!r} holds {_columns(trainer)}"
            )
        rows.append(row)
    if not rows:
        raise RequestError(f"{path} holds no rows")
    return rows


def _columns(trainer: TrainerModel) -> str:
    ways = [way for way in (trainer.columns, trainer.other_columns) if way]
    return ", or ".join(" and ".join(way) for way in ways)


def setting(given: str) -> tuple[str, Any]:
    """The name and the value of `name=value`."""
    import yaml

    name, equals, value = given.partition("=")
    if not (name and equals):
        raise ConfigError(f"--set takes key=value, was {given!r}")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {name}: {value!r} is not YAML") from error


def _told(name: str, folder: Path, display: Display) -> None:
    """Say where it lies, and how well it does on rows held out."""
    from tersely.artefact import PAGE, About

    about = About.model_validate_json((folder / PAGE).read_text(encoding="utf-8"))
    if display.as_json:
        told = about.model_dump(mode="json")
        write_json({"trainer": name, "path": str(folder), "about": told})
        return
    typer.echo(str(folder))
    if not display.quiet:
        figures = _spelled(about.figures)
        tell(f"learned for the stage {about.recipe} from {about.rows:,} rows: {figures}")


def _spelled(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


@contextmanager
def _meter(*, shown: bool) -> Iterator[Progress]:
    """A progress bar on standard error, with the figures of the moment and the time left."""
    if not shown:
        from tersely.training import silent

        yield silent
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[told]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, told="")

        def show(done: int, total: int, figures: Mapping[str, float], /) -> None:
            if total != bar.tasks[0].total or done < bar.tasks[0].completed:
                bar.reset(task, total=total, completed=done)  # another part of the work
            bar.update(task, completed=done, told=_spelled(figures))

        yield show
