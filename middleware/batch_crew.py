"""What a job's rows go through, from the place where it goes on to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tersely.middleware.batch_answers import Kept
from tersely.middleware.batch_generate import Answering, Before, call_for
from tersely.middleware.batch_outputs import ANSWERS, SORTED, Outputs
from tersely.middleware.batch_requests import SHAPES
from tersely.middleware.batch_run import Reading, Rows, Running
from tersely.middleware.batch_soft import Softener, Softening
from tersely.middleware.batch_sort import Sorted
from tersely.middleware.batch_workers import Engine, crew
from tersely.middleware.files import At
from tersely.middleware.journal import Mark

if TYPE_CHECKING:
    from tersely.middleware.batch import BatchJob


def worked(job: BatchJob, first: Mark, outputs: Outputs) -> tuple[Mark, bool, tuple[str, ...]]:
    """Go on from a mark. Tells which rows are done, whether that is all, and what is to be said."""
    shape = job.optimizer.format
    limits = SHAPES[job.requests.provider] if job.requests else shape
    running = Running(
        files=job.files,
        journal=outputs.journal,
        most=job.split_rows or limits.most,
        room=job.split_bytes or limits.room,
        shown=job.progress,
    )
    at = At(first.offset, first.line)
    rows: Rows = job.files
    if job.sort:
        rows = Sorted(job.files, shape, outputs.beside(SORTED))
        rows.prepare(anew=not first.line)
    left = None if job.limit is None else job.limit - first.rows

    def reading() -> Reading:
        return Reading(rows=rows, at=at, size=job.at_once, left=left)

    softening = _softening(job, reading)
    soft = softening.made() if softening else None
    with _crew(job, first, outputs, soft) as engine:
        mark, whole = running.work(first, reading(), engine)
    return mark, whole, soft.notes if soft else ()


@contextmanager
def _crew(job: BatchJob, first: Mark, outputs: Outputs, soft: Softener | None) -> Iterator[Engine]:
    """Who compresses the rows, and has them answered where that is wanted."""
    work = job.work
    if job.generate is not None:
        work = Before(files=work.files, optimizer=work.optimizer, column=work.column)
    with crew(work, job.workers, engine=job.engine, gpus=job.gpus) as engine:
        if job.generate is None:
            yield engine
            return
        yield Answering(
            engine=engine,
            work=job.work,
            generation=job.generate,
            kept=Kept(outputs.beside(ANSWERS), first, anew=not job.resume),
            answered=first.tally.answered > 0,
            soft=soft,
        )


def _softening(job: BatchJob, reading: Callable[[], Reading]) -> Softening | None:
    """Who learns what the rows that are left begin with, if that is wanted."""
    generation = job.generate
    if generation is None or generation.soft is None:
        return None
    return Softening(
        wishes=generation.soft,
        backend=generation.backend,
        answer=generation.max_tokens,
        files=job.files,
        format=job.optimizer.format,
        blocks=reading,
        ask=lambda row: call_for(row, job.optimizer, generation).requests[0].prompt,
        shown=job.progress,
    )
