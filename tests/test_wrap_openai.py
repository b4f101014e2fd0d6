"""Wrapped OpenAI clients: every way to call sends the compressed body, once for each attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from first_words import (
    CHAT_MESSAGES,
    LONG,
    PERSON,
    SHORT,
    TOOL_SCHEMA,
    Person,
    first_words,
    shortened,
)
from loopback import Loopback
from openai_calls import CHAT, RESPONSE, parsing, text_of, text_of_chunks

import tersely

openai = pytest.importorskip("openai")

TOOL = {"type": "function", "function": {"name": "look", "parameters": TOOL_SCHEMA}}
FLAT_TOOL = {"type": "function", "name": "look", "parameters": TOOL_SCHEMA, "strict": False}
ASK = {"role": "user", "content": "And in Bern?"}


@pytest.fixture
def client(server: Loopback) -> Iterator[Any]:
    with openai.OpenAI(api_key="key", base_url=f"{server.url}/v1", max_retries=2) as made:
        yield made


def raw_create(client: Any) -> Any:
    return client.chat.completions.with_raw_response.create(**CHAT).parse()


def streamed_raw(client: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(**CHAT) as response:
        return response.parse()


def stream_helper(client: Any) -> Any:
    with parsing(client, "stream")(**CHAT) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion()


CALLS: dict[str, Callable[[Any], Any]] = {
    "create": lambda c: text_of(c.chat.completions.create(**CHAT)),
    "stream": lambda c: text_of_chunks(c.chat.completions.create(**CHAT, stream=True)),
    "stream helper": lambda c: text_of(stream_helper(c)),
    "raw": lambda c: text_of(raw_create(c)),
    "streamed raw": lambda c: text_of(streamed_raw(c)),
    "parse": lambda c: (
        parsing(c, "parse")(**CHAT, response_format=Person)
        .choices[0]
        .message.parsed.model_dump_json()
    ),
    "with_options": lambda c: text_of(c.with_options(timeout=9).chat.completions.create(**CHAT)),
    "copy of copy": lambda c: text_of(c.copy().copy().chat.completions.create(**CHAT)),
    "extra_body": lambda c: text_of(c.chat.completions.create(**CHAT, extra_body={"top_k": 3})),
    "messages in extra_body": lambda c: text_of(
        c.chat.completions.create(
            model="gpt-4o", messages=[], extra_body={"messages": CHAT_MESSAGES}
        )
    ),
    "post": lambda c: c.post("/chat/completions", body=dict(CHAT), cast_to=object)["choices"][0][
        "message"
    ]["content"],
}

RESPONSE_CALLS: dict[str, Callable[[Any], Any]] = {
    "create": lambda c: c.responses.create(**RESPONSE).output_text,
    "stream": lambda c: "".join(
        event.delta
        for event in c.responses.create(**RESPONSE, stream=True)
        if event.type == "response.output_text.delta"
    ),
    "stream helper": lambda c: _responses_stream(c),
    "raw": lambda c: c.responses.with_raw_response.create(**RESPONSE).parse().output_text,
    "parse": lambda c: c.responses.parse(
        **RESPONSE, text_format=Person
    ).output_parsed.model_dump_json(),
    "with_options": lambda c: c.with_options(timeout=9).responses.create(**RESPONSE).output_text,
}

NEWER = {"parse": "parse", "stream helper": "stream"}
"""Calls that came to responses later than `create`."""


def _responses_stream(client: Any) -> str:
    with client.responses.stream(**RESPONSE) as stream:
        return str(stream.get_final_response().output_text)


def same_headers(seen: Any) -> dict[str, str]:
    own = ("content-length", "x-stainless-read-timeout")
    return {name: value for name, value in seen.headers.items() if name not in own}


def check(server: Loopback, client: Any, call: Callable[[Any], Any]) -> None:
    """The wrapped client sends what the plain one sends, shortened, and gets the same answer."""
    server.answer = PERSON
    plainly = call(client)
    (plain,) = server.take()
    with tersely.session(uuid4().hex) as session:
        assert call(tersely.wrap(client, first_words())) == plainly
    (sent,) = server.take()
    assert LONG in str(plain.body) and SHORT in str(sent.body)
    assert sent.body == shortened(plain.body)
    assert list(sent.body) == list(plain.body)
    assert (sent.path, same_headers(sent)) == (plain.path, same_headers(plain))
    assert session.requests == 1
    assert session.report == tersely.last_report()


@pytest.mark.parametrize("name", CALLS)
def test_chat(server: Loopback, client: Any, name: str) -> None:
    check(server, client, CALLS[name])


@pytest.mark.parametrize("name", RESPONSE_CALLS)
def test_responses(server: Loopback, client: Any, name: str) -> None:
    if not hasattr(getattr(client, "responses", None), NEWER.get(name, "create")):
        pytest.skip("this openai has no such call")
    check(server, client, RESPONSE_CALLS[name])


@pytest.mark.parametrize("deployment", [None, "mine"])
def test_azure(server: Loopback, deployment: str | None) -> None:
    settings = {"azure_endpoint": server.url, "api_key": "key", "api_version": "2024-10-21"}
    if deployment:
        settings["azure_deployment"] = deployment
    with openai.AzureOpenAI(**settings) as client:
        check(server, client, CALLS["create"])
        tersely.wrap(client, first_words()).chat.completions.create(**CHAT)
    place = f"/openai/deployments/{deployment or 'gpt-4o'}/chat/completions"
    assert server.seen[-1].path.startswith(place)
    assert isinstance(tersely.wrap(client, first_words()), openai.AzureOpenAI)


def test_tools_and_the_answer_to_them(server: Loopback, client: Any) -> None:
    wrapped = tersely.wrap(client, first_words())
    asked = [{"role": "user", "content": "What is the weather?"}]
    answer = wrapped.chat.completions.create(model="mine", messages=asked, tools=[TOOL])
    (call,) = answer.choices[0].message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": LONG}
    # the SDK's own object goes back in, as people do
    said = [*asked, answer.choices[0].message, result]
    wrapped.chat.completions.create(model="mine", messages=said, tools=[TOOL])
    body = server.take()[-1].body
    assert body["messages"][1]["tool_calls"][0]["id"] == call.id
    assert body["messages"][2]["content"] == SHORT
    assert body["tools"] == [TOOL]


def test_what_was_sent_goes_out_again_in_the_same_bytes(server: Loopback, client: Any) -> None:
    wrapped = tersely.wrap(client, first_words())
    wrapped.chat.completions.create(**CHAT)
    said = [*CHAT_MESSAGES, {"role": "assistant", "content": "Rain."}, ASK]
    with tersely.override(budget=100_000):  # nothing would have to go any more
        wrapped.chat.completions.create(model="gpt-4o", messages=said)
    first, second = server.bodies
    assert second["messages"][:4] == first["messages"]


@pytest.mark.parametrize("statuses", [(500,), (429,), (500, 429)])
def test_retries_send_the_same_bytes_and_compress_once(
    server: Loopback, client: Any, statuses: tuple[int, ...]
) -> None:
    server.faults.extend(statuses)
    with tersely.session(uuid4().hex) as session:
        tersely.wrap(client, first_words()).chat.completions.create(
            **CHAT, extra_body={"tersely": {"question": "the weather"}}
        )
    seen = server.take()
    assert len(seen) == len(statuses) + 1
    assert len({one.raw for one in seen}) == 1
    assert seen[0].body == shortened(CHAT)
    assert session.requests == 1


def test_one_body_sent_twice_is_read_twice(server: Loopback, client: Any) -> None:
    wrapped = tersely.wrap(client, first_words())
    body = {"model": "gpt-4o", "messages": list(CHAT_MESSAGES)}
    wrapped.post("/chat/completions", body=body, cast_to=object)
    body["messages"].append(ASK)
    wrapped.post("/chat/completions", body=body, cast_to=object)
    assert [len(sent["messages"]) for sent in server.bodies] == [4, 5]


def test_other_requests_are_left_alone(server: Loopback, client: Any) -> None:
    wrapped = tersely.wrap(client, first_words())
    body = {"model": "m", "input": LONG, "messages": CHAT_MESSAGES}
    for path in ("/embeddings", "/moderations", "/batches", "/chat/completions/id", "/responses/c"):
        wrapped.post(path, body=body, cast_to=object)
        assert server.take()[0].body == body, path


def test_nothing_of_the_caller_changes(server: Loopback, client: Any) -> None:
    before = dict(vars(client))
    kind = type(client)
    said = shortened(CHAT_MESSAGES), str(CHAT_MESSAGES)
    wrapped = tersely.wrap(client, first_words())
    wrapped.chat.completions.create(**CHAT)
    assert type(client) is kind and vars(client) == before
    assert (shortened(CHAT_MESSAGES), str(CHAT_MESSAGES)) == said
    client.chat.completions.create(**CHAT)
    assert server.take()[-1].body == CHAT


def test_the_type_stays(client: Any) -> None:
    for plain in (client, openai.AsyncOpenAI(api_key="key")):
        wrapped = tersely.wrap(plain, first_words())
        for one in (wrapped, wrapped.copy(), wrapped.with_options(max_retries=7)):
            assert isinstance(one, type(plain))
            assert type(one).__name__ == type(plain).__name__
            assert one._client is plain._client
            assert one.user_agent == plain.user_agent
        assert wrapped.with_options(max_retries=7).max_retries == 7
        assert type(wrapped) is type(tersely.wrap(plain, first_words()))


def test_own_connections_stay(server: Loopback) -> None:
    with openai.DefaultHttpxClient(headers={"x-mine": "yes"}) as own:
        client = openai.OpenAI(api_key="key", base_url=server.url, http_client=own)
        wrapped = tersely.wrap(client, first_words())
        assert wrapped._client is own
        wrapped.chat.completions.create(**CHAT)
    assert server.seen[0].headers["x-mine"] == "yes"


def test_closing_is_as_with_a_copy(server: Loopback) -> None:
    closed = []
    for derive in (
        lambda client: tersely.wrap(client, first_words()),
        lambda client: client.copy(),
    ):
        client = openai.OpenAI(api_key="key", base_url=server.url)
        derive(client).close()
        closed.append(client.is_closed())
        client.close()
    assert closed[0] == closed[1]
