"""Wrapped clients in threads and tasks: calls side by side don't touch each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from first_words import LONG, SHORT, FirstWords, first_words, shortened
from loopback import Loopback
from openai_calls import CHAT, ask, mode

import tersely
from tersely.contracts import Context
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt

openai = pytest.importorskip("openai")


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    with openai.OpenAI(api_key="key", base_url=server.url, max_retries=2) as made:
        yield made


class Patient(FirstWords):
    """A stage that takes as long as a test wants."""

    name: ClassVar[str] = "patient"
    go: ClassVar[threading.Event] = threading.Event()
    began: ClassVar[threading.Event] = threading.Event()

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        self.began.set()
        assert self.go.wait(10), "the event loop was blocked"
        return super().__call__(prompt, context)


def test_threads(server: Loopback, client: Any) -> None:
    wrapped = tersely.wrap(client, first_words())

    def one(name: str) -> str:
        with tersely.override(mode=name):
            ask(wrapped)
            return mode()

    names = ["off", "audit", "optimize"] * 4
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, names)) == names
    assert sum(SHORT in str(b) and LONG not in str(b) for b in server.bodies) == 4


async def test_tasks(server: Loopback) -> None:
    async with openai.AsyncOpenAI(api_key="key", base_url=server.url) as client:
        wrapped = tersely.wrap(client, first_words())

        async def one(name: str) -> str:
            with tersely.override(mode=name):
                await wrapped.chat.completions.create(**CHAT)
                await asyncio.sleep(0)
                return mode()

        names = ["off", "audit", "optimize"] * 4
        assert await asyncio.gather(*map(one, names)) == names
    assert sum(SHORT in str(b) and LONG not in str(b) for b in server.bodies) == 4


async def test_the_event_loop_goes_on_while_a_stage_works(server: Loopback) -> None:
    Patient.go.clear()
    Patient.began.clear()
    async with openai.AsyncOpenAI(api_key="key", base_url=server.url) as client:
        wrapped = tersely.wrap(client, Pipeline(Patient()))
        call = asyncio.create_task(wrapped.chat.completions.create(**CHAT))
        while not Patient.began.is_set():
            await asyncio.sleep(0.001)
        Patient.go.set()
        await call
    assert server.take()[0].body == shortened(CHAT)


async def test_cancelled_while_a_stage_works(server: Loopback) -> None:
    Patient.go.clear()
    Patient.began.clear()
    async with openai.AsyncOpenAI(api_key="key", base_url=server.url) as client:
        wrapped = tersely.wrap(client, Pipeline(Patient()))
        call = asyncio.create_task(wrapped.chat.completions.create(**CHAT))
        while not Patient.began.is_set():
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert server.seen == []
        Patient.go.set()
        await wrapped.chat.completions.create(**CHAT)
    assert server.take()[0].body == shortened(CHAT)
