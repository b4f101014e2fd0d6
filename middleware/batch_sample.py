"""What a job would save, cost and take, told by some of its rows before it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from tersely.errors import ConfigError, RequestError
from tersely.middleware.batch import BatchJob
from tersely.middleware.batch_heads import Heads, of_rows
from tersely.middleware.batch_many import begun_with, pairs
from tersely.middleware.batch_worth import SharedHead
from tersely.middleware.files import At, Block
from tersely.middleware.passage import model_of
from tersely.middleware.tally import Tally
from tersely.prices import price_of

SAMPLE = 200
"""So many rows are tried when no number is given."""

DRAWS = 1000
"""So often rows are drawn anew from those that were tried, for the interval."""

MILLION = 1_000_000


class Guess(BaseModel):
    """A figure for all rows, and where it lies with 95 % confidence."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, tried: Sequence[float], rows: int) -> Self:
        """What the rows that were tried say of the sum over all: a bootstrap.

        When every row was tried it is no guess.
        """
        values = np.asarray(tried, np.float64)
        if len(values) == 0 or len(values) >= rows:
            total = float(values.sum())
            return cls(value=total, low=total, high=total)
        drawn = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
        low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5]) * rows
        return cls(value=float(values.mean()) * rows, low=float(low), high=float(high))

    def times(self, factor: float) -> Guess:
        """The same in another unit."""
        return Guess(value=self.value * factor, low=self.low * factor, high=self.high * factor)


class Estimate(BaseModel):
    """What a job is likely to come to.

    There are `rows`, of which `tried` were tried and `failed` of these failed. `before`, `after`
    and `saved` are tokens, `dollars_*` what these cost as input of `model` at `price` dollars a
    million, and `seconds` the time of the run with its workers. Answers, where they are wanted,
    have `answers` tokens at most, and take their own time. `heads` are what many rows begin with.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    tried: int
    failed: int
    before: Guess
    after: Guess
    saved: Guess
    seconds: Guess
    dollars_before: Guess
    dollars_after: Guess
    dollars_saved: Guess
    price: float
    model: str
    answers: int = 0
    heads: tuple[SharedHead, ...] = ()

    @property
    def message(self) -> str:
        """The estimate in a few lines."""
        share = self.saved.value / self.before.value if self.before.value else 0.0
        priced = self.model or "a model that is not named: see --model"
        answers = f"answers: {self.answers:,} tokens at most, and the backend's own time"
        return "\n".join(
            [
                f"{self.tried:,} of {self.rows:,} rows were tried, {self.failed:,} failed",
                f"tokens: {_told(self.before)} become {_told(self.after)}, {share:.0%} fewer",
                f"cost: {_told(self.dollars_before, '$')} become {_told(self.dollars_after, '$')}"
                f" at ${self.price:g} a million ({priced})",
                f"time: {_told(self.seconds)} seconds",
                *([answers] if self.answers else ()),
                *(head.message for head in self.heads),
            ]
        )


def estimate(
    source: str | Path, target: str | Path, *, sample: int = SAMPLE, **settings: Any
) -> Estimate:
    """Try some rows of a job, drawn by a fixed chance from all, and tell what all would come to.

    Takes what `batch` takes, reads the source once and writes nothing.
    """
    if sample < 1:
        raise ConfigError(f"sample must be at least 1, was {sample}")
    named = pairs(str(source), str(target))
    workers = int(settings.pop("workers", 1))
    for other in ("report", "engine", "gpus"):
        settings.pop(other, None)
    jobs = [BatchJob(**{**settings, "source": one, "target": place}) for one, place in named]
    heads = Heads()
    drawn, rows = _drawn(jobs, sample, heads)
    tried, seconds = _tried(drawn)
    model = jobs[0].settled.model or next(filter(None, map(_model, drawn)), "")
    price = price_of(model).input
    before = Guess.of([one.before for one in tried], rows)
    after = Guess.of([one.after for one in tried], rows)
    saved = Guess.of([one.before - one.after for one in tried], rows)
    return Estimate(
        rows=rows,
        tried=len(tried),
        failed=sum(one.failed for one in tried),
        before=before,
        after=after,
        saved=saved,
        seconds=Guess.of(seconds, rows).times(1 / workers),
        dollars_before=before.times(price / MILLION),
        dollars_after=after.times(price / MILLION),
        dollars_saved=saved.times(price / MILLION),
        price=price,
        model=model,
        answers=rows * asked.max_tokens if (asked := jobs[0].generate) else 0,
        heads=begun_with(heads, jobs[0], model),
    )


Drawn = tuple[BatchJob, Block]


def _drawn(jobs: Sequence[BatchJob], size: int, heads: Heads) -> tuple[list[Drawn], int]:
    """Rows of which each is as likely as any other, and how many there are in all.

    What rows begin with is counted on the way.

    Algorithm R (Vitter 1985, https://doi.org/10.1145/3147.3165).
    """
    chance = Random(0)
    kept: list[Drawn] = []
    rows = 0
    for job, block in _blocks(jobs):
        of_rows(job.files, job.optimizer.format, [block], heads)
        for at in range(block.rows):
            rows += 1
            place = len(kept) if len(kept) < size else chance.randrange(rows)
            if place < size:
                row = next(islice(job.files.alone(block), at, None))
                kept[place : place + 1] = [(job, row)]
    return kept, rows


def _blocks(jobs: Sequence[BatchJob]) -> Iterator[Drawn]:
    for job in jobs:
        left = job.limit
        for block in job.files.blocks(At(), job.at_once):
            if left is not None and left <= 0:
                break
            yield job, block
            left = None if left is None else left - block.rows


def _tried(drawn: Sequence[Drawn]) -> tuple[list[Tally], list[float]]:
    """What became of each row, and the seconds that it took."""
    for job, row in drawn[:1]:
        job.work(row)  # models are loaded once, which is no matter of a row
    tried: list[tuple[Tally, float]] = []
    for job in {id(job): job for job, _ in drawn}.values():
        rows = [row for other, row in drawn if other is job]
        for at in range(0, len(rows), job.at_once):
            tried += _block(job, rows[at : at + job.at_once])
    return [tally for tally, _ in tried], [seconds for _, seconds in tried]


def _block(job: BatchJob, rows: Sequence[Block]) -> Iterator[tuple[Tally, float]]:
    """The same of as many rows as a block has, which are read together."""
    read = [list(job.files.rows(row)) for row in rows]  # none where it can't be read
    treated = job.optimizer.each(chain.from_iterable(read))
    for row, known in zip(rows, [[*islice(treated, len(some))] for some in read], strict=True):
        start, told = perf_counter(), iter(known)
        try:
            made = job.files.treat(row, lambda _: next(told), column=job.work.column)  # noqa: B023
        except Exception:  # it can't be written: that is told as the job would tell it
            made = job.work(row)
        yield made.tally, perf_counter() - start + sum(one.ms for one in known) / 1000


def _model(drawn: Drawn) -> str:
    """The model that a row names."""
    job, block = drawn
    for row in filter(_is_row, job.files.rows(block)):
        try:
            return model_of(job.optimizer.format.part(row).request)
        except RequestError:
            continue
    return ""


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping)


def _told(guess: Guess, sign: str = "") -> str:
    figures = [f"{sign}{_rounded(one)}" for one in (guess.value, guess.low, guess.high)]
    return figures[0] if guess.low == guess.high else "{} ({} to {})".format(*figures)


def _rounded(value: float) -> str:
    """Three digits are more than an estimate knows."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
