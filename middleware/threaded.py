"""What blocks, for who must not: an iterator in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


async def threaded(make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
    """What an iterator that blocks gives, one by one; it runs in a thread of its own.

    When nobody wants more, it is closed at what it gives next: a call can't be waked.
    """
    loop = asyncio.get_running_loop()
    coming: asyncio.Queue[tuple[T] | BaseException | None] = asyncio.Queue()
    gone = threading.Event()

    def put(what: tuple[T] | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(coming.put_nowait, what)

    def work() -> None:
        items = make()
        try:
            for item in items:
                if gone.is_set():
                    break
                put((item,))
            put(None)
        except BaseException as error:
            put(error)
        finally:
            getattr(items, "close", lambda: None)()

    name, context = "tersely-call", copy_context()
    threading.Thread(target=context.run, args=(work,), daemon=True, name=name).start()
    try:
        while (what := await coming.get()) is not None:
            if isinstance(what, BaseException):
                raise what
            yield what[0]
    finally:
        gone.set()
