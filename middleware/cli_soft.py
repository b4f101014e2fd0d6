"""`tersely soft`: learn a long fixed prompt as a few vectors, and see how faithful they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from tersely.errors import ConfigError, ModelError
from tersely.middleware.cli_io import read, tell, write_json
from tersely.middleware.cli_options import Display, Source, takes_values
from tersely.middleware.cli_train import read_rows, setting, training

if TYPE_CHECKING:
    from tersely.fidelity import Figures
    from tersely.soft_artefact import SoftArtefact
    from tersely.training import Row, TrainerModel

app = typer.Typer(no_args_is_help=True, help="Learn a long fixed prompt as a few vectors.")

NameArgument = Annotated[
    str, Argument(metavar="NAME", help="A name from `tersely soft list`, or a folder.")
]
JsonOption = Annotated[bool, Option("--json", help="Write it as JSON.")]
TurnsOption = Annotated[
    Path | None,
    Option(help="JSONL rows of question, perhaps with answer; the model makes its own besides."),
]


LOST = "stopped: nothing was measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is learned, and how."""

    model: Annotated[str, Option("--model", "-m", help="Who is to read it.")] = "smollm2"
    tokens: Annotated[int, Option(min=1, help="How many vectors take its place.")] = 64
    form: Annotated[str, Option(help="kv, or embeds for engines that take no keys and values.")] = (
        "kv"
    )
    role: Annotated[str, Option(help="system, or user: it begins the first user turn.")] = "system"
    steps: Annotated[int | None, Option(min=1, help="Steps of training, at most.")] = None
    facts: Annotated[Path | None, Option(help="Facts to be kept word for word, one a line.")] = None
    settings: Annotated[
        list[str],
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the trainer `soft`, as YAML; may be repeated.",
        ),
    ] = field(default_factory=list)

    def trainer(self, text: str) -> TrainerModel:
        """The trainer with these settings. Raises ConfigError, and RequestError for the facts."""
        from tersely import registry

        given: dict[str, Any] = {
            "text": text,
            "model": self.model,
            "tokens": self.tokens,
            "form": self.form,
            "role": self.role,
        }
        if self.steps is not None:
            given["steps"] = self.steps
        if self.facts is not None:
            lines = _text(self.facts).splitlines()
            given["facts"] = [line.strip() for line in lines if line.strip()]
        return registry.trainer("soft", **given | dict(map(setting, self.settings)))


@app.command()
@takes_values
def train(
    prompt: Annotated[Path, Option("--prompt", "-p", help="The file with the text to learn.")],
    *,
    lesson: Lesson,
    turns: TurnsOption = None,
    name: Annotated[
        str | None, Option("--name", "-n", help="What to call it; else as the file is called.")
    ] = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="A folder for it, instead of a name.")
    ] = None,
    display: Display,
) -> None:
    """Learn a text as vectors, and measure them; a stopped run goes on later."""
    from tersely.soft_artefact import SoftArtefact

    text, folder = _text(prompt), _place(prompt, name, out)
    _check_free(folder, text)
    trainer = lesson.trainer(text)
    trainer.ready()
    with training(_rows(turns, trainer), folder, display) as given:
        trainer.train(given)
    artefact = SoftArtefact.load(folder)
    if display.as_json:
        write_json({"path": str(folder), "about": artefact.about.model_dump(mode="json")})
        return
    typer.echo(str(folder))
    if not display.quiet:
        _tell(artefact)


@app.command("eval")
@takes_values
def evaluate(
    names: Annotated[
        list[str], Argument(metavar="NAME...", help="Names or folders, all of one text and model.")
    ],
    *,
    turns: TurnsOption = None,
    tokens: Annotated[
        str, Option(help="Measure shorter texts and the untrained start at these, too: 8,32,128.")
    ] = "",
    plot: Annotated[
        Path | None, Option(help="Draw fidelity against tokens: a .png or .svg file.")
    ] = None,
    display: Display,
) -> None:
    """Measure how faithful vectors are, beside shorter texts and what was not trained."""
    from tersely.middleware.soft_plot import draw, ready
    from tersely.middleware.soft_table import table

    if plot is not None:
        ready(plot)
    artefacts = _alike(names)
    trainer = _trainer(artefacts[names[0]])
    softs = {name: one.soft for name, one in artefacts.items()}
    rows = _rows(turns, trainer)
    with (
        TemporaryDirectory() as beside,
        training(rows, Path(beside), display, stopped=LOST) as given,
    ):
        found: dict[int, dict[str, Figures]] = trainer.evaluate(softs, _sizes(tokens), given)
    if plot is not None:
        draw(found, names, plot)
    if display.as_json:
        told = {
            size: {n: f.model_dump(mode="json") for n, f in one.items()}
            for size, one in found.items()
        }
        write_json({"plot": str(plot) if plot else None, "figures": told})
        return
    from rich.console import Console

    Console().print(table(found))
    if plot is not None:
        tell(f"drawn into {plot}")


@app.command("list")
def list_(*, as_json: JsonOption = False) -> None:
    """List what was learned, how long it is, for whom, and whether it may be used."""
    from tersely.soft_artefact import listed

    rows = [{"name": name, **_known(folder)} for name, folder in listed().items()]
    if as_json:
        write_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['name']:<20} {row['what']}")
        typer.echo(f"{'':<20} {row['fault'] or 'faithful enough to be used'}")


@app.command()
def show(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Tell where something learned lies, what it stands for, and how faithful it is."""
    from tersely.soft_artefact import SoftArtefact, find

    folder = find(name)
    artefact = SoftArtefact.load(folder)
    if as_json:
        write_json({"path": str(folder), "about": artefact.about.model_dump(mode="json")})
        return
    from rich.console import Console

    from tersely.middleware.soft_table import table

    typer.echo(str(folder))
    if fidelity := artefact.about.fidelity:
        beside = {"learned": fidelity, **fidelity.baselines}
        Console().print(table({artefact.about.tokens: beside}))
    _tell(artefact)


@app.command("rm")
def remove(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Remove something learned by its name. Folders elsewhere are left alone."""
    from tersely.soft_artefact import remove as forget

    folder = str(forget(name))
    tell(f"removed {name}")
    if as_json:
        write_json({"name": name, "path": folder})
    else:
        typer.echo(folder)


def _text(path: Path) -> str:
    text: str = read(Source(file=path, as_text=True)).request
    return text


def _rows(turns: Path | None, trainer: TrainerModel) -> list[Row]:
    return read_rows(turns, trainer) if turns else []


def _place(prompt: Path, name: str | None, out: Path | None) -> Path:
    """The folder for what is learned. Raises ConfigError."""
    from tersely.soft_artefact import place_of

    if name and out:
        raise ConfigError("--name and --out both say where it is to lie: leave one out")
    return out or place_of(name or prompt.stem)


def _check_free(folder: Path, text: str) -> None:
    """Raise ConfigError where something was learned from another text than an earlier form."""
    from tersely.artefact import PAGE
    from tersely.soft_artefact import SoftArtefact

    if (folder / PAGE).is_file() and not SoftArtefact.load(folder).resembles(text):
        raise ConfigError(
            f"{folder} holds what was learned from another text: take another name, or remove it"
        )


def _alike(names: Sequence[str]) -> dict[str, SoftArtefact]:
    """What has these names. Raises ConfigError unless all is of one text, model and kind."""
    from tersely.soft_artefact import SoftArtefact, find

    found = {name: SoftArtefact.load(find(name)) for name in names}
    kinds = {
        (one.text, one.about.model_sha256, one.about.form, one.about.role) for one in found.values()
    }
    if len(kinds) > 1:
        raise ConfigError(
            f"{', '.join(names)} are of different texts, models, forms or roles: measure each alone"
        )
    for one in found.values():
        one.check(one.about.model)
    return found


def _trainer(artefact: SoftArtefact) -> Any:
    """The trainer that it was made by."""
    from tersely import registry

    return registry.trainer("soft", text=artefact.text, **artefact.about.settings)


def _sizes(tokens: str) -> list[int]:
    try:
        return [int(one) for one in tokens.split(",") if one.strip()]
    except ValueError as error:
        raise ConfigError(f"--tokens takes numbers with commas between, was {tokens!r}") from error


def _tell(artefact: SoftArtefact) -> None:
    """Say on standard error what it stands for, how faithful it is, and when it pays back."""
    from tersely.middleware.soft_table import told

    about = artefact.about
    for line in told(about):
        tell(line)
    if about.passed:
        tell("faithful enough to be used", "green")
    else:
        tell(f"not used as it is: {about.shortfall}", "yellow")


def _known(folder: Path) -> dict[str, Any]:
    """What is learned in a folder and why it is not used; of a damaged one that it is."""
    from tersely.artefact import page_of
    from tersely.middleware.soft_table import size_of
    from tersely.soft_artefact import RECIPE, SoftAbout

    try:
        about = page_of(SoftAbout, folder, RECIPE)
    except ModelError as error:
        return {"path": str(folder), "what": "damaged", "fault": str(error), "about": None}
    told = about.model_dump(mode="json")
    return {"path": str(folder), "what": size_of(about), "fault": about.shortfall, "about": told}
