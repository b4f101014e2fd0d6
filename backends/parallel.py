"""Several calls at once, at most so many at a time, in the order they were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from tersely.contracts import Completion, Request


def each(
    ask: Callable[[Request], Completion], requests: Sequence[Request], limit: int
) -> list[Completion]:
    """Ask for every request, in threads. The first failure is raised; what waits is dropped."""
    if len(requests) < 2:
        return [ask(request) for request in requests]
    with ThreadPoolExecutor(min(limit, len(requests))) as pool:
        futures = [pool.submit(copy_context().run, ask, request) for request in requests]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


async def aeach(
    ask: Callable[[Request], Awaitable[Completion]], requests: Sequence[Request], limit: int
) -> list[Completion]:
    """Ask for every request, in tasks. The first failure is raised; the others are cancelled."""
    free = asyncio.Semaphore(limit)

    async def one(request: Request) -> Completion:
        async with free:
            return await ask(request)

    tasks = [asyncio.ensure_future(one(request)) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
