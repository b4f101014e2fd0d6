"""The rows of a batch job are sent to a backend, and what it says goes into them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from tersely.contracts import Completion
from tersely.errors import (
    BackendError,
    ConfigError,
    ContextLengthError,
    TerselyError,
)
from tersely.middleware.adapters import look
from tersely.middleware.batch_answers import Kept, Key
from tersely.middleware.batch_asking import Ask, Generation, asking
from tersely.middleware.batch_calls import Call, call_of, plain, result_of
from tersely.middleware.batch_soft import Softener
from tersely.middleware.batch_workers import Done, Engine, Work
from tersely.middleware.files import Block, Made, total
from tersely.middleware.rows import RowOptimizer, Treated, Usage, renewed

AHEAD = 4
"""So many times the requests that are under way at once are handed out."""

HELD = 1024
"""So many rows are held at most until one that is slow has its answer."""

FIRST = 8
"""When none of the first rows of a job has an answer after so many, the job stops."""

OUTAGE = 32
"""After so many rows in a row whose failure may pass, the job stops as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before(Work):
    """Compresses the rows of a block; what is written waits for the answers."""

    def __call__(self, block: Block) -> Made:
        """What becomes of every row that can be read."""
        return Made(treated=tuple(self.optimizer.each(self.files.rows(block))))

    def failed(self, block: Block, reason: str) -> Made:
        lost = Treated(status="failed", reason=reason)
        return Made(treated=tuple(lost for _ in self.files.rows(block)))


@dataclass(slots=True)
class Asked:
    """A row of a block in hand: what became of it, and the answer that is waited for."""

    row: Any
    treated: Treated
    call: Call | None = None
    answers: Future[list[Completion]] | None = None

    @property
    def waits(self) -> bool:
        return self.answers is not None and not self.answers.done()


Hand = tuple[Block, list[Asked]]
"""A block whose rows were asked."""


@dataclass(slots=True, kw_only=True)
class Answering:
    """Does what an engine does, and has every row answered before it is written.

    `kept` are answers that an earlier run left, and `answered` tells whether the job has had one.
    `soft` puts what was learned in the place of what requests begin with.
    Raises BackendError when nothing is answered any more; what was written before that counts.
    """

    engine: Engine
    work: Work
    generation: Generation
    kept: Kept
    answered: bool = False
    soft: Softener | None = None
    _failed: int = field(default=0, init=False)

    def __call__(self, blocks: Iterable[Block]) -> Iterator[Done]:
        waiting: deque[Hand] = deque()
        start = self.kept.start.line
        with asking(self.generation, self.kept) as ask:
            try:
                for block, made in self.engine(blocks):
                    waiting.append((block, self._asked(block, made, start, ask)))
                    start = block.end.line
                    yield from self._due(waiting)
            except ConfigError:  # the source is torn: what was read before that counts
                while waiting:
                    yield self._next(waiting)
                raise
            while waiting:
                yield self._next(waiting)

    def _asked(self, block: Block, made: Made, start: int, ask: Ask) -> list[Asked]:
        """Send the rows of a block, which begins behind a line."""
        rows = zip(self.work.files.rows(block), made.treated, strict=True)
        return [
            self._sent((start, i), Asked(row, treated), ask)
            for i, (row, treated) in enumerate(rows)
        ]

    def _sent(self, key: Key, asked: Asked, ask: Ask) -> Asked:
        if asked.treated.status == "failed":
            return asked
        try:
            row = renewed(asked.row, asked.treated.edits)
            call = call_for(row, self.work.optimizer, self.generation)
            if self.soft is not None:
                call = replace(call, requests=tuple(map(self.soft, call.requests)))
            asked.call = call
        except Exception as error:  # a row may hold what no backend is asked
            asked.treated = _unanswered(asked.treated, error)
        else:
            asked.answers = ask(key, asked.call.requests)
        return asked

    def _due(self, waiting: deque[Hand]) -> Iterator[Done]:
        """The blocks that are answered by when more rows can be sent."""
        while waiting:
            rows = [one for _, rows in waiting for one in rows]
            under_way = [one.answers for one in rows if one.answers and one.waits]
            if len(rows) >= HELD or not any(one.waits for one in waiting[0][1]):
                yield self._next(waiting)
            elif len(under_way) >= AHEAD * self.generation.together:
                wait(under_way, return_when=FIRST_COMPLETED)
            else:
                return

    def _next(self, waiting: deque[Hand]) -> Done:
        """The first block, with its answers."""
        block, rows = waiting[0]
        treated = [self._settled(one) for one in rows]
        waiting.popleft()
        return block, self._written(block, treated)

    def _settled(self, asked: Asked) -> Treated:
        """A row with its answer, or with the reason why it has none."""
        treated = asked.treated
        if asked.answers is not None and asked.call is not None:
            try:
                done = asked.answers.result()
                usage = _usage(done, soft=asked.call.is_soft)
                treated = replace(treated, answer=self._spelled(asked, done), usage=usage)
            except Exception as error:  # a backend may raise what it likes
                self._count(error)
                treated = _unanswered(treated, error)
            else:
                self.answered, self._failed = True, 0
        if treated.answer is None and not self.work.column and isinstance(asked.row, Mapping):
            line = self._line(asked.row, None, treated.reason)
            treated = replace(treated, answer=line)
        return treated

    def _spelled(self, asked: Asked, done: list[Completion]) -> Mapping[str, Any]:
        """An answer as it is written: for a column, or as the row's provider would."""
        if self.work.column or asked.call is None:
            return plain(done)
        return self._line(asked.row, asked.call.body(done))

    def _line(self, row: Mapping[str, Any], body: Any, reason: str = "") -> Mapping[str, Any]:
        return result_of(self.work.optimizer.format.name, row.get("custom_id"), body, reason)

    def _count(self, error: Exception) -> None:
        """Raise BackendError when nobody seems to be there to answer."""
        if not isinstance(error, BackendError) or isinstance(error, ContextLengthError):
            return
        self._failed = self._failed + 1 if error.retryable or not self.answered else 0
        most = OUTAGE if self.answered else FIRST
        if self._failed >= most:
            raise BackendError(
                f"{most} rows one after the other had no answer: {error}; run the same job again"
                " to go on from there",
                retryable=error.retryable,
            ) from error

    def _written(self, block: Block, treated: list[Treated]) -> Made:
        """What is written for a block. A row that can't be is told, and no other with it."""
        try:
            return self._made(block, treated)
        except Exception:
            rest = iter(treated)
            return total([self._alone(one, rest) for one in self.work.files.alone(block)])

    def _alone(self, row: Block, rest: Iterator[Treated]) -> Made:
        known = [*islice(rest, sum(1 for _ in self.work.files.rows(row)))]
        try:
            return self._made(row, known)
        except Exception as error:
            return self.work.failed(row, f"{type(error).__name__}: {error}")

    def _made(self, block: Block, treated: list[Treated]) -> Made:
        known = iter(treated)
        return self.work.files.treat(block, lambda _: next(known), column=self.work.column)


def _unanswered(treated: Treated, error: Exception) -> Treated:
    """A row that goes on without an answer."""
    said = str(error) if isinstance(error, TerselyError) else f"{type(error).__name__}: {error}"
    return replace(treated, status="failed", reason=f"no answer: {said}")


def call_for(row: Any, optimizer: RowOptimizer, generation: Generation) -> Call:
    """What a row asks, by its texts as they are now. Raises RequestError."""
    question = look(row, optimizer.question) if optimizer.question else None
    part = optimizer.format.part(row)
    return call_of(part, generation.like, generation.backend, question or "")


def _usage(done: Sequence[Completion], *, soft: bool) -> Usage:
    """What answers took; the prompt of several to one row counts once."""
    return Usage(
        prompt=done[0].prompt_tokens,
        cached=done[0].cached_tokens,
        completion=sum(one.completion_tokens for one in done),
        soft=soft,
    )
