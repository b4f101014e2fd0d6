"""What a caller gives to the engine, and how it hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

from tersely.backends.decode import Answer
from tersely.contracts import Chunk

Note = Chunk | Exception | None
"""A piece of a stream, a failure, or that all is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far the engine may go at once while a request is under way.

    `rows` answers are made together, prompts of `read` tokens are read together, padding included,
    and `held` tokens have their keys and values in memory (None: as many as there is room for).
    `kept` tokens of recent prompts stay there, to be gone on from.
    """

    rows: int
    read: int
    held: int | None
    kept: int


def tightest(limits: Sequence[Limits]) -> Limits:
    """What all of them allow."""
    held = [one.held for one in limits if one.held is not None]
    return Limits(
        rows=min(one.rows for one in limits),
        read=min(one.read for one in limits),
        held=min(held, default=None),
        kept=min(one.kept for one in limits),
    )


@dataclass(slots=True, eq=False)
class Ticket:
    """Answers for which one caller waits.

    `wanted`: it waits now. A caller who reads a stream does so from time to time only; `told`
    counts the notes that were sent to it, and `heard` those it took.
    """

    answers: Sequence[Answer]
    model: str
    limits: Limits
    send: Callable[[Note], None]
    streamed: bool = False
    wanted: bool = True
    told: int = 0
    heard: int = 0

    @property
    def dropped(self) -> bool:
        return any(answer.dropped for answer in self.answers)

    def drop(self) -> None:
        """Nobody waits any more."""
        for answer in self.answers:
            answer.dropped = True

    def tell(self) -> bool:
        """Send what is new; whether that was all."""
        ended = all(answer.finish for answer in self.answers)
        if self.streamed:
            (answer,) = self.answers
            if (fresh := answer.take_fresh()).text:
                self._send(fresh)
            if ended:
                self._send(answer.last(self.model))
        if ended:
            self._send(None)
        return ended

    def fail(self, error: Exception) -> None:
        """Give up, and tell why."""
        self.drop()
        self._send(error)

    def _send(self, note: Note) -> None:
        self.told += 1
        self.wanted = not self.streamed
        self.send(note)


class Letterbox:
    """Notes for a thread."""

    def __init__(self) -> None:
        self._notes: SimpleQueue[Note] = SimpleQueue()
        self.put = self._notes.put

    def take(self) -> Chunk | None:
        """Wait for the next note. Raises it when it is a failure."""
        return opened(self._notes.get())


class LoopLetterbox:
    """Notes for a task, in the event loop that runs where this is made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._notes: asyncio.Queue[Note] = asyncio.Queue()

    def put(self, note: Note) -> None:
        """Deliver from any thread; when the loop is gone, nobody waits."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._notes.put_nowait, note)

    async def take(self) -> Chunk | None:
        """Wait for the next note. Raises it when it is a failure."""
        return opened(await self._notes.get())


def opened(note: Note) -> Chunk | None:
    """A note; raised, when it is a failure."""
    if isinstance(note, Exception):
        raise note
    return note
