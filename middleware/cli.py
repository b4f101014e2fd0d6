"""The command line: `tersely compress`, `ask`, `explain`, `batch`, `train`, `index` and more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tersely import __version__
from tersely.errors import TerselyError
from tersely.middleware import (
    cli_ask,
    cli_audit,
    cli_batch,
    cli_collect,
    cli_index,
    cli_models,
    cli_serve,
    cli_soft,
    cli_train,
)
from tersely.middleware.cli_io import read, tell, tell_report, write, write_json
from tersely.middleware.cli_options import Display, Source, Wishes, takes_values


class Commands(TyperGroup):
    """Commands whose foreseen errors are one line on standard error and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TerselyError as error:
            tell(f"error: {' '.join(str(error).split())}", "red")
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Say the same to a language model in fewer tokens.",
)
app.command()(takes_values(cli_ask.ask))
app.command()(takes_values(cli_audit.audit))
app.command()(takes_values(cli_batch.batch))
app.command()(takes_values(cli_collect.collect))
app.command()(takes_values(cli_serve.serve))
app.command()(takes_values(cli_train.train))
app.command()(cli_train.trainers)
app.add_typer(cli_index.app, name="index")
app.add_typer(cli_models.app, name="models")
app.add_typer(cli_soft.app, name="soft")

JsonOption = Annotated[bool, typer.Option("--json", help="Write it as JSON.")]


def main() -> None:
    """Run the command line."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tersely {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """Say the same to a language model in fewer tokens."""


@app.command()
@takes_values
def compress(
    *,
    source: Source,
    wishes: Wishes,
    display: Display,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the result to this file.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Draw what was lost into this HTML file.")
    ] = None,
) -> None:
    """Compress a text or a request; the result has the shape of what was given."""
    given = read(source)
    result = wishes.compress(given.request)
    if html is not None:
        write(result.html(), html)
    if display.as_json:
        report = result.report.model_dump(mode="json")
        write_json({"output": result.output, "report": report}, out)
        return
    write(given.respelled(result.output), out, encoding=given.encoding)
    if not display.quiet:
        tell_report(result.report)


@app.command()
@takes_values
def explain(
    *,
    source: Source,
    wishes: Wishes,
    display: Display,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path(
        "tersely-diff.html"
    ),
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show what compressing would keep and lose, as an HTML page."""
    result = wishes.compress(read(source).request)
    write(result.html(), out)
    if display.as_json:
        write_json({"html": str(out), "report": result.report.model_dump(mode="json")})
    else:
        typer.echo(str(out))
        if not display.quiet:
            tell_report(result.report)
    if open_it:
        import webbrowser

        webbrowser.open(out.resolve().as_uri())


@app.command()
def stages(*, as_json: JsonOption = False) -> None:
    """List every stage, pipeline, plan, embedder and trainer, with its needs and its paper."""
    from tersely.middleware.catalogue import catalogue, listing

    entries = catalogue()
    if as_json:
        write_json([entry.model_dump(mode="json") for entry in entries])
        return
    from rich.console import Console

    Console().print(listing(entries))
