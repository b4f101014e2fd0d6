"""One engine for each model: whatever is asked of it at the same time is answered together."""

from __future__ import annotations

import atexit
import os
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from threading import Condition, Lock, Thread
from typing import Protocol

from tersely.backends.batch import Batch
from tersely.backends.decode import Answer
from tersely.backends.ticket import Limits, Ticket, tightest
from tersely.errors import BackendError
from tersely.weights import CausalLM

IDLE = 10.0
"""After so many seconds without work the thread ends; the next request starts another one."""

SHORT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class Making(Protocol):
    """Answers under way, as an engine drives them: all of it from one thread at a time."""

    @property
    def answers(self) -> Sequence[Answer]: ...
    @property
    def room(self) -> int:
        """How many tokens' keys and values can be held."""
        ...

    def fits(self, entering: Sequence[Answer], limits: Limits) -> bool:
        """Whether the last of these may enter, with those before it and those under way."""
        ...

    def enter(self, answers: Sequence[Answer], /) -> None:
        """Read prompts and make their first tokens. When it raises, none of them has entered."""
        ...

    def step(self) -> None:
        """Make the next token of every answer."""
        ...

    def leave(self) -> None:
        """Let go of the answers that are finished or dropped."""
        ...

    def forget(self, upto: int, /) -> None:
        """Remember so many tokens of what was read, at most."""
        ...


class Engine:
    """Makes answers in a thread of its own, one token for each of them in every step.

    Between two tokens finished answers leave and waiting ones enter, in the order in which they
    were asked for. It makes no token that nobody waits for: where all callers read their streams
    slowly, it waits. Continuous batching: Yu et al. 2022,
    https://www.usenix.org/conference/osdi22/presentation/yu
    """

    def __init__(self, batch: Making) -> None:
        self._changed = Condition()
        self._tickets: list[Ticket] = []
        self._waiting: deque[Answer] = deque()
        self._worker: Thread | None = None
        self._stopped = False
        self._batch = batch

    @property
    def batch(self) -> Making:
        """The answers under way; the engine's thread works on them."""
        return self._batch

    def submit(self, ticket: Ticket) -> None:
        """Begin to answer. Raises BackendError when a request is too big for the memory."""
        check(ticket.answers, ticket.limits.held or self._batch.room)
        with self._changed:
            if self._stopped:
                raise BackendError("the local model was stopped")
            self._tickets.append(ticket)
            self._waiting.extend(sorted(ticket.answers, key=lambda answer: len(answer.prompt)))
            if self._worker is None:
                self._worker = Thread(target=self._run, name="tersely-engine", daemon=True)
                self._worker.start()
            self._changed.notify_all()

    def want(self, ticket: Ticket) -> None:
        """Go on with a stream, unless there are pieces that were not heard yet."""
        with self._changed:
            ticket.wanted = ticket.told == ticket.heard
            self._changed.notify_all()

    def cancel(self, ticket: Ticket) -> None:
        """Let go of a ticket; its answers leave at the next token."""
        with self._changed:
            ticket.drop()
            self._changed.notify_all()

    def stop(self) -> None:
        """End the thread at the next token. Raises BackendError where somebody waits."""
        with self._changed:
            self._stopped = True
            worker = self._worker
            self._changed.notify_all()
        if worker is not None:
            worker.join()

    def _run(self) -> None:
        while self._has_work():
            self._turn()
        with self._changed:
            for ticket in self._tickets if self._stopped else ():  # else another thread has them
                ticket.fail(BackendError("the local model was stopped"))

    def _has_work(self) -> bool:
        """Wait until there is something to do. False when it is time to end."""

        def due() -> bool:
            tickets = self._tickets
            return self._stopped or any(one.wanted or one.dropped for one in tickets)

        with self._changed:
            while not self._changed.wait_for(due, IDLE):
                if not self._tickets:
                    self._worker = None
                    return False
            return not self._stopped

    def _turn(self) -> None:
        """Read what may enter, else make one token more of every answer."""
        with self._changed:
            self._tickets = [ticket for ticket in self._tickets if not ticket.dropped]
            self._waiting = deque(answer for answer in self._waiting if answer.going)
            limits = [ticket.limits for ticket in self._tickets]
        self._batch.leave()
        if not limits:
            return
        tight = tightest(limits)
        entering = self._entering(tight)
        under_way = entering or list(self._batch.answers)
        try:
            if entering:
                self._batch.enter(entering)
            elif under_way:
                self._batch.step()
        except Exception as error:
            self._fail(under_way, error)
        self._batch.forget(tight.kept)
        self._tell()

    def _entering(self, limits: Limits) -> list[Answer]:
        """Take from those that wait as many as the limits allow, first come first served."""
        entering: list[Answer] = []
        with self._changed:
            while self._waiting and self._batch.fits([*entering, self._waiting[0]], limits):
                entering.append(self._waiting.popleft())
        return entering

    def _tell(self) -> None:
        with self._changed:
            self._tickets = [one for one in self._tickets if not one.dropped and not one.tell()]

    def _fail(self, answers: Sequence[Answer], error: Exception) -> None:
        """Tell all who wait for these answers, each by an error of its own."""
        failed = set(answers)
        with self._changed:
            for ticket in self._tickets:
                if failed & set(ticket.answers):
                    ticket.fail(told(error))
        self._batch.leave()
        if short_of_memory(error):
            self._batch.forget(0)


def check(answers: Sequence[Answer], room: int) -> None:
    """Raise BackendError when one of them is too big to be made at all."""
    for answer in answers:
        if answer.size > room:
            raise BackendError(
                f"{len(answer.prompt)} prompt tokens and max_tokens={answer.request.max_tokens} are"
                f" more than the {room} tokens that there is memory for; shorten the prompt, lower"
                " max_tokens or raise kv_tokens"
            )


def told(error: Exception) -> Exception:
    """What a caller is told of a failure in the model."""
    if not isinstance(error, RuntimeError):  # torch has no narrower one
        return error
    message = f"the local model failed: {error}"
    if not short_of_memory(error):
        found = BackendError(message)
    else:
        mend = "; lower kv_tokens, batch_size or batch_tokens"
        found = BackendError(message + mend, retryable=True)
    found.__cause__ = error
    return found


def short_of_memory(error: Exception) -> bool:
    """Whether torch ran out of memory, on a GPU or a CPU."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SHORT_OF_MEMORY)


_engines: dict[Hashable, Engine] = {}
_making = [Lock()]


def engine(lm: CausalLM) -> Engine:
    """The engine of a model: one for all who use it in this process."""
    return engine_of(lm, lambda: Batch(lm))


def engine_of(key: Hashable, batch: Callable[[], Making]) -> Engine:
    """The engine under a key; where there is none yet, one that drives this batch."""
    if (known := _engines.get(key)) is not None:
        return known
    with _making[0]:
        return _engines.get(key) or _engines.setdefault(key, Engine(batch()))


def dismiss(key: Hashable) -> Engine | None:
    """Stop the engine under a key, if there is one; the next who asks for it gets another one."""
    if (running := _engines.pop(key, None)) is not None:
        running.stop()
    return running


def _forget() -> None:
    """Threads and locks stay with the parent of a fork."""
    _engines.clear()
    _making[0] = Lock()


def _stop_all() -> None:
    for running in list(_engines.values()):
        running.stop()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
