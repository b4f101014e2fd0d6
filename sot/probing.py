"""Measure an engine in two or three seconds: how it decodes, reads, shares and keeps streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from time import monotonic
from typing import Any
from uuid import uuid4

from tersely.contracts import Backend, Completion, Request
from tersely.errors import BackendError
from tersely.prompt import Prompt, Segment
from tersely.sot.profile import Profile, stored

Clock = Callable[[], float]
"""Seconds from any beginning."""

READERS = 4
"""Calls that come at once with the same beginning."""

BRANCHES = (READERS, 8)
"""How many are asked at once, besides one."""

FEWEST, MOST = 6, 32
"""Tokens of an answer that is timed."""

SHARE = 0.06
"""The part of the time that an answer of one branch may take; those of more take longer."""

LONG = 120
"""Words of a prompt whose reading is timed: some 150 tokens."""

LEAST = 40
"""Words of a beginning that calls have in common, at least."""

FEW = 12
"""Tokens of a short prompt, for engines that don't tell."""

COUNTING = "Count in words from {start} to 500:"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """One stream: when it began, when the first and the last piece came, and how it ended."""

    began: float
    first: float
    last: float
    pieces: int
    completion: Completion | None = None
    fault: str = ""

    @property
    def tokens(self) -> int:
        told = self.completion.completion_tokens if self.completion else 0
        return max(told or self.pieces, 1)

    @property
    def step(self) -> float:
        """Seconds a token; of an answer that came at once, all its time."""
        if self.last > self.first and self.tokens > 1:
            return (self.last - self.first) / (self.tokens - 1)
        return (self.last - self.began) / self.tokens


def measured(backend: Backend, *, again: bool = False, **options: Any) -> Profile:
    """The profile that was kept for a backend's endpoint and model, or a new one, which is kept.

    Raises as `probed` does, which takes the `options`.
    """
    known = None if again else stored(*named(backend))
    if known is None:
        known = probed(backend, **options)
        known.save()
    return known


async def ameasured(backend: Backend, *, again: bool = False, **options: Any) -> Profile:
    """As `measured`, without blocking."""
    known = None if again else stored(*named(backend))
    if known is None:
        known = await aprobed(backend, **options)
        known.save()
    return known


def probed(backend: Backend, **options: Any) -> Profile:
    """As `aprobed`, for a caller without an event loop; one runs in a thread of its own."""
    with ThreadPoolExecutor(1, thread_name_prefix="tersely-probe") as threads:
        return threads.submit(lambda: asyncio.run(aprobed(backend, **options))).result()


async def aprobed(
    backend: Backend, *, clock: Clock = monotonic, seconds: float = 2.5, limit: float = 30.0
) -> Profile:
    """Measure an engine, in about so many `seconds`, by some twenty small calls.

    Raises BackendError when it does not answer even one call, or takes longer than `limit`. That it
    can't answer several at once is no error but a fault that the profile tells of.
    """
    try:
        async with asyncio.timeout(limit):
            return await _Probe(backend, clock, seconds).profile()
    except TimeoutError as error:
        raise BackendError(f"measuring the engine took more than {limit:g} s") from error


def named(backend: Backend) -> tuple[str, str]:
    """The endpoint and the model that a backend speaks to, as far as it tells."""
    endpoint = getattr(backend, "base_url", "") or type(backend).__name__
    return str(endpoint), str(getattr(backend, "model", ""))


@dataclass(slots=True)
class _Probe:
    """One measurement of one engine."""

    backend: Backend
    clock: Clock
    seconds: float

    async def profile(self) -> Profile:
        await self._alone(_long("", 1), 1)  # wakes the engine
        short = await self._alone(_counting(0), FEWEST)
        tokens = int(min(max(SHARE * self.seconds / max(short.step, 1e-9), FEWEST), MOST))
        one = await self._alone(_counting(1), tokens)
        steps = {1: max(min(one.step, short.step), 1e-9)}
        prefill, fixed = await self._reading(steps[1])
        fault, shared = "", 0.0
        for branches in BRANCHES:
            heard = await self._together([_counting(i) for i in range(branches)], tokens)
            fault = next((one.fault for one in heard if one.fault), "")
            if fault:
                break
            steps[branches] = max(_joint(heard, prefill), 1e-9)
        else:
            shared, fault = await self._sharing(prefill, fixed + steps[1])
        endpoint, model = named(self.backend)
        return Profile(
            endpoint=endpoint,
            model=model,
            steps=steps,
            prefill=prefill,
            fixed=fixed,
            shared=shared,
            fault=fault,
        )

    async def _reading(self, step: float) -> tuple[float, float]:
        """Seconds a token of a prompt, and what a call takes besides."""
        short = await self._alone(_counting(2), 1)
        long = await self._alone(_long(uuid4().hex, LONG), 1)
        waited, before = long.last - long.began, short.last - short.began
        more = _read(long, LONG) - _read(short, FEW)
        prefill = max(waited - before, 0.0) / max(more, 1)
        return prefill, max(before - prefill * _read(short, FEW) - step, 0.0)

    async def _sharing(self, prefill: float, besides: float) -> tuple[float, str]:
        """How much of a common beginning is read once only, and what went wrong."""
        start = uuid4().hex
        words = int(SHARE * self.seconds / max(READERS * prefill, 1e-9))
        words = min(max(words, LEAST), LONG)
        prompts = [_long(start, words) + f" {i}" for i in range(READERS)]
        heard = await self._together(prompts, 1)
        if fault := next((one.fault for one in heard if one.fault), ""):
            return 0.0, fault
        took = max(one.last for one in heard) - min(one.began for one in heard) - besides
        once = median(_read(one, words) for one in heard) * prefill
        if once <= 0:
            return 1.0, ""  # reading costs nothing that could be saved
        return min(max((READERS * once - took) / ((READERS - 1) * once), 0.0), 1.0), ""

    async def _alone(self, prompt: str, tokens: int) -> _Heard:
        """One stream by itself. Raises BackendError when it fails."""
        (heard,) = await self._together([prompt], tokens)
        if heard.fault:
            raise BackendError(f"the engine could not be measured: {heard.fault}")
        return heard

    async def _together(self, prompts: Sequence[str], tokens: int) -> list[_Heard]:
        """Streams side by side; what one raises is its fault."""
        return [*await asyncio.gather(*(self._stream(_asked(one, tokens)) for one in prompts))]

    async def _stream(self, request: Request) -> _Heard:
        began = self.clock()
        first = last = 0.0
        pieces, completion, fault = 0, None, ""
        chunks = self.backend.astream(request)
        try:
            async for chunk in chunks:
                last = self.clock()
                if chunk.text:
                    first, pieces = first or last, pieces + 1
                completion = chunk.completion or completion
        except Exception as error:
            fault = str(error) or type(error).__name__
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()
        if not fault and (completion is None or completion.finish_reason == "cancelled"):
            fault = "a stream ended before its answer was done"
        last = last or self.clock()
        return _Heard(
            began=began,
            first=first or last,
            last=last,
            pieces=pieces,
            completion=completion,
            fault=fault,
        )


def _joint(heard: Sequence[_Heard], prefill: float) -> float:
    """Seconds for one token in each of several branches: from the first piece to the last.

    Where the calls wait for one another, each is fast and all together are not. What was read after
    the first piece came does not count.
    """
    start, end = min(one.first for one in heard), max(one.last for one in heard)
    if all(one.first == one.last for one in heard):  # nothing was streamed
        start = min(one.began for one in heard)
    read = sum(_read(one, FEW) for one in heard[1:]) * prefill
    longest = max(max(one.tokens for one in heard) - 1, 1)
    return max(max(end - start - read, 0.0) / longest, median(one.step for one in heard))


def _read(heard: _Heard, otherwise: int) -> int:
    """The tokens of its prompt, as the engine counts them."""
    told = heard.completion.prompt_tokens if heard.completion else 0
    return told or otherwise


def _asked(text: str, tokens: int) -> Request:
    segment = Segment(text=text, kind="question", path=(0,))
    return Request(prompt=Prompt((segment,), question=text, turns=1), max_tokens=tokens)


def _counting(start: int) -> str:
    """A question whose answer is longer than is waited for; each begins otherwise."""
    return COUNTING.format(start=20 + 7 * start)


def _long(start: str, words: int) -> str:
    """A text that no engine has read before, if its start is new."""
    return f"{start} Repeat these words: {' '.join('river stone' for _ in range(words // 2))}"
