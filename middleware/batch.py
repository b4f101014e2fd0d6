"""A data set in, the same data set with shorter prompts out: row by row, in order, resumable."""

from __future__ import annotations

import re
from functools import cached_property
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tersely import __version__
from tersely.budget import Budget, BudgetLike
from tersely.errors import ConfigError, first_fault
from tersely.middleware import scope
from tersely.middleware.batch_asking import Generation
from tersely.middleware.batch_crew import worked
from tersely.middleware.batch_outputs import CACHE, Outputs, beside
from tersely.middleware.batch_requests import Requests, Wanted, reader_for
from tersely.middleware.batch_share import shared
from tersely.middleware.batch_summary import SUMS, BatchSummary
from tersely.middleware.batch_workers import Work
from tersely.middleware.files import ANSWER, COLUMN, FEW, Files, files_of, objects
from tersely.middleware.journal import Mark, Source
from tersely.middleware.pipeline import Pipeline, pipeline_of
from tersely.middleware.row_shapes import Format, FormatName, format_of, steps
from tersely.middleware.rows import RowOptimizer


class BatchJob(BaseModel):
    """A data set whose prompts are to be compressed into another one.

    `source` and `target` are paths, or addresses like `s3://bucket/in.jsonl`: JSONL or CSV, plain
    or packed (`.gz`, `.zst`), Parquet, Arrow, or a dataset on disk. Rows hold a text or list of
    texts (in `field`, or several of them; else in the first of the usual ones that is there), chat
    `messages`, a `prompt` with its `completion`, or are lines of OpenAI or Anthropic batch files.
    Without `format` the first row that is one of these tells. All else in a row stays as it is,
    and rows keep their order. A row gets a column `tersely` with tokens before and after, status,
    reason and decisions; for batch files, whose providers refuse unknown fields, these go to
    `<target>.report.jsonl` instead. A file of the target holds `split_rows` rows and `split_bytes`
    bytes at most (for batch files what their providers take), the next ones are `<target>.2` and
    so on, with the number before the ending.

    A row that fails goes on unchanged and, with line number and reason, to `errors`
    (`<target>.errors.jsonl`). A line that can't be read goes there alone. Blank lines are left out.

    With `resume` a job that was stopped, however roughly, goes on where it was; `block` rows are
    done again at most (None: 32, or of short ones as many as a model should read together).
    `workers` processes share the work, here or (`engine="ray"`) as actors of a Ray cluster that
    have `gpus` each. `limit` bounds the rows of the whole job. `budget` goes before the pipeline's
    own.

    `share` compresses each text by itself (see `batch_share`), once in the whole job. `sort` puts
    rows that begin alike one after the other, so that a provider's cache can serve them.

    `generate` is a backend, or a `Generation`, that answers every row: in a column
    `tersely_answer`, for batch files in `<target>.results.jsonl` as their provider would. An answer
    that came is never asked for again.

    `requests` is "openai" or "anthropic", or a `Wanted`: rows of texts or messages become lines of
    a batch file for that provider, with `custom_id` row-1, row-2 and so on by their numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    source: Path | str
    target: Path | str
    pipeline: Pipeline | str | Path = "default"
    budget: BudgetLike = None
    format: FormatName | None = None
    field: str | tuple[str, ...] | None = None
    question_field: str | None = None
    errors: Path | None = None
    resume: bool = True
    limit: int | None = Field(default=None, ge=0)
    max_error_rate: float = Field(default=1.0, ge=0, le=1)
    workers: int = Field(default=1, ge=1)
    engine: Literal["local", "ray"] = "local"
    gpus: float = Field(default=0, ge=0)
    block: int | None = Field(default=None, ge=1)
    split_rows: int | None = Field(default=None, ge=1)
    split_bytes: int | None = Field(default=None, ge=1)
    share: bool = False
    sort: bool = False
    requests: Annotated[Wanted | None, BeforeValidator(Wanted.of)] = None
    generate: Annotated[Generation | None, BeforeValidator(Generation.of)] = None
    progress: bool = False

    if not TYPE_CHECKING:  # type checkers go by the fields

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise ConfigError(f"batch {first_fault(error)}") from error

    @cached_property
    def settled(self) -> Pipeline:
        """The pipeline with the job's budget. Raises ConfigError.

        Its own bound on time is left out: what becomes of a row must not hang on how busy the
        machine is.
        """
        pipeline = pipeline_of(self.pipeline)
        if self.budget is not None:
            return pipeline.but(budget=Budget.of(self.budget))
        return pipeline.but(budget=pipeline.budget.model_copy(update={"ms": None, "pace": None}))

    @cached_property
    def files(self) -> Files:
        """Who reads the source and writes the target. Raises ConfigError."""
        if self.requests is not None:
            return _requests(self, self.requests)
        columns = (COLUMN,) if self.generate is None else (COLUMN, ANSWER)
        return files_of(str(self.source), str(self.target), columns)

    @cached_property
    def optimizer(self) -> RowOptimizer:
        """What compresses a row. Raises ConfigError when the source holds nothing to compress."""
        folder = beside(str(self.target), CACHE) if self.workers > 1 else None
        return RowOptimizer(
            pipeline=shared(self.settled, folder) if self.share else self.settled,
            format=self.shape(self.files),
            question=steps(self.question_field) if self.question_field else (),
            wishes=scope.current_override(),
        )

    @cached_property
    def at_once(self) -> int:
        """How many rows are in a block."""
        return self.block or self.optimizer.at_once(islice(objects(self.files), FEW))

    def shape(self, files: Files) -> Format:
        """The shape of the rows, as they are read. Raises ConfigError when none is found."""
        named = (self.field,) if isinstance(self.field, str) else self.field or ()
        return format_of(objects(files), self.format, named)

    @cached_property
    def work(self) -> Work:
        """What is done with a block of rows."""
        column = self.files.has_column or self.optimizer.format.column
        column &= self.requests is None
        return Work(files=self.files, optimizer=self.optimizer, column=column)

    def run(self) -> BatchSummary:
        """Work through the rows that are not done yet.

        Raises ConfigError when the job can't be done, or when the source or the settings are not
        those of the run that it would go on from. SIGINT ends the run after the block in hand.
        """
        began = monotonic()
        outputs = _outputs(self)
        outputs.check()
        start = _start(self, outputs)
        first = outputs.journal.resume(start, str(self.target)) if self.resume else start
        last, stopped = first, False
        notes: tuple[str, ...] = ()
        if not (self.resume and (first.finished or self._enough(first))):
            last, whole, notes = worked(self, first, outputs)
            stopped = not whole and not self._enough(last)
            last = outputs.finish(outputs.journal, last) if whole else last
        elif first.finished:
            outputs.tidy(outputs.journal, first)
        return BatchSummary(
            **last.tally.model_dump(include={*SUMS}),
            finished=last.finished,
            rows=last.rows,
            skipped=first.rows,
            seconds=monotonic() - began,
            interrupted=stopped,
            max_error_rate=self.max_error_rate,
            notes=notes,
            tally=last.tally,
        )

    def _enough(self, mark: Mark) -> bool:
        return self.limit is not None and mark.rows >= self.limit


def batch(source: str | Path, target: str | Path, **settings: Any) -> BatchSummary:
    """Compress the prompts of a data set into another one; `settings` are BatchJob's fields.

    A folder, or a pattern with `*`, names several: each is a job of its own, and the target is a
    folder in which they have the same names. The summary is that of all, and so is what is written
    to `report`: a path, or several, that end in `.html` or `.json`.
    """
    from tersely.middleware.batch_many import run_all

    return run_all(source, target, settings)


def _spelled(value: Any) -> str:
    """A value's settings as text, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _start(job: BatchJob, outputs: Outputs) -> Mark:
    """The point before the first row, with what must stay the same from run to run."""
    settings = {
        "pipeline": _spelled(job.settled),
        "override": _spelled(scope.current_override()),
        "format": repr(job.optimizer.format),
        "question_field": str(job.question_field),
        "errors": str(outputs.growing["errors"]),
        "split": repr((job.split_rows, job.split_bytes)),
        "share": str(job.share),
        "sort": str(job.sort),
        "version of tersely": __version__,
    }
    if job.requests is not None:
        settings["requests"] = repr(job.requests)
    if job.generate is not None:
        settings["generate"] = job.generate.known
    sizes = dict.fromkeys(outputs.growing, 0)
    return Mark(source=Source.of(*job.files.parts()), settings=settings, sizes=sizes)


def _outputs(job: BatchJob) -> Outputs:
    """Where a job writes. Raises ConfigError when the source can't be read, or not be split."""
    if (job.split_rows or job.split_bytes) and not job.files.grows:
        raise ConfigError(f"only JSONL and CSV can be split, was {job.target}")
    job.files.parts()
    return Outputs(
        files=job.files,
        target=str(job.target),
        errors=job.errors,
        told=not job.work.column,
        answered=job.generate is not None and not job.work.column,
    )


def _requests(job: BatchJob, wanted: Wanted) -> Requests:
    """Who writes the rows of a job as requests. Raises ConfigError."""
    if job.generate is not None:
        raise ConfigError("rows become requests for a provider, or are answered: not both")
    wanted = wanted.model_copy(update={"model": wanted.model or job.settled.model})
    reader, packing = reader_for(str(job.source), str(job.target), wanted)
    shape = job.shape(reader)
    if shape.name in ("openai-batch", "anthropic-batch"):
        raise ConfigError(f"{job.source} holds requests for a provider already")
    return Requests(
        rows_of=reader,
        format=shape,
        wanted=wanted,
        question=steps(job.question_field) if job.question_field else (),
        codec=packing,
    )
