"""One run of a job: read, treat, write, and take note of how far it came."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from tersely.errors import BackendError, ConfigError
from tersely.middleware.batch_workers import Engine
from tersely.middleware.files import At, Block, Files, Made
from tersely.middleware.journal import Journal, Mark
from tersely.middleware.meter import meter
from tersely.middleware.places import packed

COMMIT_SECONDS = 0.2
"""So much work is lost at most when the process is killed; it is done again on resume."""


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
        journal, committed, share, whole = self.journal, monotonic(), 0.0, False
        with closing(journal), sigint() as stopped, _progress(mark, self.shown) as show:
            journal.open(mark)
            if not mark.line:
                self._write(mark, [self.files.head()])
            try:
                for block, made in engine(reading):
                    mark, share = self._written(block, made, mark), block.share
                    if monotonic() - committed > COMMIT_SECONDS:
                        mark = journal.commit(mark)
                        committed = monotonic()
                        show(mark, share)
                    if stopped():
                        break
                else:
                    whole = reading.ended
            except (ConfigError, BackendError):  # torn, or unheard: what was done before counts
                journal.commit(mark)
                raise
            mark = journal.commit(mark)
            show(mark, share)
        return mark, whole

    def _written(self, block: Block, made: Made, mark: Mark) -> Mark:
        """Write what a block became, and move the mark past it."""
        beside = {"errors": made.errors, "report": made.report, "results": made.results}
        for name, data in beside.items():
            if data:
                self.journal.write(name, data)
        held: list[bytes] = []
        for piece in made.target:
            if self._full(mark, piece):
                self._write(mark, held)
                mark = mark.model_copy(
                    update={"part": mark.part + 1, "part_rows": 0, "part_bytes": 0}
                )
                held = [self.files.head()]
            held.append(piece)
            size = {"part_rows": mark.part_rows + 1, "part_bytes": mark.part_bytes + len(piece)}
            mark = mark.model_copy(update=size)
        self._write(mark, held)
        tally = mark.tally.plus(made.tally)
        end = {"offset": block.end.offset, "line": block.end.line, "tally": tally}
        return mark.model_copy(update=end)

    def _full(self, mark: Mark, piece: bytes) -> bool:
        """Whether a piece has to go to another file; each holds one at least."""
        if not mark.part_rows:
            return False
        rows = self.most is not None and mark.part_rows >= self.most
        return rows or (self.room is not None and mark.part_bytes + len(piece) > self.room)

    def _write(self, mark: Mark, pieces: Sequence[bytes]) -> None:
        if data := b"".join(pieces):
            name = "target" if mark.part == 1 else f"target.{mark.part}"
            self.journal.write(name, packed(data, self.files.codec))


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
