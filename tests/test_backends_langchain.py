"""Any LangChain chat model is a backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from tersely.backends.langchain import LangChainBackend
from tersely.contracts import Request
from tersely.errors import BackendError, ConfigError, ContextLengthError
from tersely.prompt import Prompt, Segment


def ask(text: str = "hi", **wishes: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **wishes)


class ContextOverflowError(Exception):
    """Named as LangChain's own, which its older releases lack."""


class Listening(FakeListChatModel):
    """Notes what it is asked and with which settings."""

    heard: list[Any] = []
    fault: Exception | None = None

    def _generate(self, messages: Any, stop: Any = None, *args: Any, **kwargs: Any) -> ChatResult:
        self.heard.append((messages, stop, kwargs))
        if self.fault:
            raise self.fault
        message = AIMessage(
            f"to {messages[-1].content}",
            usage_metadata={"input_tokens": 4, "output_tokens": 2, "total_tokens": 6},
            response_metadata={"stop_reason": "max_tokens", "model_name": "m-1"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        if self.fault:
            raise self.fault
        yield from super()._stream(*args, **kwargs)


def test_messages_and_settings_arrive() -> None:
    model = Listening(responses=[], heard=[])
    prompt = Prompt((Segment(text="be brief", role="system"), Segment(text="hi", turn=1)))
    request = Request(prompt=prompt, max_tokens=5, stop=("x",), top_p=0.5, seed=2)
    (done,) = LangChainBackend(model).complete([request])
    assert (done.text, done.prompt_tokens, done.completion_tokens) == ("to hi", 4, 2)
    assert (done.finish_reason, done.model) == ("length", "m-1")
    ((messages, stop, settings),) = model.heard
    assert messages == [SystemMessage("be brief"), HumanMessage("hi")]
    assert stop == ["x"]
    wanted = {"max_tokens": 5, "temperature": 0.0, "top_p": 0.5, "seed": 2}
    assert wanted.items() <= settings.items()


def test_extra_settings_go_over_the_requests() -> None:
    model = Listening(responses=[], heard=[])
    backend = LangChainBackend(model, extra={"temperature": None, "reasoning_effort": "low"})
    backend.complete([ask()])
    ((_, _, settings),) = model.heard
    assert settings["reasoning_effort"] == "low" and "temperature" not in settings


async def test_many_at_once_in_order() -> None:
    requests = [ask(str(i)) for i in range(10)]
    backend = LangChainBackend(Listening(responses=[]), parallel=3)
    expected = [f"to {i}" for i in range(10)]
    assert [done.text for done in backend.complete(requests)] == expected
    assert [done.text for done in await backend.acomplete(requests)] == expected


async def test_streams_word_by_word() -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage("one two"), AIMessage("one two")]))
    backend = LangChainBackend(model)
    chunks = list(backend.stream(ask()))
    assert [chunk.text for chunk in chunks] == ["one", " ", "two", ""]
    assert chunks[-1].completion is not None
    assert chunks[-1].completion.text == "one two"
    assert [chunk async for chunk in backend.astream(ask())] == chunks


@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        (ValueError("odd"), BackendError, False),
        (ConnectionError("gone"), BackendError, True),
        (TimeoutError("slow"), BackendError, True),
        (ValueError("prompt is too long: 9 > 8"), ContextLengthError, False),
        (ContextOverflowError("too much"), ContextLengthError, False),
    ],
)
async def test_errors_are_told_as_ours(
    fault: Exception, kind: type[BackendError], retryable: bool
) -> None:
    backend = LangChainBackend(Listening(responses=[], fault=fault))
    with pytest.raises(kind, match=str(fault)) as caught:
        backend.complete([ask()])
    assert caught.value.retryable is retryable
    assert caught.value.__cause__ is fault
    with pytest.raises(kind):
        await backend.acomplete([ask()])
    with pytest.raises(kind):
        list(backend.stream(ask()))


@pytest.mark.parametrize("wish", [{"raw": True}, {"logprobs": True}])
def test_what_chat_models_cannot_do_is_refused(wish: dict[str, bool]) -> None:
    backend = LangChainBackend(Listening(responses=[]))
    with pytest.raises(ConfigError, match="use the local or the http backend"):
        backend.complete([ask(**wish)])
    with pytest.raises(ConfigError):
        next(backend.stream(ask(**wish)))


class Silent(FakeListChatModel):
    def stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return iter(())

    async def astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for nothing in ():
            yield nothing


async def test_a_model_that_streams_nothing_is_an_error() -> None:
    backend = LangChainBackend(Silent(responses=[]))
    with pytest.raises(BackendError, match="streamed nothing"):
        list(backend.stream(ask()))
    with pytest.raises(BackendError, match="streamed nothing"):
        [chunk async for chunk in backend.astream(ask())]


async def test_cancelling_reaches_the_model() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    class Endless(FakeListChatModel):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError("unreachable")

    backend = LangChainBackend(Endless(responses=[]))
    task = asyncio.create_task(backend.acomplete([ask(), ask()]))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
