"""`tersely collect`: put the answers of a provider's batch into the rows that were asked."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument, Option

from tersely.middleware.cli_io import tell, write_json
from tersely.middleware.cli_options import Display


def collect(
    source: Annotated[
        str, Argument(metavar="IN", help="The batch file, or the rows that it was made of.")
    ],
    results: Annotated[
        list[str], Argument(metavar="RESULTS...", help="What the provider sent: answers, errors.")
    ],
    *,
    out: Annotated[str, Option("--out", "-o", help="What to write: the rows with answers.")],
    display: Display,
) -> None:
    """Put the answers of a provider's batch into the rows that were asked."""
    from tersely.middleware import batch_collect

    done = batch_collect.collect(source, results, out)
    if display.as_json:
        write_json(done.model_dump(mode="json"))
    elif not display.quiet:
        tell(done.message, "red" if done.exit_code else "")
    raise typer.Exit(done.exit_code)
