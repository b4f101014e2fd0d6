"""The HTTP backend against a loopback server that speaks the API, well and badly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from time import time
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_openai import ChatOpenAI
from pydantic import ValidationError
from script_server import (
    END,
    Handler,
    Server,
    Step,
    event,
    good,
    hangs_up,
    refused,
    said,
    sends,
    serving,
    streams,
)
from tenacity import Future, RetryCallState, Retrying

from tersely.backends.http import HttpBackend
from tersely.backends.langchain import LangChainBackend
from tersely.calls import LONGEST_PAUSE, pause
from tersely.contracts import Backend, Chunk, Completion, Request
from tersely.errors import BackendError, ContextLengthError
from tersely.prompt import Prompt, Segment


def ask(text: str = "hi", **wishes: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **wishes)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def backend(server: Server) -> HttpBackend:
    return HttpBackend(base_url=server.url, model="m", api_key="secret", pause=0)


Complete = Callable[[Backend, list[Request]], Any]
Stream = Callable[[Backend, Request], Any]


async def complete_sync(backend: Backend, requests: list[Request]) -> list[Completion]:
    return backend.complete(requests)


async def complete_async(backend: Backend, requests: list[Request]) -> list[Completion]:
    return await backend.acomplete(requests)


async def stream_sync(backend: Backend, request: Request) -> list[Chunk]:
    return list(backend.stream(request))


async def stream_async(backend: Backend, request: Request) -> list[Chunk]:
    return [chunk async for chunk in backend.astream(request)]


completing = pytest.mark.parametrize("complete", [complete_sync, complete_async])
streaming = pytest.mark.parametrize("stream", [stream_sync, stream_async])


# --- complete --------------------------------------------------------------------------------


@completing
async def test_an_answer(complete: Complete, backend: HttpBackend, server: Server) -> None:
    request = ask("hi", max_tokens=7, temperature=0.5, top_p=0.9, stop=("x",), seed=3)
    (done,) = await complete(backend, [request])
    assert done == Completion(text="echo hi", prompt_tokens=3, completion_tokens=2, model="m-1")
    ((path, body, headers),) = server.calls
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer secret"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["x"],
        "seed": 3,
    }


@completing
async def test_raw_text_goes_to_completions(
    complete: Complete, backend: HttpBackend, server: Server
) -> None:
    (done,) = await complete(backend, [ask("once", raw=True)])
    assert done.text == "raw"
    ((path, body, _),) = server.calls
    assert (path, body["prompt"]) == ("/v1/completions", "once")
    assert body.keys() == {"model", "prompt", "max_tokens", "temperature"}


@completing
async def test_answers_come_in_the_order_of_the_requests(
    complete: Complete, backend: HttpBackend
) -> None:
    done = await complete(backend, [ask(str(i)) for i in range(20)])
    assert [one.text for one in done] == [f"echo {i}" for i in range(20)]


@completing
async def test_requests_go_out_together_but_not_too_many(
    complete: Complete, server: Server
) -> None:
    together = threading.Barrier(3)
    under_way: list[int] = []
    lock = threading.Lock()

    def waits(handler: Handler, body: Any) -> None:
        with lock:
            under_way.append(under_way[-1] + 1 if under_way else 1)
        together.wait(30)
        with lock:
            under_way.append(under_way[-1] - 1)
        good(handler, body)

    server.script = [waits] * 6
    backend = HttpBackend(base_url=server.url, model="m", parallel=3)
    assert len(await complete(backend, [ask(str(i)) for i in range(6)])) == 6
    assert max(under_way) == 3


@completing
@pytest.mark.parametrize(
    "trouble",
    [
        refused(429, retry_after="0"),
        refused(500),
        refused(503, retry_after="0"),
        sends(502, b"<html>bad gateway</html>"),
        hangs_up,
    ],
)
async def test_what_may_pass_is_asked_again(
    complete: Complete, trouble: Step, backend: HttpBackend, server: Server
) -> None:
    server.script = [trouble, trouble]
    (done,) = await complete(backend, [ask("hi")])
    assert done.text == "echo hi"
    assert len(server.calls) == 3
    assert server.bodies[0] == server.bodies[2]


@completing
async def test_after_the_last_try_the_error_is_told(
    complete: Complete, backend: HttpBackend, server: Server
) -> None:
    server.script = [refused(500, "we are down")] * 9
    with pytest.raises(BackendError, match=r"refused \(HTTP 500\): we are down") as caught:
        await complete(backend, [ask()])
    assert caught.value.retryable
    assert len(server.calls) == backend.retries + 1


@completing
@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (refused(401, "bad key"), "bad key; check api_key"),
        (refused(404, "no such model"), "no such model; check base_url and model"),
        (refused(422, "what?"), r"HTTP 422\): what\?"),
        (refused(429, "pay first", "insufficient_quota"), "pay first"),
        (sends(400, b"plain words"), "plain words"),
    ],
)
async def test_what_will_not_pass_is_not_asked_again(
    complete: Complete, trouble: Step, message: str, backend: HttpBackend, server: Server
) -> None:
    server.script = [trouble]
    with pytest.raises(BackendError, match=message) as caught:
        await complete(backend, [ask()])
    assert not caught.value.retryable
    assert not isinstance(caught.value, ContextLengthError)
    assert len(server.calls) == 1


@completing
@pytest.mark.parametrize(
    "trouble",
    [
        refused(400, "This model's maximum context length is 8192 tokens"),
        refused(400, "too much", "context_length_exceeded"),
        refused(400, "the request exceeds the available context size"),
        refused(413, "prompt is too long: 9 tokens > 8 maximum"),
    ],
)
async def test_a_prompt_too_long_is_told_as_such(
    complete: Complete, trouble: Step, backend: HttpBackend, server: Server
) -> None:
    server.script = [trouble]
    with pytest.raises(ContextLengthError) as caught:
        await complete(backend, [ask()])
    assert not caught.value.retryable
    assert len(server.calls) == 1


@completing
@pytest.mark.parametrize(
    "data", [b"not json", b"[]", b"{}", b'{"choices": []}', b'{"choices": [7]}', b"\xff"]
)
async def test_an_answer_that_is_none_is_told(
    complete: Complete, data: bytes, backend: HttpBackend, server: Server
) -> None:
    server.script = [sends(200, data)]
    with pytest.raises(BackendError, match="the server sent no answer"):
        await complete(backend, [ask()])


@completing
async def test_nobody_there_is_told(complete: Complete) -> None:
    backend = HttpBackend(base_url="http://127.0.0.1:9/v1", model="m", retries=1, pause=0)
    with pytest.raises(BackendError, match="the server failed") as caught:
        await complete(backend, [ask()])
    assert caught.value.retryable


@completing
async def test_a_server_that_says_nothing_is_given_up(complete: Complete, server: Server) -> None:
    done = threading.Event()
    server.script = [lambda _handler, _body: done.wait(30) and None]
    backend = HttpBackend(base_url=server.url, model="m", retries=0, timeout=0.1)
    try:
        with pytest.raises(BackendError, match="ReadTimeout"):
            await complete(backend, [ask()])
    finally:
        done.set()


@completing
async def test_one_failure_of_many_is_raised(
    complete: Complete, backend: HttpBackend, server: Server
) -> None:
    server.script = [refused(401, "bad key")]
    with pytest.raises(BackendError, match="bad key"):
        await complete(backend, [ask(str(i)) for i in range(12)])


@completing
async def test_logprobs_and_the_reason_of_the_end(
    complete: Complete, backend: HttpBackend, server: Server
) -> None:
    tokens = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]
    chat = said("ab", logprobs={"content": tokens}, finish_reason="length")
    plain = said("", text="ab", message=None, logprobs={"token_logprobs": [None, -2.0]})
    server.script = [
        lambda handler, _: handler.answer(200, chat),
        lambda handler, _: handler.answer(200, plain),
    ]
    (done,) = await complete(backend, [ask(logprobs=True)])
    assert (done.logprobs, done.finish_reason) == ((-0.5, -1.5), "length")
    (done,) = await complete(backend, [ask(logprobs=True, raw=True)])
    assert (done.logprobs, done.finish_reason) == ((-2.0,), "stop")
    assert [body["logprobs"] for body in server.bodies] == [True, 1]


@completing
async def test_extra_fields_go_over_the_body(complete: Complete, server: Server) -> None:
    backend = HttpBackend(
        base_url=server.url,
        model="m",
        headers={"x-team": "blue"},
        extra={"temperature": None, "reasoning_effort": "low"},
    )
    await complete(backend, [ask()])
    ((_, body, headers),) = server.calls
    assert "temperature" not in body and body["reasoning_effort"] == "low"
    assert headers["x-team"] == "blue" and "authorization" not in headers


def test_the_key_is_not_shown_and_the_address_is_checked(backend: HttpBackend) -> None:
    assert "secret" not in repr(backend)
    with pytest.raises(ValidationError, match="must begin with http"):
        HttpBackend(base_url="localhost:8000", model="m")


# --- streams ---------------------------------------------------------------------------------


@streaming
async def test_a_stream(stream: Stream, backend: HttpBackend, server: Server) -> None:
    server.script = [streams([event("Hel"), event("lo 👍"), *END])]
    chunks = await stream(backend, ask())
    assert [chunk.text for chunk in chunks] == ["Hel", "lo 👍", ""]
    assert chunks[-1].completion == Completion(
        text="Hello 👍", prompt_tokens=3, completion_tokens=2, model="m-1"
    )
    assert server.bodies[0]["stream"] is True


@streaming
async def test_events_may_be_cut_anywhere(
    stream: Stream, backend: HttpBackend, server: Server
) -> None:
    data = b": a comment\n\n" + b"".join([event("né"), event("e 👍"), *END])
    for size in (1, 2, 7, 50):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        server.script = [streams(pieces)]
        chunks = await stream(backend, ask())
        assert "".join(chunk.text for chunk in chunks) == "née 👍"


@streaming
async def test_a_stream_that_breaks_off_is_an_error(
    stream: Stream, backend: HttpBackend, server: Server
) -> None:
    server.script = [streams([event("Hel")], whole=False)]
    with pytest.raises(BackendError, match="the server failed") as caught:
        await stream(backend, ask())
    assert caught.value.retryable
    assert len(server.calls) == 1, "what was said already must not be said again"


@streaming
@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([event("Hel")], "ended before the answer did"),
        ([event("Hel"), b'data: {"error": {"message": "overloaded"}}\n\n'], "overloaded"),
        ([event("Hel"), b"data: {broken\n\n"], "sent no answer"),
    ],
)
async def test_a_stream_that_goes_wrong_is_an_error(
    stream: Stream, pieces: list[bytes], message: str, backend: HttpBackend, server: Server
) -> None:
    server.script = [streams(pieces)]
    with pytest.raises(BackendError, match=message):
        await stream(backend, ask())


@streaming
async def test_a_stream_that_does_not_begin_is_asked_for_again(
    stream: Stream, backend: HttpBackend, server: Server
) -> None:
    server.script = [refused(429, retry_after="0"), hangs_up, streams([event("ok"), *END])]
    chunks = await stream(backend, ask())
    assert chunks[-1].completion.text == "ok"
    assert len(server.calls) == 3


@streaming
async def test_a_stream_that_is_refused(
    stream: Stream, backend: HttpBackend, server: Server
) -> None:
    server.script = [refused(400, "too much", "context_length_exceeded")]
    with pytest.raises(ContextLengthError, match="too much"):
        await stream(backend, ask())


@streaming
async def test_a_server_that_does_not_stream(
    stream: Stream, backend: HttpBackend, server: Server
) -> None:
    with pytest.raises(BackendError, match="text/event-stream"):
        await stream(backend, ask())


def test_a_stream_may_be_left(backend: HttpBackend, server: Server) -> None:
    server.script = [streams([event("a"), event("b"), *END])]
    stream = backend.stream(ask())
    assert next(stream).text == "a"
    stream.close()  # type: ignore[attr-defined]
    assert backend.complete([ask("hi")])[0].text == "echo hi"


# --- pauses ----------------------------------------------------------------------------------


def failed(attempt: int, **headers: str) -> RetryCallState:
    request = httpx.Request("POST", "http://x")
    response = httpx.Response(429, headers=headers, request=request)
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    state.outcome = Future(attempt)
    state.outcome.set_exception(
        httpx.HTTPStatusError("refused", request=request, response=response)
    )
    return state


def test_a_server_says_how_long_to_wait() -> None:
    assert pause(failed(1, **{"retry-after": "7"}), 0.5) == 7
    assert pause(failed(1, **{"retry-after": "0.25"}), 0.5) == 0.25
    assert pause(failed(1, **{"retry-after": "86400"}), 0.5) == LONGEST_PAUSE
    date = formatdate(time() + 30, usegmt=True)
    assert 20 < pause(failed(1, **{"retry-after": date}), 0.5) <= 30
    past = formatdate(0, usegmt=True)
    assert pause(failed(1, **{"retry-after": past}), 0.5) == 0


@given(attempt=st.integers(1, 2000), header=st.sampled_from(["", "soon", "-3", "nan", "1e400"]))
def test_otherwise_pauses_grow_and_stay_bounded(attempt: int, header: str) -> None:
    assert (
        0
        <= pause(failed(attempt, **{"retry-after": header}), 0.5)
        <= min(LONGEST_PAUSE, 0.5 * 2 ** min(attempt, 20))
    )


# --- LangChain over the same server ----------------------------------------------------------


@contextmanager
def chat_model(server: Server, **settings: Any) -> Iterator[LangChainBackend]:
    with httpx.Client() as client:
        model = ChatOpenAI(
            base_url=server.url, model="m", api_key="k", http_client=client, **settings
        )
        yield LangChainBackend(model)


def test_a_langchain_model_is_a_backend(server: Server) -> None:
    with chat_model(server) as backend:
        (done,) = backend.complete([ask("hi", max_tokens=9, temperature=0.3, stop=("x",), seed=1)])
    assert done == Completion(text="echo hi", prompt_tokens=3, completion_tokens=2, model="m-1")
    (body,) = server.bodies
    assert (body["temperature"], body["stop"], body["seed"]) == (0.3, ["x"], 1)
    assert 9 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def test_a_langchain_model_streams(server: Server) -> None:
    server.script = [streams([event("Hel"), event("lo"), *END])]
    with chat_model(server) as backend:
        *chunks, last = backend.stream(ask())
    assert [chunk.text for chunk in chunks] == ["Hel", "lo"]
    assert last.completion is not None
    assert (last.completion.text, last.completion.prompt_tokens) == ("Hello", 3)


@pytest.mark.parametrize(
    ("trouble", "kind", "retryable"),
    [
        (refused(500), BackendError, True),
        (refused(401, "bad key"), BackendError, False),
        (refused(400, "too much", "context_length_exceeded"), ContextLengthError, False),
    ],
)
def test_what_a_langchain_model_raises_is_told_as_ours(
    trouble: Step, kind: type[BackendError], retryable: bool, server: Server
) -> None:
    server.script = [trouble]
    with chat_model(server, max_retries=0) as backend, pytest.raises(kind) as caught:
        backend.complete([ask()])
    assert caught.value.retryable is retryable
