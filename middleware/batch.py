"""A data set in, the same data set with shorter prompts out: row by row, in order, resumable."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tersely import __version__
from tersely.budget import Budget, BudgetLike
from tersely.errors import ConfigError, first_fault
from tersely.middleware import jsonl, scope
from tersely.middleware.journal import Journal, Mark, Source
from tersely.middleware.meter import meter
from tersely.middleware.pipeline import Pipeline, pipeline_of
from tersely.middleware.rows import Format, FormatName, RowOptimizer, format_of, steps

COMMIT_SECONDS = 0.2
"""So much work is lost at most when the process is killed; it is done again on resume."""

INTERRUPTED = 130
"""The exit code of a process that was stopped by SIGINT, as shells have it."""


class BatchSummary(BaseModel):
    """The account of a job over all its runs.

    `rows` were read, of which `done` and `failed` add up to all, and `skipped` were done by an
    earlier run. `before` and `after` are tokens; `seconds` is the time of this run.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    done: int
    failed: int
    skipped: int
    before: int
    after: int
    seconds: float
    finished: bool
    interrupted: bool = False
    max_error_rate: float = 1.0

    @property
    def exit_code(self) -> int:
        """0, or 1 when too many rows failed, or 130 when the run was interrupted."""
        if self.interrupted:
            return INTERRUPTED
        return int(self.failed > self.max_error_rate * self.rows)

    @property
    def message(self) -> str:
        """What happened, and what to do next, in a sentence."""
        counts = f"{self.rows:,} rows, {self.failed:,} failed"
        if self.finished and self.rows == self.skipped:
            return f"nothing to do: the job is finished ({counts})"
        if not self.finished:
            return f"stopped after {counts}; run the same job again to go on from there"
        return f"{counts}; {self.before:,} tokens became {self.after:,}"


class BatchJob(BaseModel):
    """A JSONL file whose prompts are to be compressed into another one.

    Rows hold a text or list of texts (in `field`, else in the first of the usual ones that is
    there), chat `messages`, or are lines of OpenAI or Anthropic batch files. Without `format` the
    first row that is one of these tells. All else in a row keeps its bytes, and rows their order.
    A row gets a column `tersely` with tokens before and after, status and reason; for batch files,
    whose providers refuse unknown fields, these go to `<target>.report.jsonl` instead.

    A row that fails goes on unchanged and, with line number and reason, to `errors`
    (`<target>.errors.jsonl`). A line that is not JSON goes there alone. Blank lines are left out.

    With `resume` a job that was stopped, however roughly, goes on where it was. `limit` bounds
    the rows of the whole job. `budget` goes before the pipeline's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    source: Path
    target: Path
    pipeline: Pipeline | str | Path = "default"
    budget: BudgetLike = None
    format: FormatName | None = None
    field: str | None = None
    question_field: str | None = None
    errors: Path | None = None
    resume: bool = True
    limit: int | None = Field(default=None, ge=0)
    max_error_rate: float = Field(default=1.0, ge=0, le=1)
    progress: bool = False

    if not TYPE_CHECKING:  # type checkers go by the fields

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise ConfigError(f"batch {first_fault(error)}") from error

    @cached_property
    def settled(self) -> Pipeline:
        """The pipeline with the job's budget. Raises ConfigError."""
        pipeline = pipeline_of(self.pipeline)
        return pipeline if self.budget is None else pipeline.but(budget=Budget.of(self.budget))

    def run(self) -> BatchSummary:
        """Work through the rows that are not done yet.

        Raises ConfigError when the job can't be done, or when the source or the settings are not
        those of the run that it would go on from. SIGINT ends the run after the row in hand.
        """
        began = monotonic()
        self._check_paths()
        optimizer = self._optimizer()
        journal = Journal(self._beside(".journal"), self._files(optimizer.format))
        start = self._start(optimizer.format, journal)
        first = journal.resume(start) if self.resume else start
        last, interrupted = first, False
        if not (self.resume and (first.finished or self._enough(first))):
            last, interrupted = self._work(first, journal, optimizer)
        return BatchSummary(
            **last.model_dump(include={"done", "failed", "before", "after", "finished"}),
            rows=last.rows,
            skipped=first.rows,
            seconds=monotonic() - began,
            interrupted=interrupted,
            max_error_rate=self.max_error_rate,
        )

    def _work(self, mark: Mark, journal: Journal, optimizer: RowOptimizer) -> tuple[Mark, bool]:
        """Go on from a mark to the end, the limit or SIGINT. Tells which rows are done."""
        committed = monotonic()
        with closing(journal), _sigint() as stopped, _meter(mark, self.progress) as show:
            journal.open(mark)
            for line in jsonl.lines(self.source, mark.offset, mark.line):
                if stopped() or self._enough(mark):
                    break
                mark = _step(line, mark, journal, optimizer)
                if monotonic() - committed > COMMIT_SECONDS:
                    mark = journal.commit(mark)
                    committed = monotonic()
                    show(mark)
            else:
                mark = mark.model_copy(update={"finished": True})
            mark = journal.commit(mark)
            show(mark)
        if mark.finished:
            journal.drop_empty()
        return mark, not mark.finished and stopped()

    def _enough(self, mark: Mark) -> bool:
        return self.limit is not None and mark.rows >= self.limit

    def _optimizer(self) -> RowOptimizer:
        question = steps(self.question_field) if self.question_field else ()
        shape = format_of(jsonl.rows(self.source), self.format, self.field)
        return RowOptimizer(pipeline=self.settled, format=shape, question=question)

    def _start(self, shape: Format, journal: Journal) -> Mark:
        settings = {
            "pipeline": _spelled(self.settled),
            "override": _spelled(scope.current_override()),
            "format": repr(shape),
            "question_field": str(self.question_field),
            "errors": str(journal.files["errors"]),
            "version of tersely": __version__,
        }
        sizes = dict.fromkeys(journal.files, 0)
        return Mark(source=Source.of(self.source), settings=settings, sizes=sizes)

    def _files(self, shape: Format) -> dict[str, Path]:
        files = {"target": self.target, "errors": self.errors or self._beside(".errors.jsonl")}
        return files if shape.column else files | {"report": self._beside(".report.jsonl")}

    def _beside(self, ending: str) -> Path:
        return self.target.with_name(self.target.name + ending)

    def _check_paths(self) -> None:
        jsonl.check_readable(self.source)
        for name, path in {"target": self.target, "errors": self.errors}.items():
            if path is not None and path.exists() and path.samefile(self.source):
                raise ConfigError(f"the {name} must be another file than the source, was {path}")
        if self.errors is not None and self.errors.resolve() == self.target.resolve():
            raise ConfigError(
                f"the errors must go to another file than the target, was {self.errors}"
            )
        for path in (self.target, self.errors or self.target):
            path.parent.mkdir(parents=True, exist_ok=True)


def batch(source: str | Path, target: str | Path, **settings: Any) -> BatchSummary:
    """Compress the prompts of a JSONL file into another one; `settings` are BatchJob's fields."""
    return BatchJob(source=Path(source), target=Path(target), **settings).run()


def _step(line: jsonl.Line, mark: Mark, journal: Journal, optimizer: RowOptimizer) -> Mark:
    """Write one line and move the mark past it."""
    read = {"offset": mark.offset + len(line.raw), "line": line.number}
    if line.blank:
        return mark.model_copy(update=read)
    written = jsonl.written(line, optimizer, column=optimizer.format.column)
    for name, data in written.parts.items():
        journal.write(name, data)
    row = written.treated
    good = row.status != "failed"
    counts = {
        "done": mark.done + good,
        "failed": mark.failed + (not good),
        "before": mark.before + (row.before or 0),
        "after": mark.after + (row.after or 0),
    }
    return mark.model_copy(update=read | counts)


def _spelled(value: Any) -> str:
    """A value's settings as text, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@contextmanager
def _sigint() -> Iterator[Callable[[], bool]]:
    """Let the first SIGINT be a wish that can be asked for; the second one interrupts as ever."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _meter(start: Mark, shown: bool) -> Iterator[Callable[[Mark], None]]:
    """A progress bar on stderr, and the function that moves it."""
    if not shown:
        yield lambda _: None
        return
    began = monotonic()
    with meter(start.source.size, start.offset) as move:

        def show(mark: Mark) -> None:
            pace = (mark.rows - start.rows) / max(monotonic() - began, 1e-9)
            saved = mark.before - mark.after
            move(mark.offset, f"{mark.rows:,} rows, {pace:,.1f} rows/s, {saved:,} tokens saved")

        yield show
