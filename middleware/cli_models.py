"""`tersely models`: bring the embedded models here, see where they lie, remove them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from tersely.middleware.cli_io import tell, write_json
from tersely.middleware.cli_options import Display, takes_values

app = typer.Typer(no_args_is_help=True, help="Bring the embedded models to this machine.")

NameArgument = Annotated[str, typer.Argument(help="A name from `tersely models list`.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write it as JSON.")]


@app.command("list")
def show(*, as_json: JsonOption = False) -> None:
    """List the models, what they are for, and whether they are on this machine."""
    from tersely.models import CATALOGUE, folder_of

    rows = [
        {
            "name": name,
            "title": entry.title,
            "role": entry.role,
            "licence": entry.licence,
            "download": entry.wheel.size,
            "path": str(folder_of(name)) if folder_of(name).is_dir() else None,
        }
        for name, entry in CATALOGUE.items()
    ]
    if as_json:
        write_json(rows)
        return
    for row in rows:
        here = row["path"] or f"not here yet: tersely models pull {row['name']}"
        typer.echo(f"{row['name']:<13} {row['title']} ({row['role']}, {row['licence']})")
        typer.echo(f"{'':<13} {here}")


@app.command()
def pull(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Bring a model to this machine, from wherever it can be reached."""
    from tersely.models import pull as bring

    _answer(name, str(bring(name, say=tell)), as_json=as_json)


@app.command()
def path(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Tell where a model lies: a name of ours, a folder, or a hub id."""
    from tersely.models import resolve

    _answer(name, str(resolve(name)), as_json=as_json)


@app.command()
@takes_values
def calibrate(
    name: Annotated[str, typer.Argument(help="A name of ours, a folder or a hub id.")],
    data: Annotated[
        Path | None,
        typer.Argument(help="JSONL rows of question, context and answer; made up when left out."),
    ] = None,
    *,
    display: Display,
) -> None:
    """Find the heads of a model that see relevance, once, for the stage attention."""
    from tersely.calibration import place_of
    from tersely.middleware.cli_train import learn, read_rows
    from tersely.registry import trainer

    built = trainer("heads", model=name)
    built.ready()
    learn(built, read_rows(data, built) if data else [], place_of(name), display)


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="A name of ours, a folder or a hub id.")],
    *,
    precision: Annotated[str, typer.Option(help="int8 or fp32.")] = "int8",
    as_json: JsonOption = False,
) -> None:
    """Export a sentence encoder to ONNX, once, so that it embeds fast and without torch."""
    from tersely.registry import embedder

    built: Any = embedder("onnx", model=name, precision=precision)
    _answer(name, str(built.export(tell)), as_json=as_json)


@app.command()
def remove(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Remove a model of ours from this machine."""
    from tersely.errors import ModelError, UnknownName
    from tersely.models import CATALOGUE, folder_of

    if name not in CATALOGUE:
        raise UnknownName("model", name, CATALOGUE)
    folder = folder_of(name)
    if not folder.is_dir():
        raise ModelError(f"model {name!r} is not on this machine")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ModelError(f"can't remove {folder}: {error.strerror}") from error
    tell(f"removed {name}")
    _answer(name, str(folder), as_json=as_json)


def _answer(name: str, folder: str, *, as_json: bool) -> None:
    if as_json:
        write_json({"name": name, "path": folder})
    else:
        typer.echo(folder)
