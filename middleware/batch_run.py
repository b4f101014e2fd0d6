"""One run of a job: read, treat, write, and take note of how far it came."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from tersely.errors import BackendError, ConfigError
from tersely.middleware.batch_workers import Done, Engine
from tersely.middleware.files import At, Block, Files, Made
from tersely.middleware.journal import Journal, Mark
from tersely.middleware.meter import meter
from tersely.middleware.places import packed

COMMIT_SECONDS = 0.2
"""So much work is lost at most when the process is killed; it is done again on resume."""

COMMIT_SHARE = 0.05
"""So much of the time may go by in commits: on a slow disk there are fewer."""


class Rows(Protocol):
    """What gives the rows from a place on, at most so many in a block."""

    def blocks(self, at: At, rows: int) -> Iterator[Block]: ...


@dataclass(slots=True, kw_only=True)
class Reading:
    """The blocks of a source from a place on: `left` rows of it (None: all), `size` in a block.

    `ended` tells whether the source had no more.
    """

    rows: Rows
    at: At
    size: int
    left: int | None = None
    ended: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[Block]:
        while self.left is None or self.left > 0:
            size = self.size if self.left is None else min(self.size, self.left)
            for block in self.rows.blocks(self.at, size):
                yield block
                self.at = block.end
                if self.left is not None:
                    self.left -= block.rows
                    if self.left < size:
                        break
            else:
                self.ended = True
                return
        self.ended = not any(block.rows for block in self.rows.blocks(self.at, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a run writes and how: `most` rows and `room` bytes in a file of the target."""

    files: Files
    journal: Journal
    most: int | None
    room: int | None
    shown: bool

    def work(self, mark: Mark, reading: Reading, engine: Engine) -> tuple[Mark, bool]:
        """Go on from a mark to the end of the reading or SIGINT. Tells whether all was read."""
        journal, share, whole = self.journal, 0.0, False
        with closing(journal), sigint() as stopped, _progress(mark, self.shown) as show:
            journal.open(mark)
            if not mark.sizes["target"]:
                self._write(mark, [self.files.head()])
            results, due = engine(reading), monotonic() + COMMIT_SECONDS
            while not stopped():
                done = self._next(results, mark)
                if done is None:
                    whole = reading.ended
                    break
                mark, share = self._written(*done, mark), done[0].share
                if (began := monotonic()) > due:
                    mark = journal.commit(mark)
                    took = monotonic() - began
                    due = began + took + max(COMMIT_SECONDS, took / COMMIT_SHARE)
                    show(mark, share)
            mark = journal.commit(mark)
            show(mark, share)
        return mark, whole

    def _next(self, results: Iterator[Done], mark: Mark) -> Done | None:
        """What came of the next block; where there is none, what was done before counts."""
        try:
            return next(results, None)
        except (ConfigError, BackendError):  # the source is torn, or nobody answers
            self.journal.commit(mark)
            raise

    def _written(self, block: Block, made: Made, mark: Mark) -> Mark:
        """Write what a block became, and move the mark past it."""
        beside = {"errors": made.errors, "report": made.report, "results": made.results}
        for name, data in beside.items():
            if data:
                self.journal.write(name, data)
        held: list[bytes] = []
        rows, size = mark.part_rows, mark.part_bytes
        for piece in made.target:
            if rows and self._full(rows, size + len(piece)):
                self._write(mark, held)
                mark = mark.model_copy(update={"part": mark.part + 1})
                held, rows, size = [self.files.head()], 0, 0
            held.append(piece)
            rows, size = rows + 1, size + len(piece)
        self._write(mark, held)
        end: dict[str, Any] = {"offset": block.end.offset, "line": block.end.line}
        end |= {"part_rows": rows, "part_bytes": size, "tally": mark.tally.plus(made.tally)}
        return mark.model_copy(update=end)

    def _full(self, rows: int, size: int) -> bool:
        """Whether a file of so many rows is full, or has no room for so many bytes."""
        return (self.most is not None and rows >= self.most) or (
            self.room is not None and size > self.room
        )

    def _write(self, mark: Mark, pieces: Sequence[bytes]) -> None:
        if data := b"".join(pieces):
            self.journal.write(mark.in_hand, packed(data, self.files.codec))


@contextmanager
def sigint() -> Iterator[Callable[[], bool]]:
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
def _progress(start: Mark, shown: bool) -> Iterator[Callable[[Mark, float], None]]:
    """A progress bar on stderr, and the function that moves it."""
    if not shown:
        yield lambda *_: None
        return
    began, size = monotonic(), start.source.size
    with meter(size) as move:

        def show(mark: Mark, share: float) -> None:
            pace = (mark.rows - start.rows) / max(monotonic() - began, 1e-9)
            saved = mark.tally.before - mark.tally.after
            told = f"{mark.rows:,} rows, {pace:,.1f} rows/s, {saved:,} tokens saved"
            if mark.tally.answered:
                told += f", {mark.tally.answered:,} answered"
            move(round(size * share), told)

        yield show
