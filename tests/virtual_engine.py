"""Engines that take the time real ones were measured to take, on a clock of their own."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import BackendError

T = TypeVar("T")


class _NoWaiting(selectors.SelectSelector):
    """Lets the time pass at once whenever everybody waits for it."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.passed += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _NoWaiting()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.passed


def on_virtual_time(work: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work(runner.get_loop().time))


@dataclass
class VirtualEngine:
    """One batch that decodes together; prompts are read one after another.

    `steps` are seconds of one step by branches; a prompt's words take `prefill` seconds each, but
    for the beginning that it has in common with one read before, where the engine `shares` it.
    `kind` is what becomes of a stream when another begins: kept, cut, or made to wait.
    """

    steps: Mapping[int, float]
    prefill: float
    shares: bool = True
    kind: str = "kept"
    base_url: str = "http://engine/v1"
    model: str = "small"
    capabilities: frozenset[Capability] = frozenset({"stream", "parallel"})
    asked: int = 0
    _active: int = 0
    _newest: int = 0
    _seen: list[list[str]] = field(default_factory=list)
    _reader: asyncio.Lock = field(default_factory=asyncio.Lock)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        raise NotImplementedError

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        raise NotImplementedError

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        raise NotImplementedError

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        self.asked += 1
        self._newest = mine = self.asked
        if self.kind == "waits":
            async with self._turn:
                async for chunk in self._answer(request, mine):
                    yield chunk
        else:
            async for chunk in self._answer(request, mine):
                yield chunk

    async def _answer(self, request: Request, mine: int) -> AsyncIterator[Chunk]:
        words = request.prompt.text.split()
        async with self._reader:
            known = max((_common(words, one) for one in self._seen), default=0)
            self._seen.append(words)
            await asyncio.sleep((len(words) - known * self.shares) * self.prefill)
        self._active += 1
        try:
            for i in range(request.max_tokens):
                await asyncio.sleep(self._step())
                if self.kind == "cut" and self._newest != mine:
                    raise BackendError("the stream broke off")
                yield Chunk(text=f"{i} ")
        finally:
            self._active -= 1
        made = Completion(text="", prompt_tokens=len(words), completion_tokens=request.max_tokens)
        yield Chunk(text="", completion=made)

    def _step(self) -> float:
        known = list(self.steps)
        return float(np.interp(self._active, known, [self.steps[one] for one in known]))


def _common(left: list[str], right: list[str]) -> int:
    same = [a == b for a, b in zip(left, right, strict=False)]
    return same.index(False) if False in same else len(same)


def vllm() -> VirtualEngine:
    return VirtualEngine(steps={1: 0.0275, 4: 0.0316, 8: 0.0415, 16: 0.048}, prefill=1 / 1000)


def llama_cpp(form: str = "Q4_1") -> VirtualEngine:
    curves = {
        "Q4_1": ({1: 0.009, 2: 0.022, 4: 0.0357, 6: 0.0536, 8: 0.0593}, 222),
        "Q4_0": ({1: 0.0066, 2: 0.0145, 4: 0.0211, 6: 0.0341, 8: 0.0307}, 970),
    }
    steps, speed = curves[form]
    return VirtualEngine(steps=steps, prefill=1 / speed, shares=False)


def llama_cpp_python(kind: str = "cut") -> VirtualEngine:
    return VirtualEngine(steps={1: 0.009, 8: 0.0593}, prefill=1 / 222, shares=False, kind=kind)
