"""`tersely batch`: compress the prompts of a data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer import Argument, Option

from tersely.errors import ConfigError
from tersely.middleware.cli_ask import SHORTER, Server
from tersely.middleware.cli_io import tell, write_json
from tersely.middleware.cli_options import Display, Wishes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Which rows of a data set, and what in them."""

    field: Annotated[
        list[str],
        Option(help="A field that holds text; may be repeated. Found by itself when left out."),
    ] = dataclass_field(default_factory=list)
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
    workers: Annotated[int, Option("--workers", "-w", help="So many processes share the work.")] = 1
    engine: Annotated[str, Option(help="local, or ray: workers on a Ray cluster.")] = "local"
    gpus: Annotated[float, Option(help="GPUs of each worker on a Ray cluster.")] = 0.0
    block: Annotated[
        int | None, Option(help="Rows that are read and written together; by their size if unset.")
    ] = None
    split_rows: Annotated[
        int | None, Option(help="Rows in a file of the target; what providers take by itself.")
    ] = None
    split_bytes: Annotated[int | None, Option(help="Bytes in a file of the target.")] = None
    report: Annotated[
        list[str], Option(help="Where the account goes: a .html or .json file; may be repeated.")
    ] = dataclass_field(default_factory=list)
    share: Annotated[
        bool, Option("--share", help="Compress each text by itself, once in the whole job.")
    ] = False
    sort: Annotated[
        bool, Option("--sort", help="Put rows that begin alike one after the other.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is told before the work begins."""

    sample: Annotated[
        int | None,
        Option(help="Try so many rows first, and tell what all would save, cost and take."),
    ] = None
    dry_run: Annotated[
        bool, Option("--dry-run", help="Try rows (200, or --sample), tell, and write nothing.")
    ] = False

    @property
    def wanted(self) -> bool:
        return self.dry_run or self.sample is not None

    def told(self, source: str, out: str, settings: dict[str, Any], display: Display) -> None:
        """Try some rows and tell what they say of all."""
        from tersely.middleware.batch_sample import SAMPLE, estimate

        sample = SAMPLE if self.sample is None else self.sample
        said = estimate(source, out, sample=sample, **settings)
        if display.as_json and self.dry_run:
            write_json(said.model_dump(mode="json"))
        elif not display.quiet:
            tell(said.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers(Server):
    """Who answers the rows, if they are to be answered."""

    generate: Annotated[
        str | None,
        Option(
            metavar="MODEL", help="Have every row answered by this model, here or at --base-url."
        ),
    ] = None
    provider: Annotated[
        str | None,
        Option("--as", help="Write rows as a batch file for openai or anthropic, for --model."),
    ] = None
    max_tokens: Annotated[
        int | None, Option(min=1, help="How long an answer may be; 256 tokens with --generate.")
    ] = None
    temperature: Annotated[float, Option(min=0, help="How freely an answer is drawn.")] = 0.0
    at_once: Annotated[int, Option(min=1, help="Rows that are answered at the same time.")] = 16
    soft: Annotated[
        Path | None,
        Option(help="Learn what many rows begin with, where it pays, as soft prompts in a folder."),
    ] = None

    @property
    def generation(self) -> dict[str, Any] | None:
        """The settings of `generate`. Raises ConfigError."""
        if self.generate is None:
            for option in ("base_url", "api_key_env", "soft"):
                if getattr(self, option):
                    named = option.replace("_", "-")
                    raise ConfigError(f"--{named} is for answers: name the model by --generate")
            return None
        return {
            "backend": self.backend(self.generate),
            "max_tokens": self.max_tokens or SHORTER,
            "temperature": self.temperature,
            "at_once": self.at_once,
            "soft": self.soft,
        }

    @property
    def requests(self) -> dict[str, Any] | None:
        """The settings of `requests`, but for the model."""
        wanted = {"provider": self.provider, "max_tokens": self.max_tokens}
        return wanted if self.provider else None


def batch(
    source: Annotated[
        str,
        Argument(metavar="IN", help="JSONL, CSV, Parquet, Arrow, a dataset, a folder or pattern."),
    ],
    *,
    out: Annotated[str, Option("--out", "-o", help="What to write; a folder for several files.")],
    wishes: Wishes,
    rows: Rows,
    answers: Answers,
    trial: Trial,
    display: Display,
) -> None:
    """Compress the prompts of a data set, and perhaps answer them; a stopped run goes on later."""
    from tersely.middleware import batch as batches
    from tersely.middleware import scope

    pipeline = wishes.settled()
    settings = {
        **asdict(rows),
        "pipeline": pipeline.but(model=wishes.model) if wishes.model else pipeline,
        "progress": not (display.quiet or display.as_json),
        "field": tuple(rows.field) or None,
        "generate": answers.generation,
        "requests": answers.requests,
    }
    with scope.override(
        mode=cast(Any, wishes.mode), question=wishes.question, strict=wishes.strict or None
    ):
        if trial.wanted:
            trial.told(source, out, settings, display)
        if trial.dry_run:
            return
        summary = batches.batch(source, out, **settings)
    if display.as_json:
        write_json(summary.model_dump(mode="json"))
    elif not display.quiet:
        tell(summary.message, "red" if summary.exit_code else "")
    raise typer.Exit(summary.exit_code)
