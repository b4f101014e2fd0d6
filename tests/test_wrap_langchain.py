"""Wrapped LangChain models: whatever is built on them asks with fewer tokens."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from first_words import LONG, PERSON, SHORT, Person, first_words, shortened
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import ConfigurableField, RunnableLambda
from loopback import Loopback

import tersely
from tersely.errors import ConfigError

langchain_openai = pytest.importorskip("langchain_openai")
langchain_anthropic = pytest.importorskip("langchain_anthropic")

SAID: list[BaseMessage] = [
    HumanMessage("What is the weather?"),
    AIMessage("", tool_calls=[{"id": "c1", "name": "look", "args": {}}]),
    ToolMessage(LONG, tool_call_id="c1"),
]


def chat(url: str) -> Any:
    return langchain_openai.ChatOpenAI(model="gpt-4o", api_key="key", base_url=f"{url}/v1")


def streaming(url: str) -> Any:
    return langchain_openai.ChatOpenAI(
        model="gpt-4o", api_key="key", base_url=f"{url}/v1", streaming=True
    )


def responses(url: str) -> Any:
    return langchain_openai.ChatOpenAI(
        model="gpt-4o", api_key="key", base_url=f"{url}/v1", use_responses_api=True
    )


def azure(url: str) -> Any:
    return langchain_openai.AzureChatOpenAI(
        model="gpt-4o", api_key="key", azure_endpoint=url, api_version="2024-10-21"
    )


def claude(url: str) -> Any:
    return langchain_anthropic.ChatAnthropic(model="claude-x", api_key="key", base_url=url)


MODELS: tuple[Callable[[str], Any], ...] = (chat, streaming, responses, azure, claude)


def look(city: str) -> str:
    """Look at the weather of a city."""
    return city


USES: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda m: m.invoke(SAID).text,
    "stream": lambda m: "".join(chunk.text for chunk in m.stream(SAID)),
    "batch": lambda m: [answer.text for answer in m.batch([SAID])],
    "generate": lambda m: m.generate([SAID]).generations[0][0].text,
    "bind_tools": lambda m: m.bind_tools([look]).invoke(SAID).text,
    "with_structured_output": lambda m: m.with_structured_output(Person).invoke(SAID),
    "with_retry": lambda m: m.with_retry().invoke(SAID).text,
    "sequence": lambda m: (RunnableLambda(lambda _: SAID) | m).invoke(None).text,
    "copied": lambda m: m.model_copy().invoke(SAID).text,
    "configured": lambda m: (
        m.configurable_fields(max_tokens=ConfigurableField("size"))
        .invoke(SAID, config={"configurable": {"size": 9}})
        .text
    ),
    "bind": lambda m: m.bind(temperature=0).invoke(SAID).text,
}


def bodies(server: Loopback) -> list[Any]:
    return [seen.body for seen in server.take()]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("use", USES)
def test_every_use(server: Loopback, make: Callable[[str], Any], use: str) -> None:
    server.answer = PERSON
    model = make(server.url)
    try:
        plainly = USES[use](model)
    except Exception as error:
        plainly = type(error)  # the loopback's answer need not suit this use
    plain = bodies(server)
    wrapped = tersely.wrap(model, first_words())
    assert isinstance(wrapped, type(model))
    try:
        assert USES[use](wrapped) == plainly
    except Exception as error:
        assert type(error) is plainly, error
    sent = bodies(server)
    assert LONG in str(plain) and SHORT in str(sent)
    assert sent == shortened(plain)
    report = tersely.last_report()
    assert report is not None and report.saved > 0


async def drain(chunks: AsyncIterator[Any]) -> str:
    return "".join([chunk.text async for chunk in chunks])


ASYNC_USES: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "ainvoke": lambda m: m.ainvoke(SAID),
    "astream": lambda m: drain(m.astream(SAID)),
    "abatch": lambda m: m.abatch([SAID]),
    "sequence": lambda m: (RunnableLambda(lambda _: SAID) | m).ainvoke(None),
    "bind_tools": lambda m: m.bind_tools([look]).ainvoke(SAID),
    "as a function": lambda m: RunnableLambda(m.ainvoke).ainvoke(SAID),
}


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("use", ASYNC_USES)
async def test_every_async_use(server: Loopback, make: Callable[[str], Any], use: str) -> None:
    model = make(server.url)
    plainly = await ASYNC_USES[use](model)
    plain = bodies(server)
    wrapped = tersely.wrap(model, first_words())
    answer = await ASYNC_USES[use](wrapped)
    sent = bodies(server)
    assert LONG in str(plain) and SHORT in str(sent)
    assert sent == shortened(plain)
    assert type(answer) is type(plainly)
    report = tersely.last_report()
    assert report is not None and report.saved > 0


def test_the_model_named_is_counted_for(server: Loopback) -> None:
    tersely.wrap(chat(server.url), first_words()).invoke(SAID)
    report = tersely.last_report()
    assert report is not None and report.exact and report.counter == "tiktoken o200k_base"
    tersely.wrap(claude(server.url), first_words()).invoke(SAID)
    report = tersely.last_report()
    assert report is not None and not report.exact and "Claude" in report.counter


@pytest.mark.parametrize("make", MODELS)
def test_a_call_may_ask_for_something_else(server: Loopback, make: Callable[[str], Any]) -> None:
    wrapped = tersely.wrap(make(server.url), first_words())
    wrapped.invoke(SAID, tersely={"mode": "off"})
    list(wrapped.stream(SAID, tersely={"mode": "off"}))
    assert all(LONG in str(body) and "tersely" not in body for body in bodies(server))
    with pytest.raises(ConfigError, match="mode must be one of"):
        wrapped.invoke(SAID, tersely={"mode": "fast"})
    assert server.take() == []


def test_extra_body_is_read_as_well(server: Loopback) -> None:
    wrapped = tersely.wrap(chat(server.url), first_words())
    wrapped.invoke(SAID, extra_body={"tersely": {"mode": "off"}, "top_k": 3})
    (body,) = bodies(server)
    assert body["top_k"] == 3 and "tersely" not in body and LONG in str(body)


class Echo(BaseChatModel):
    """A model of someone's own: no stream, and not all parameters."""

    seen: list[list[BaseMessage]] = []

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _generate(self, messages: Any, stop: Any = None, **kwargs: Any) -> ChatResult:
        self.seen.append(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(messages[-1].content))])


class Streaming(Echo):
    """A model whose `_generate` calls its own `_stream`, which is no generator."""

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        (chunk,) = self._stream(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(chunk.text))])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        self.seen.append(messages)
        return iter([ChatGenerationChunk(message=AIMessageChunk(messages[-1].content))])


def test_a_model_of_ones_own() -> None:
    for model in (Echo(), Streaming()):
        wrapped = tersely.wrap(model, first_words())
        assert wrapped.invoke(SAID).content == SHORT
        assert [chunk.content for chunk in wrapped.stream(SAID) if chunk.content] == [SHORT]
        assert SAID[-1].content == LONG
        assert model.invoke(SAID).content == LONG


async def test_async_uses_of_a_model_that_is_not_async() -> None:
    wrapped = tersely.wrap(Streaming(), first_words())
    assert await drain(wrapped.astream(SAID)) == SHORT
    report = tersely.last_report()
    assert report is not None and report.saved > 0
    assert (await wrapped.ainvoke(SAID)).content == SHORT


async def test_a_block_links_tasks_that_nothing_else_does(server: Loopback) -> None:
    bound = tersely.wrap(chat(server.url), first_words()).bind_tools([look])
    with tersely.session(uuid4().hex) as session:
        await (RunnableLambda(lambda _: SAID) | bound).ainvoke(None)
    assert session.requests == 1
    assert tersely.last_report() == session.report is not None


def test_editing_happens_once_for_each_call() -> None:
    wrapped = tersely.wrap(Streaming(), first_words())
    with tersely.session(uuid4().hex) as session:
        wrapped.invoke(SAID)
    assert session.requests == 1


def test_inside_a_stream_other_calls_are_compressed_too() -> None:
    wrapped = tersely.wrap(Streaming(), first_words())
    for _ in wrapped.stream(SAID):
        assert wrapped.invoke(SAID).content == SHORT


def test_wrapping_twice_compresses_once_and_takes_the_outer_settings() -> None:
    once = tersely.wrap(Echo(), first_words())
    twice = tersely.wrap(once, first_words(), mode="off")
    assert type(twice) is type(once)
    assert twice.invoke(SAID).content == LONG
    assert once.invoke(SAID).content == SHORT


def test_copies_and_pickles_stay_wrapped() -> None:
    plain = FakeListChatModel(responses=["yes"])
    wrapped = tersely.wrap(plain, first_words(), mode="audit", session="pickled")
    for made in (
        copy.copy(wrapped),
        copy.deepcopy(wrapped),
        pickle.loads(pickle.dumps(wrapped)),
        wrapped.model_copy(update={"responses": ["no"]}),
    ):
        assert type(made) is type(wrapped)
        made.invoke(SAID)
        report = tersely.last_report()
        assert report is not None and report.mode == "audit"
    assert wrapped.model_dump() == plain.model_dump()
    assert repr(wrapped) == repr(plain)
