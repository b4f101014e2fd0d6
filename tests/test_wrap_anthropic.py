"""Wrapped Anthropic clients: every way to call sends the compressed body, once for each attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import isawaitable
from typing import Any
from uuid import uuid4

import pytest
from first_words import (
    ANTHROPIC_MESSAGES,
    LONG,
    PERSON,
    SHORT,
    TOOL_SCHEMA,
    Person,
    first_words,
    shortened,
)
from loopback import Loopback

import tersely

anthropic = pytest.importorskip("anthropic")

ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": ANTHROPIC_MESSAGES}
TOOL = {"name": "look", "input_schema": TOOL_SCHEMA}


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    with anthropic.Anthropic(api_key="key", base_url=server.url, max_retries=2) as made:
        yield made


@pytest.fixture
async def aclient(server: Loopback) -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(api_key="key", base_url=server.url) as made:
        yield made


def text_of(message: Any) -> str:
    return str(message.content[0].text)


def text_of_events(events: Any) -> str:
    deltas = (event.delta for event in events if event.type == "content_block_delta")
    return "".join(delta.text for delta in deltas)


def stream_helper(messages: Any) -> str:
    with messages.stream(**ASK) as stream:
        return "".join(stream.text_stream)


def streamed_raw(client: Any) -> str:
    with client.messages.with_streaming_response.create(**ASK) as response:
        return text_of(response.parse())


CALLS: dict[str, Callable[[Any], Any]] = {
    "create": lambda c: text_of(c.messages.create(**ASK)),
    "system": lambda c: text_of(c.messages.create(**ASK, system="Be brief.")),
    "stream": lambda c: text_of_events(c.messages.create(**ASK, stream=True)),
    "stream helper": lambda c: stream_helper(c.messages),
    "raw": lambda c: text_of(c.messages.with_raw_response.create(**ASK).parse()),
    "streamed raw": streamed_raw,
    "beta": lambda c: text_of(c.beta.messages.create(**ASK, betas=["some-beta"])),
    "with_options": lambda c: text_of(c.with_options(timeout=9).messages.create(**ASK)),
    "copy of copy": lambda c: text_of(c.copy().copy().messages.create(**ASK)),
    "extra_body": lambda c: text_of(c.messages.create(**ASK, extra_body={"new": {"a": 1}})),
    "post": lambda c: c.post("/v1/messages", body=dict(ASK), cast_to=object)["content"][0]["text"],
}


@pytest.mark.parametrize("name", CALLS)
def test_messages(server: Loopback, client: Any, name: str) -> None:
    call = CALLS[name]
    plainly = call(client)
    (plain,) = server.take()
    with tersely.session(uuid4().hex) as session:
        assert call(tersely.wrap(client, first_words())) == plainly == "an answer"
    (sent,) = server.take()
    assert LONG in str(plain.body) and SHORT in str(sent.body)
    assert sent.body == shortened(plain.body)
    assert list(sent.body) == list(plain.body)
    assert sent.path == plain.path
    names = ("content-length", "idempotency-key")
    assert {k: v for k, v in sent.headers.items() if k not in names} == {
        k: v for k, v in plain.headers.items() if k not in names
    }
    assert session.requests == 1


def test_parse(server: Loopback, client: Any) -> None:
    if not hasattr(client.messages, "parse"):
        pytest.skip("this anthropic does not parse")
    server.answer = PERSON
    answer = tersely.wrap(client, first_words()).messages.parse(**ASK, output_format=Person)
    assert answer.parsed_output == Person(name="Ada")
    assert server.take()[0].body["messages"] == shortened(ANTHROPIC_MESSAGES)


def test_tools_and_the_answer_to_them(server: Loopback, client: Any) -> None:
    wrapped = tersely.wrap(client, first_words())
    asked: Any = [{"role": "user", "content": "What is the weather?"}]
    answer = wrapped.messages.create(model="m", max_tokens=9, messages=asked, tools=[TOOL])
    (use,) = answer.content
    result = {"type": "tool_result", "tool_use_id": use.id, "content": LONG}
    # the SDK's own blocks go back in, as people do
    asked += [
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    wrapped.messages.create(model="m", max_tokens=9, messages=asked, tools=[TOOL])
    body = server.take()[-1].body
    assert body["messages"][1]["content"][0]["id"] == use.id
    assert body["messages"][2]["content"][0]["content"] == SHORT
    assert body["tools"] == [TOOL]


def test_messages_from_a_generator(server: Loopback, client: Any) -> None:
    server.faults.append(500)
    wrapped = tersely.wrap(client, first_words())
    messages = (message for message in ANTHROPIC_MESSAGES)
    wrapped.messages.create(model="m", max_tokens=9, messages=messages)
    assert [body["messages"] for body in server.bodies] == [shortened(ANTHROPIC_MESSAGES)] * 2


@pytest.mark.parametrize("statuses", [(500,), (429,), (529, 429)])
def test_retries_send_the_same_bytes_and_compress_once(
    server: Loopback, client: Any, statuses: tuple[int, ...]
) -> None:
    server.faults.extend(statuses)
    with tersely.session(uuid4().hex) as session:
        tersely.wrap(client, first_words()).messages.create(
            **ASK, extra_body={"tersely": {"question": "the weather"}}
        )
    seen = server.take()
    assert len(seen) == len(statuses) + 1
    assert len({one.raw for one in seen}) == 1
    assert seen[0].body == shortened(ASK)
    assert session.requests == 1


def test_other_requests_are_left_alone(server: Loopback, client: Any) -> None:
    wrapped = tersely.wrap(client, first_words())
    counted = {key: ASK[key] for key in ("model", "messages")}
    messages = wrapped.messages if hasattr(wrapped.messages, "batches") else wrapped.beta.messages
    assert messages.count_tokens(**counted).input_tokens == 3
    messages.batches.create(requests=[{"custom_id": "1", "params": ASK}])
    counting, batch = server.bodies
    assert counting == counted
    assert batch == {"requests": [{"custom_id": "1", "params": ASK}]}


def test_the_type_and_the_client_stay(server: Loopback, client: Any, aclient: Any) -> None:
    for plain in (client, aclient):
        before = dict(vars(plain))
        wrapped = tersely.wrap(plain, first_words())
        assert vars(plain) == before and type(plain).__name__ == type(wrapped).__name__
        for one in (wrapped, wrapped.copy(), wrapped.with_options(max_retries=7)):
            assert isinstance(one, type(plain))
            assert one._client is plain._client
            assert one.user_agent == plain.user_agent
        assert wrapped.with_options(max_retries=7).max_retries == 7
    client.messages.create(**ASK)
    assert server.take()[0].body == ASK


def test_vertex(server: Loopback) -> None:
    with anthropic.AnthropicVertex(
        region="r", project_id="p", access_token="t", base_url=server.url
    ) as client:
        wrapped = tersely.wrap(client, first_words())
        assert isinstance(wrapped, anthropic.AnthropicVertex)
        wrapped.messages.create(**ASK)
    (sent,) = server.take()
    assert sent.path.endswith("claude-x:rawPredict")
    assert sent.body["messages"] == shortened(ANTHROPIC_MESSAGES)


def test_middleware_sees_the_prompt_and_loses_nothing(server: Loopback, client: Any) -> None:
    if not hasattr(client, "with_middleware"):
        pytest.skip("this anthropic has no middleware")
    seen: list[Any] = []

    def watch(request: Any, call_next: Any) -> Any:
        seen.append(request.options.json_data["messages"])
        return call_next(request)

    server.faults.append(500)
    with tersely.session(uuid4().hex) as session:
        wrapped = tersely.wrap(client, first_words()).with_middleware(watch)
        assert text_of(wrapped.messages.create(**ASK)) == "an answer"
    wrapped.with_options(middleware=[]).messages.create(**ASK)
    assert seen == [ANTHROPIC_MESSAGES] * 2
    assert server.bodies == [shortened(ASK)] * 3
    assert session.requests == 1


class TestAsync:
    async def test_create(self, server: Loopback, aclient: Any) -> None:
        wrapped = tersely.wrap(aclient, first_words())
        assert text_of(await wrapped.messages.create(**ASK)) == "an answer"
        assert server.take()[0].body == shortened(ASK)
        report = tersely.last_report()
        assert report is not None and report.surface == "anthropic" and report.saved > 0

    async def test_streams(self, server: Loopback, aclient: Any) -> None:
        wrapped = tersely.wrap(aclient, first_words())
        stream = await wrapped.messages.create(**ASK, stream=True)
        assert text_of_events([event async for event in stream]) == "an answer"
        async with wrapped.messages.stream(**ASK) as helper:
            assert await helper.get_final_text() == "an answer"
        assert server.bodies == [shortened({**ASK, "stream": True})] * 2

    async def test_raw_beta_and_options(self, server: Loopback, aclient: Any) -> None:
        wrapped = tersely.wrap(aclient, first_words())
        parsed = (await wrapped.messages.with_raw_response.create(**ASK)).parse()
        assert text_of(await parsed if isawaitable(parsed) else parsed)  # by the SDK's age
        async with wrapped.messages.with_streaming_response.create(**ASK) as response:
            assert text_of(await response.parse())
        assert text_of(await wrapped.beta.messages.create(**ASK))
        assert text_of(await wrapped.with_options(timeout=9).messages.create(**ASK))
        assert server.bodies == [shortened(ASK)] * 4

    async def test_retries(self, server: Loopback, aclient: Any) -> None:
        server.faults.extend((500, 429))
        with tersely.session(uuid4().hex) as session:
            await tersely.wrap(aclient, first_words()).messages.create(**ASK)
        seen = server.take()
        assert len(seen) == 3 and len({one.raw for one in seen}) == 1
        assert seen[0].body == shortened(ASK)
        assert session.requests == 1

    async def test_cancel(self, server: Loopback, aclient: Any) -> None:
        wrapped = tersely.wrap(aclient, first_words())
        server.gate.clear()
        call = asyncio.create_task(wrapped.messages.create(**ASK))
        while not server.seen:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        server.gate.set()
        assert text_of(await wrapped.messages.create(**ASK)) == "an answer"
        assert server.bodies == [shortened(ASK)] * 2
