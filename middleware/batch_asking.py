"""Who answers the rows of a batch job, and the thread in which they are asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from tersely.contracts import Backend, Completion, Request
from tersely.middleware.batch_answers import Kept, Key
from tersely.middleware.batch_soft import SoftWishes
from tersely.middleware.settings import Settings
from tersely.prompt import Prompt

Ask = Callable[[Key, Sequence[Request]], "Future[list[Completion]]"]
"""Sends what a row asks."""


class Generation(Settings):
    """Who answers the rows of a job, and how they are asked.

    Rows that say nothing of it themselves have answers of `max_tokens` tokens at most, drawn at
    `temperature`. `at_once` requests are under way at most; how often a failed one is asked again
    is the backend's affair. With `soft`, a folder, what many rows begin with is learned once where
    that pays, by the model itself, and stands there as a soft prompt (see `SoftWishes`).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    called = "generate"
    alone = "backend"

    backend: Backend
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    at_once: int = Field(default=16, ge=1)
    soft: Annotated[SoftWishes | None, BeforeValidator(SoftWishes.of)] = None

    @property
    def known(self) -> str:
        """What the answers of a job depend on: it must stay the same from run to run."""
        asked = (type(self.backend).__name__, *map(self._told, ("model", "base_url")))
        soft = () if self.soft is None else (self.soft.unfit,)
        return repr((*asked, self.max_tokens, self.temperature, *soft))

    @property
    def model(self) -> str:
        """Who answers, as the backend names its model."""
        return self._told("model")

    @property
    def like(self) -> Request:
        """What a request is that says nothing itself."""
        return Request(prompt=Prompt(()), max_tokens=self.max_tokens, temperature=self.temperature)

    @property
    def together(self) -> int:
        """How many requests are under way at once."""
        return self.at_once if "parallel" in self.backend.capabilities else 1

    def _told(self, name: str) -> str:
        return str(getattr(self.backend, name, ""))


@contextmanager
def asking(generation: Generation, kept: Kept) -> Iterator[Ask]:
    """What sends requests: they are answered in a thread of its own, so many at once.

    Whatever is under way in the end is broken off.
    """
    made: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def until_the_end() -> None:
        end = asyncio.Event()
        made.set_result((asyncio.get_running_loop(), end))
        await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(until_the_end()), daemon=True)
    thread.start()
    loop, end = made.result()
    free = asyncio.Semaphore(generation.together)

    async def answered(key: Key, requests: Sequence[Request]) -> list[Completion]:
        async with free:
            done = await generation.backend.acomplete(requests)
        kept.add(key, done)
        return done

    def ask(key: Key, requests: Sequence[Request]) -> Future[list[Completion]]:
        if key not in kept.known:
            return asyncio.run_coroutine_threadsafe(answered(key, requests), loop)
        known: Future[list[Completion]] = Future()
        known.set_result(kept.known.pop(key))
        return known

    with kept:
        try:
            yield ask
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join()
