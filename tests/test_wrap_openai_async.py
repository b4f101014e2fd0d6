"""Wrapped async OpenAI clients: every way to call sends the compressed body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from first_words import CHAT_MESSAGES, PERSON, RESPONSES_INPUT, Person, first_words, shortened
from loopback import Loopback
from openai_calls import CHAT, RESPONSE, parsing, text_of, text_of_chunks

import tersely

openai = pytest.importorskip("openai")


@pytest.fixture
async def aclient(server: Loopback) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(api_key="key", base_url=f"{server.url}/v1", max_retries=2) as one:
        yield one


async def test_create(server: Loopback, aclient: Any) -> None:
    wrapped = tersely.wrap(aclient, first_words())
    answer = await wrapped.chat.completions.create(**CHAT)
    assert text_of(answer) == "an answer"
    assert server.take()[0].body == shortened(CHAT)
    report = tersely.last_report()
    assert report is not None and report.surface == "openai-chat" and report.saved > 0


async def test_stream(server: Loopback, aclient: Any) -> None:
    wrapped = tersely.wrap(aclient, first_words())
    stream = await wrapped.chat.completions.create(**CHAT, stream=True)
    assert text_of_chunks([chunk async for chunk in stream]) == "an answer"
    assert server.take()[0].body == shortened({**CHAT, "stream": True})


async def test_stream_helper(server: Loopback, aclient: Any) -> None:
    async with parsing(tersely.wrap(aclient, first_words()), "stream")(**CHAT) as stream:
        assert text_of(await stream.get_final_completion()) == "an answer"
    (sent,) = server.take()
    assert sent.body["messages"] == shortened(CHAT_MESSAGES)


async def test_raw(server: Loopback, aclient: Any) -> None:
    wrapped = tersely.wrap(aclient, first_words())
    assert text_of((await wrapped.chat.completions.with_raw_response.create(**CHAT)).parse())
    async with wrapped.chat.completions.with_streaming_response.create(**CHAT) as response:
        assert text_of(await response.parse())
    assert server.bodies == [shortened(CHAT)] * 2


async def test_parse(server: Loopback, aclient: Any) -> None:
    server.answer = PERSON
    parse = parsing(tersely.wrap(aclient, first_words()), "parse")
    answer = await parse(**CHAT, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada")
    assert server.take()[0].body["messages"] == shortened(CHAT_MESSAGES)


async def test_responses(server: Loopback, aclient: Any) -> None:
    if not hasattr(aclient, "responses"):
        pytest.skip("this openai has no responses")
    wrapped = tersely.wrap(aclient, first_words())
    assert (await wrapped.responses.create(**RESPONSE)).output_text == "an answer"
    stream = await wrapped.responses.create(**RESPONSE, stream=True)
    assert [event async for event in stream][-1].type == "response.completed"
    assert [body["input"] for body in server.bodies] == [shortened(RESPONSES_INPUT)] * 2


async def test_with_options_and_azure(server: Loopback, aclient: Any) -> None:
    wrapped = tersely.wrap(aclient, first_words()).with_options(timeout=9)
    await wrapped.chat.completions.create(**CHAT)
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=server.url, api_key="key", api_version="2024-10-21"
    ) as azure:
        await tersely.wrap(azure, first_words()).chat.completions.create(**CHAT)
    assert server.bodies == [shortened(CHAT)] * 2


async def test_retries(server: Loopback, aclient: Any) -> None:
    server.faults.extend((500, 429))
    with tersely.session(uuid4().hex) as session:
        await tersely.wrap(aclient, first_words()).chat.completions.create(**CHAT)
    seen = server.take()
    assert len(seen) == 3 and len({one.raw for one in seen}) == 1
    assert seen[0].body == shortened(CHAT)
    assert session.requests == 1


async def test_cancel(server: Loopback, aclient: Any) -> None:
    wrapped = tersely.wrap(aclient, first_words())
    server.gate.clear()
    call = asyncio.create_task(wrapped.chat.completions.create(**CHAT))
    while not server.seen:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    server.gate.set()
    assert text_of(await wrapped.chat.completions.create(**CHAT)) == "an answer"
    assert server.bodies == [shortened(CHAT)] * 2
