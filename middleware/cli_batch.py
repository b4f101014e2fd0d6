"""`tersely batch`: compress the prompts of a JSONL file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer import Argument, Option

from tersely.middleware.cli_io import tell, write_json
from tersely.middleware.cli_options import Display, Wishes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Which rows of a data set, and what in them."""

    field: Annotated[
        str | None, Option(help="The field that holds the text; found by itself when left out.")
    ] = None
    question_field: Annotated[
        str | None, Option(help="The field that holds the question of the row.")
    ] = None
    errors: Annotated[
        Path | None, Option(help="Where rows that failed go; OUT.errors.jsonl when left out.")
    ] = None
    resume: Annotated[bool, Option(help="Go on where an earlier run stopped, or begin anew.")] = (
        True
    )
    limit: Annotated[int | None, Option(help="Stop after so many rows.")] = None
    max_error_rate: Annotated[
        float, Option(help="The share of rows that may fail before the exit code is 1.")
    ] = 1.0


def batch(
    source: Annotated[Path, Argument(metavar="IN", help="The JSONL file to read.")],
    *,
    out: Annotated[Path, Option("--out", "-o", help="The JSONL file to write.")],
    wishes: Wishes,
    rows: Rows,
    display: Display,
) -> None:
    """Compress the prompts of a JSONL file, in constant memory; a stopped run goes on later."""
    from tersely.middleware import scope
    from tersely.middleware.batch import BatchJob

    pipeline = wishes.settled()
    job = BatchJob(
        source=source,
        target=out,
        pipeline=pipeline.but(model=wishes.model) if wishes.model else pipeline,
        progress=not (display.quiet or display.as_json),
        **asdict(rows),
    )
    with scope.override(
        mode=cast(Any, wishes.mode), question=wishes.question, strict=wishes.strict or None
    ):
        summary = job.run()
    if display.as_json:
        write_json(summary.model_dump(mode="json"))
    elif not display.quiet:
        tell(summary.message, "red" if summary.exit_code else "")
    raise typer.Exit(summary.exit_code)
