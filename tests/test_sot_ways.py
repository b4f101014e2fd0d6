"""Points side by side through the SDKs' own clients: ordinary answers, whole and streamed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from first_words import LONG, SHORT, first_words
from hypothesis import given, settings
from hypothesis import strategies as st
from little_sot import LINES, text_of
from openai_calls import parsing
from points_server import FORM, JOINED, PLAIN, QUESTION, TOOL, Provider, why
from script_server import Server

import tersely
from tersely import plans
from tersely.errors import BackendError, ConfigError
from tersely.middleware.points import Points
from tersely.middleware.points_chat import Chat
from tersely.registry import plan

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

SAID = [{"role": "user", "content": QUESTION}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": SAID}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture
def server(provider: Provider) -> Server:
    return provider.server


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(api_key="key", base_url=server.url, max_retries=0) as made:
        yield made


@pytest.fixture
async def aclient(server: Server) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(api_key="key", base_url=server.url, max_retries=0) as made:
        yield made


@pytest.fixture
def claude(server: Server) -> Iterator[Any]:
    url = server.url.removesuffix("/v1")
    with anthropic.Anthropic(api_key="key", base_url=url, max_retries=0) as made:
        yield made


def text(completion: Any) -> str:
    return str(completion.choices[0].message.content)


def texts(chunks: Any) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def billed(usage: Any) -> tuple[int, int, int]:
    cached = usage.prompt_tokens_details.cached_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return usage.prompt_tokens, cached, usage.completion_tokens


class TestOpenAI:
    def test_the_points_are_one_completion(
        self, provider: Provider, server: Server, client: Any
    ) -> None:
        answer = tersely.wrap(client, sot="auto").chat.completions.create(**CHAT)
        assert type(answer) is type(client.chat.completions.create(**CHAT))
        assert text(answer) == JOINED
        assert answer.choices[0].finish_reason == "stop"
        assert answer.model == "gpt-4o-2024"
        provider.billed.pop()  # that of the plain client
        assert billed(answer.usage) == provider.sums
        assert provider.purposes[0] == "skeleton"
        assert sorted(provider.purposes[1:5]) == ["1", "2", "3", "4"]
        account = tersely.sot.last_account()
        assert account is not None
        assert [point.text for point in account.points] == [text_of(str(i)) for i in range(1, 5)]
        assert answer.sot["route"] == account.route == "skeleton"

    def test_the_chunks_are_ordinary(self, provider: Provider, client: Any) -> None:
        wrapped = tersely.sot(client)
        with wrapped.chat.completions.create(**CHAT, stream=True) as stream:
            chunks = list(stream)
        plain = list(client.chat.completions.create(**CHAT, stream=True))
        assert {type(one) for one in chunks} == {type(one) for one in plain}
        assert texts(chunks) == JOINED
        assert len({one.id for one in chunks}) == len({one.created for one in chunks}) == 1
        assert all(len(one.choices) == 1 and one.usage is None for one in chunks)
        reasons = [one.choices[0].finish_reason for one in chunks]
        assert reasons == [None] * (len(chunks) - 1) + ["stop"]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert len(chunks) > len(LINES)

    def test_the_usage_of_a_stream_is_told_where_it_is_wanted(
        self, provider: Provider, client: Any
    ) -> None:
        *chunks, last = tersely.sot(client).chat.completions.create(**CHAT, **WITH_USAGE)
        assert texts(chunks) == JOINED
        assert last.choices == []
        assert billed(last.usage) == provider.sums
        assert all(one.usage is None for one in chunks)

    @pytest.mark.parametrize("derive", [lambda c: c.with_options(timeout=9), lambda c: c.copy()])
    def test_copies_raw_responses_and_helpers(
        self, server: Server, client: Any, derive: Any
    ) -> None:
        wrapped = derive(tersely.sot(client))
        assert isinstance(wrapped, openai.OpenAI)
        raw = wrapped.chat.completions.with_raw_response.create(**CHAT)
        assert raw.status_code == 200
        assert text(raw.parse()) == JOINED
        with wrapped.chat.completions.with_streaming_response.create(**CHAT) as response:
            assert text(response.parse()) == JOINED
        with parsing(wrapped, "stream")(**CHAT) as stream:
            for _ in stream:
                pass
            assert text(stream.get_final_completion()) == JOINED

    def test_calls_are_sent_as_the_caller_sends(self, server: Server, client: Any) -> None:
        wrapped = tersely.sot(client).with_options(default_headers={"x-mine": "1"})
        wrapped.chat.completions.create(
            **CHAT,
            temperature=0.3,
            user="me",
            max_completion_tokens=900,
            extra_headers={"x-call": "2"},
            extra_query={"trace": "3"},
        )
        for path, body, headers in server.calls:
            sent = {name.lower(): value for name, value in headers.items()}
            assert (sent["x-mine"], sent["x-call"]) == ("1", "2")
            assert sent["authorization"] == "Bearer key"
            assert path == "/v1/chat/completions?trace=3"
            assert (body["temperature"], body["user"]) == (0.3, "me")
            assert 0 < body["max_completion_tokens"] <= 900
            assert body["stream"] is True
        assert server.bodies[1]["max_completion_tokens"] < 900

    def test_what_was_not_bounded_stays_so(self, server: Server, client: Any) -> None:
        tersely.sot(client).chat.completions.create(**CHAT)
        assert all("max_tokens" not in body for body in server.bodies)
        assert all("max_completion_tokens" not in body for body in server.bodies)

    @pytest.mark.parametrize(
        ("asked", "reason"),
        [
            ({"tools": [TOOL]}, "tools"),
            ({"response_format": FORM}, "response_format"),
            ({"n": 2}, "2 answers"),
            ({"logprobs": True}, "logprobs"),
            ({"stop": ["."]}, "stop at a string"),
            ({"max_tokens": 40}, "40 tokens"),
            ({"extra_body": {"guided_regex": "a+"}}, "guided_regex"),
            ({"extra_body": {"sot": "force"}}, "the server itself"),
            ({"messages": [*SAID, {"role": "assistant", "content": "Well,"}]}, "begun already"),
            ({"messages": [{"role": "user", "content": "Write a poem on sleep."}]}, "one piece"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only text"),
            ({"messages": [{"role": "user", "content": " "}]}, "asks nothing"),
        ],
    )
    def test_what_does_not_suit_goes_out_untouched(
        self, server: Server, client: Any, asked: dict[str, Any], reason: str
    ) -> None:
        said = {**CHAT, **asked}
        seen: list[bytes] = []
        server.play = lambda handler, body: (
            seen.append(json.dumps(body).encode()),
            handler.answer(200, {"choices": [], "id": "as it is"}),
        )[0]
        plain = client.chat.completions.create(**said)
        wrapped = tersely.sot(client)
        assert wrapped.chat.completions.create(**said) == plain
        assert seen[0] == seen[1]
        (_, _, before), (_, _, after) = server.calls
        ours = ("x-stainless-read-timeout", "Host")
        assert {k: v for k, v in before.items() if k not in ours} == {
            k: v for k, v in after.items() if k not in ours
        }
        assert reason in why()

    def test_other_endpoints_and_formats_go_on(self, server: Server, client: Any) -> None:
        wrapped = tersely.sot(client)
        server.play = lambda handler, body: handler.answer(200, {"output": [], "data": []})
        wrapped.post("/responses", body={"model": "gpt-4o", "input": QUESTION}, cast_to=object)
        assert "openai-responses" in why()
        wrapped.embeddings.create(model="e", input="text", encoding_format="float")
        assert [path for path, _, _ in server.calls] == ["/v1/responses", "/v1/embeddings"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_unfit_skeleton_degrades_to_the_plain_answer(
        self, provider: Provider, client: Any, stream: bool
    ) -> None:
        provider.texts["skeleton"] = "Sleep is good for you, and that is all."
        asked = {**CHAT, **WITH_USAGE} if stream else CHAT
        answer = tersely.sot(client).chat.completions.create(**asked)
        if stream:
            *chunks, last = answer
            assert (texts(chunks), billed(last.usage)) == (PLAIN, provider.sums)
        else:
            assert (text(answer), billed(answer.usage)) == (PLAIN, provider.sums)
        assert "skeleton" in provider.purposes
        assert "plain" in provider.purposes
        assert why()

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_failing_plan_costs_nothing_but_time(
        self, provider: Provider, server: Server, client: Any, stream: bool
    ) -> None:
        provider.texts["skeleton"] = 400
        answer = tersely.sot(client).chat.completions.create(**CHAT, stream=stream)
        assert (texts(answer) if stream else text(answer)) == PLAIN
        assert server.bodies[-1] == {**CHAT, "stream": stream}
        assert "no skeleton" in why()

    def test_a_point_that_fails_is_left_out(self, provider: Provider, client: Any) -> None:
        provider.texts |= {"3": 400, "alone": 400}
        answer = tersely.sot(client).chat.completions.create(**CHAT)
        assert text_of("2") in text(answer)
        assert text_of("3") not in text(answer)
        assert billed(answer.usage) == provider.sums
        account = tersely.sot.last_account()
        assert account is not None
        assert [point.number for point in account.lost] == [3]

    def test_an_error_of_the_provider_is_the_sdks_own(self, server: Server, client: Any) -> None:
        server.play = lambda handler, body: handler.answer(401, {"error": {"message": "no key"}})
        with pytest.raises(openai.AuthenticationError, match="no key"):
            tersely.sot(client).chat.completions.create(**CHAT)

    def test_calls_are_tried_again_by_the_sdk(self, provider: Provider, server: Server) -> None:
        server.script = [lambda handler, _: handler.answer(500, {}, retry_after_ms="1")]
        with openai.OpenAI(api_key="key", base_url=server.url, max_retries=1) as client:
            assert text(tersely.sot(client).chat.completions.create(**CHAT)) == JOINED
        assert len(server.calls) == 6

    def test_models_that_take_no_stop_strings(self, provider: Any, server: Server) -> None:
        def picky(handler: Any, body: Any) -> None:
            if "stop" in body:
                said = {"message": "Unsupported parameter: 'stop' is not supported"}
                handler.answer(400, {"error": said})
            else:
                provider(handler, body)

        server.play = picky
        with openai.OpenAI(api_key="key", base_url=server.url, max_retries=0) as client:
            wrapped = tersely.sot(client)
            assert text(wrapped.chat.completions.create(**CHAT)) == JOINED
            before = len(server.calls)
            assert text(wrapped.chat.completions.create(**CHAT)) == JOINED
            assert len(server.calls) == before + 5

    def test_a_server_that_tells_no_usage_is_counted(self, provider: Provider, client: Any) -> None:
        provider.silent = True
        answer = tersely.sot(client).chat.completions.create(**CHAT)
        assert answer.usage.prompt_tokens > 100
        assert answer.usage.completion_tokens > 40

    def test_points_may_go_to_other_models(self, server: Server, client: Any) -> None:
        wrapped = tersely.sot(client, models=("gpt-4o-mini", "gpt-4o"))
        assert text(wrapped.chat.completions.create(**CHAT)) == JOINED
        asked = [body["model"] for body in server.bodies]
        assert (asked[0], set(asked)) == ("gpt-4o", {"gpt-4o", "gpt-4o-mini"})
        said = [{"role": "user", "content": "Write a poem on sleep."}]
        wrapped.chat.completions.create(model="gpt-4o", messages=said)
        assert server.bodies[-1] == {"model": "gpt-4o", "messages": said}

    def test_a_stream_that_is_left_ends_the_calls(self, provider: Provider, client: Any) -> None:
        stream = tersely.sot(client).chat.completions.create(**CHAT, stream=True)
        assert next(iter(stream)).choices
        stream.close()
        unread = tersely.sot(client).chat.completions.create(**CHAT, stream=True)
        unread.close()
        assert text(tersely.sot(client).chat.completions.create(**CHAT)) == JOINED

    def test_the_client_itself_stays_as_it_was(self, server: Server, client: Any) -> None:
        before, http = dict(vars(client)), client._client
        wrapped = tersely.sot(client)
        wrapped.chat.completions.create(**CHAT)
        assert vars(client) == before
        assert wrapped._client is not http
        assert isinstance(wrapped._client, type(http))
        assert tersely.wrap(wrapped)._client is http
        assert text(client.chat.completions.create(**CHAT)) == PLAIN

    def test_a_client_that_nobody_else_holds_keeps_its_connections(self, server: Server) -> None:
        wrapped = tersely.sot(openai.OpenAI(api_key="key", base_url=server.url))
        assert text(wrapped.chat.completions.create(**CHAT)) == JOINED
        wrapped.close()
        assert wrapped.is_closed()

    @pytest.mark.parametrize("deployment", [None, "mine"])
    def test_azure(self, server: Server, deployment: str | None) -> None:
        place = {"azure_endpoint": server.url.removesuffix("/v1"), "api_version": "2024-10-21"}
        if deployment:
            place["azure_deployment"] = deployment
        with openai.AzureOpenAI(api_key="key", **place) as azure:
            assert text(tersely.sot(azure).chat.completions.create(**CHAT)) == JOINED
        path = f"/openai/deployments/{deployment or 'gpt-4o'}/chat/completions"
        assert {path for path, _, _ in server.calls} == {f"{path}?api-version=2024-10-21"}

    def test_at_the_deadline_the_answer_is_what_is_there(
        self, provider: Provider, server: Server, client: Any
    ) -> None:
        end = threading.Event()

        def stuck(handler: Any, body: Any) -> None:
            if "write point 2" in str(body):
                end.wait(60)
                handler.close_connection = True
            else:
                provider(handler, body)

        server.play = stuck
        answer = tersely.sot(client, deadline=2.0).chat.completions.create(**CHAT)
        end.set()
        assert answer.choices[0].finish_reason == "length"
        assert [text_of(i) in text(answer) for i in "1234"] == [True, False, True, True]
        assert answer.usage.prompt_tokens > provider.sums[0]  # the call that hung is counted

    def test_a_plan_that_dies_after_it_spoke_ends_the_stream(self, client: Any) -> None:
        stream = tersely.sot(client).with_options().chat.completions
        with tersely.override(sot=Dying()):
            chunks = iter(stream.create(**CHAT, stream=True))
        with pytest.raises(openai.APIError, match="it died"):
            assert texts(chunks)


class Dying:
    """A plan that says something and then can't go on."""

    def steps(self, request: Any, context: Any, /) -> Any:
        yield from plans.say("Well, ")
        raise BackendError("it died")


class TestOpenAIAsync:
    async def test_a_plan_that_dies_after_it_spoke_ends_the_stream(self, aclient: Any) -> None:
        wrapped = tersely.wrap(aclient, sot=Dying())
        stream = await wrapped.chat.completions.create(**CHAT, stream=True)
        with pytest.raises(openai.APIError, match="it died"):
            assert [chunk async for chunk in stream]

    async def test_whole_and_streamed(self, provider: Provider, aclient: Any) -> None:
        wrapped = tersely.sot(aclient)
        answer = await wrapped.chat.completions.create(**CHAT)
        assert (text(answer), billed(answer.usage)) == (JOINED, provider.sums)
        account = tersely.sot.last_account()
        assert account is not None
        assert account.route == "skeleton"
        copied = wrapped.with_options(timeout=9)
        async with await copied.chat.completions.create(**CHAT, stream=True) as stream:
            chunks = [chunk async for chunk in stream]
        assert texts(chunks) == JOINED
        reasons = [chunk.choices[0].finish_reason for chunk in chunks]
        assert reasons == [None] * (len(chunks) - 1) + ["stop"]

    async def test_many_at_once_keep_to_themselves(self, provider: Provider, aclient: Any) -> None:
        wrapped = tersely.sot(aclient)

        async def one(asked: str) -> tuple[str, str]:
            said = [{"role": "user", "content": asked}]
            answer = await wrapped.chat.completions.create(model="m", messages=said)
            account = tersely.sot.last_account()
            return text(answer), account.route if account else ""

        poem = "Write a poem on sleep."
        found = await asyncio.gather(one(QUESTION), one(poem), one(QUESTION))
        assert found == [(JOINED, "skeleton"), (PLAIN, "plain"), (JOINED, "skeleton")]

    @pytest.mark.parametrize("stream", [False, True])
    async def test_what_fails_degrades(
        self, provider: Provider, aclient: Any, stream: bool
    ) -> None:
        provider.texts["skeleton"] = 400
        answer = await tersely.sot(aclient).chat.completions.create(**CHAT, stream=stream)
        told = texts([chunk async for chunk in answer]) if stream else text(answer)
        assert told == PLAIN
        assert "no skeleton" in why()

    async def test_a_stream_that_is_left_ends_the_calls(
        self, provider: Provider, aclient: Any
    ) -> None:
        wrapped = tersely.sot(aclient)
        stream = await wrapped.chat.completions.create(**CHAT, stream=True)
        async for _ in stream:
            break
        await stream.close()
        assert text(await wrapped.chat.completions.create(**CHAT)) == JOINED


ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 900, "messages": SAID}


class TestAnthropic:
    def test_whole(self, provider: Provider, server: Server, claude: Any) -> None:
        system = [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]
        answer = tersely.sot(claude).messages.create(
            **ASK, system=system, metadata={"user_id": "1"}
        )
        (block,) = answer.content
        assert (block.text, answer.stop_reason, answer.model) == (JOINED, "end_turn", "claude-x-1")
        usage = answer.usage
        read, cached, made = provider.sums
        assert usage.input_tokens + usage.cache_read_input_tokens == read
        assert (usage.cache_read_input_tokens, usage.output_tokens) == (cached, made)
        for _, body, _ in server.calls:
            assert (body["system"], body["metadata"]) == (system, {"user_id": "1"})
            assert {message["role"] for message in body["messages"]} == {"user"}
        assert server.bodies[1]["max_tokens"] < 900

    def test_streamed(self, provider: Provider, claude: Any) -> None:
        with tersely.sot(claude).messages.stream(**ASK) as stream:
            assert "".join(stream.text_stream) == JOINED
            assert stream.get_final_message().usage.output_tokens == provider.sums[2]
        provider.billed.clear()
        events = list(tersely.sot(claude).messages.create(**ASK, stream=True))
        (usage,) = (one.usage for one in events if one.type == "message_delta")
        read, cached, made = provider.sums
        assert (usage.input_tokens, usage.output_tokens) == (read - cached, made)
        kinds = [one.type for one in events]
        plain = [one.type for one in claude.messages.create(**ASK, stream=True)]
        assert list(dict.fromkeys(kinds)) == list(dict.fromkeys(plain))

    def test_a_plan_that_dies_after_it_spoke_ends_the_stream(self, claude: Any) -> None:
        events = tersely.wrap(claude, sot=Dying()).messages.create(**ASK, stream=True)
        with pytest.raises(anthropic.APIError, match="it died"):
            assert list(events)

    def test_models_that_the_address_names(self, server: Server) -> None:
        server.play = lambda handler, body: handler.answer(200, {"content": [], "id": "as it is"})
        vertex = anthropic.AnthropicVertex(
            base_url=server.url, access_token="t", region="r", project_id="p"
        )
        with vertex:
            assert tersely.sot(vertex).messages.create(**ASK).id == "as it is"
        assert len(server.calls) == 1
        assert "named by the address" in why()

    async def test_async(self, provider: Provider, server: Server) -> None:
        url = server.url.removesuffix("/v1")
        async with anthropic.AsyncAnthropic(api_key="key", base_url=url) as claude:
            answer = await tersely.sot(claude).messages.create(**ASK)
        assert answer.content[0].text == JOINED

    @pytest.mark.parametrize(
        ("asked", "reason"),
        [
            ({"tools": [{"name": "look", "input_schema": {"type": "object"}}]}, "tools"),
            ({"extra_body": {"thinking": {"type": "adaptive"}}}, "thinking"),
            ({"stop_sequences": ["."]}, "stop_sequences"),
            ({"messages": [*SAID, {"role": "assistant", "content": "Well,"}]}, "begun already"),
            ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "more than text"),
        ],
    )
    def test_what_does_not_suit_goes_out_untouched(
        self, server: Server, claude: Any, asked: dict[str, Any], reason: str
    ) -> None:
        server.play = lambda handler, body: handler.answer(200, {"content": [], "id": "as it is"})
        said = {**ASK, **asked}
        assert tersely.sot(claude).messages.create(**said).id == "as it is"
        assert server.bodies == [said | said.pop("extra_body", {})]
        assert reason in why()


class TestWishes:
    def test_one_call_and_a_stretch_of_code(self, provider: Provider, client: Any) -> None:
        wrapped = tersely.wrap(client, sot="auto")
        create = wrapped.chat.completions.create
        off = {"tersely": {"sot": "off"}}
        assert text(create(**CHAT, extra_body=off)) == PLAIN
        assert "switched off" in why()
        with tersely.override(sot=False):
            assert text(create(**CHAT)) == PLAIN
        with tersely.override(sot="force"):
            said = [{"role": "user", "content": "Write a poem on sleep."}]
            assert text(create(model="m", messages=said)) == JOINED
        with pytest.raises(ConfigError, match="wrapped with it"):
            tersely.wrap(client).chat.completions.create(**CHAT, extra_body=off)

    def test_compressed_first_then_taken_apart(
        self, provider: Provider, server: Server, client: Any
    ) -> None:
        wrapped = tersely.wrap(client, first_words(), sot="force")
        said = [{"role": "user", "content": QUESTION}]
        said = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "Yes."}, *said]
        answer = wrapped.chat.completions.create(model="m", messages=said)
        report = tersely.last_report()
        assert report is not None
        assert text(answer) == JOINED
        sent = json.dumps(server.bodies)
        assert (SHORT in sent) == (report.saved > 0)
        kept = tersely.sot(tersely.wrap(client, first_words()), "off")
        assert kept._tersely.pipeline.stages == first_words().stages

    @pytest.mark.parametrize(
        ("wish", "says"),
        [
            ("always", "'always'"),
            ({"mode": "maybe"}, "'maybe'"),
            ({"deadline": 0}, "above 0, was 0"),
            ({"points": 1}, "points"),
            ({"pionts": 5}, "pionts"),
            (7, "was 7"),
        ],
    )
    def test_wishes_that_can_not_work(self, client: Any, wish: Any, says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            tersely.wrap(client, sot=wish)

    def test_a_plan_of_ones_own(self, client: Any) -> None:
        own = plan("sot", gate="force", words=20)
        assert Points.of(own) == Points(own)
        assert tersely.wrap(client, sot=own)._tersely.settings.sot.plan is own

    def test_what_can_not_be_asked(self, client: Any) -> None:
        with pytest.raises(ConfigError, match="no client, model or backend"):
            tersely.sot(object())
        with pytest.raises(ConfigError, match="max_tokens is set by each call"):
            tersely.sot(client, max_tokens=5)


class TestProperties:
    @settings(max_examples=40)
    @given(pieces=st.lists(st.text(), max_size=5), fields=st.dictionaries(st.text(), st.integers()))
    def test_bodies_keep_what_they_had(self, pieces: list[str], fields: dict[str, int]) -> None:
        from dataclasses import replace

        from tersely.contracts import Chunk, Completion

        chat, body = Chat(), {**fields, **CHAT}
        asked = chat.read(CHAT)
        assert chat.call(body, asked, whole=True) == {**body, **WITH_USAGE}
        told = chat.call(body, replace(asked, stop=("#",)), whole=False)
        assert told == {**body, **WITH_USAGE, "stop": ["#"]}
        saying = chat.saying(CHAT, "")
        answer = Completion(text="".join(pieces), prompt_tokens=3, completion_tokens=2)
        sent = saying.begin() + b"".join(saying.piece(Chunk(text=one)) for one in pieces)
        sent += b"".join(saying.end(answer))
        *events, done, _ = sent.split(b"\n\n")
        parsed = [json.loads(one.removeprefix(b"data: ")) for one in events]
        heard = "".join(one["choices"][0]["delta"].get("content", "") for one in parsed)
        kept = answer.text.encode(errors="replace").decode()
        assert (heard, done) == (kept, b"data: [DONE]")
        whole = json.loads(chat.whole(CHAT, answer))
        assert whole["choices"][0]["message"]["content"] == kept
