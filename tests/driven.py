"""Plans carried out both ways, sync and async, for tests of what holds of either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tersely.contracts import Chunk, Completion
from tersely.middleware.drive import adrive, astream, drive, stream

Drive = Callable[..., Completion]
Stream = Callable[..., Iterable[Chunk]]


def async_drive(*given: Any) -> Completion:
    return asyncio.run(adrive(*given))


def async_stream(*given: Any) -> list[Chunk]:
    async def heard() -> list[Chunk]:
        return [chunk async for chunk in astream(*given)]

    return asyncio.run(heard())


both = pytest.mark.parametrize("run", [drive, async_drive])
both_streams = pytest.mark.parametrize("run", [stream, async_stream])
