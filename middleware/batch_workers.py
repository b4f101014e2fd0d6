"""Who does the work of a job: this process, or several that each load the models once."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_all_start_methods, get_context, parent_process
from typing import Any

from tersely.errors import ConfigError
from tersely.middleware.files import Block, Files, Made, total
from tersely.middleware.rows import RowOptimizer, Treated

AHEAD = 3
"""So many blocks are handed out for each worker."""

DIED = "the worker died at this row"

TRIES = 2
"""So often a row is given to a worker alone: a death may come from outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is done with a block, wherever it is done. `column`: rows get the account as one."""

    files: Files
    optimizer: RowOptimizer
    column: bool

    def __call__(self, block: Block) -> Made:
        """Treat every row. A row that can't even be written fails, and no other with it."""
        try:
            if not self.optimizer.reads_ahead:
                return self.files.treat(block, self.optimizer, column=self.column)
            treated = self.optimizer.each(self.files.rows(block))
            return self.files.treat(block, lambda _: next(treated), column=self.column)
        except Exception as error:
            if block.rows == 1:
                return self.failed(block, f"{type(error).__name__}: {error}")
            return total([self(one) for one in self.files.alone(block)])

    def failed(self, block: Block, reason: str) -> Made:
        """What is written when a row can't be treated at all."""
        lost = Treated(status="failed", reason=reason)
        return self.files.treat(block, lambda _: lost, column=self.column)


Done = tuple[Block, Made]

Engine = Callable[[Iterable[Block]], Iterator[Done]]
"""Does the work of blocks, and gives what came of them in their order."""


def here(work: Work, blocks: Iterable[Block]) -> Iterator[Done]:
    """Do the work in this process."""
    return ((block, work(block)) for block in blocks)


@contextmanager
def crew(work: Work, count: int, *, engine: str, gpus: float) -> Iterator[Engine]:
    """Who does the work: this process where it is alone, else several here or on a Ray cluster."""
    if engine == "ray":
        from tersely.middleware.batch_ray import RayWorkers

        workers: Workers = RayWorkers(work, count, gpus)
    elif count == 1:
        yield partial(here, work)
        return
    else:
        workers = Workers(work, count)
    with closing(workers):
        yield workers


class Workers:
    """Processes that share a job's work. Results come in the order of the blocks.

    A worker that dies is replaced, and its blocks are done again, row by row: the row that kills
    it each time fails. Raises ConfigError when the pipeline can't be sent to another process, or
    when workers end before they have done anything.
    """

    deaths: tuple[type[Exception], ...] = (BrokenProcessPool,)
    """What is raised when a worker died."""

    def __init__(self, work: Work, count: int) -> None:
        self.work = work
        self.count = count
        try:
            self.told = pickle.dumps(work)
        except Exception as error:  # whatever it holds may refuse in its own way
            raise ConfigError(f"workers need a pipeline that can be pickled: {error}") from error
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, blocks: Iterable[Block]) -> Iterator[Done]:
        waiting: deque[tuple[Block, Future[Made]]] = deque()
        try:
            for block in blocks:
                waiting.append((block, self._sent(block)))
                if len(waiting) >= AHEAD * self.count:
                    yield self._next(waiting)
        except ConfigError:  # the source is torn: what was read before that counts
            yield from self._rest(waiting)
            raise
        yield from self._rest(waiting)

    def close(self) -> None:
        """End the processes, without waiting for what nobody asks for any more."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _rest(self, waiting: deque[tuple[Block, Future[Made]]]) -> Iterator[Done]:
        while waiting:
            yield self._next(waiting)

    def _next(self, waiting: deque[tuple[Block, Future[Made]]]) -> Done:
        block, future = waiting.popleft()
        try:
            return block, future.result()
        except self.deaths:
            self._buried(future)
            self._greet()
            made = total([self._alone(one) for one in self.work.files.alone(block)])
            again = [(later, self._again(later, future)) for later, future in waiting]
            waiting.clear()
            waiting.extend(again)
            return block, made

    def _again(self, block: Block, future: Future[Made]) -> Future[Made]:
        """What a block comes to: done again, unless it was done before the worker died."""
        done = future.done() and future.exception() is None
        return future if done else self._sent(block)

    def _alone(self, row: Block) -> Made:
        """Treat one row while nothing else is sent with it, so that a death is its own."""
        for _ in range(TRIES):
            future = self._sent_alone(row)
            try:
                return future.result()
            except self.deaths:
                self._buried(future)
        return self.work.failed(row, DIED)

    def _greet(self) -> None:
        """Raise ConfigError when a new worker can't do as little as answer."""
        for _ in range(TRIES):
            future = self._greeted()
            try:
                return future.result()
            except self.deaths:
                self._buried(future)
        raise ConfigError(
            "workers end as soon as they begin: a script that asks for workers needs"
            ' `if __name__ == "__main__":`, and memory must suffice for each to load the models'
        )

    def _sent(self, block: Block) -> Future[Made]:
        try:
            return self._running().submit(_treated, block)
        except BrokenProcessPool as error:  # told when it is asked for, and sent again then
            broken: Future[Made] = Future()
            broken.set_exception(error)
            return broken

    def _sent_alone(self, row: Block) -> Future[Made]:
        return self._sent(row)

    def _greeted(self) -> Future[None]:
        return self._running().submit(_ready)

    def _buried(self, future: Future[Any]) -> None:
        """Go on after the death of who had this work: all processes of a pool end with one."""
        self.close()

    def _running(self) -> ProcessPoolExecutor:
        if self._pool is None:
            threads = max(1, (os.cpu_count() or 1) // self.count)
            told = (self.told, {"OMP_NUM_THREADS": str(threads), **os.environ})
            self._pool = ProcessPoolExecutor(self.count, _context(), _begin, told)
        return self._pool


_work: Work | str = ""
"""In a worker: what it does, or why it can't."""


def _context() -> Any:
    """How processes are started: not as forks of this one, which can't go on with its threads."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["tersely.middleware.batch"])
    return context


def _begin(told: bytes, environment: Mapping[str, str]) -> None:
    """Make a process ready. Ctrl-C is for the one that started it, with which it ends."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    _work = opened(told)


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _ready() -> None:
    """Do nothing, which a worker can that began at all."""


def _treated(block: Block) -> Made:
    if isinstance(_work, str):
        raise ConfigError(_work)
    return _work(block)


def opened(told: bytes) -> Work | str:
    """The work that was sent to a process, or why it can't be done there."""
    try:
        work: Work = pickle.loads(told)
    except Exception as error:  # whatever it holds may refuse in its own way
        return f"a worker can't open the pipeline: {type(error).__name__}: {error}"
    return work
