"""The server before clients that are strangers, in a hurry, broken or gone; how it is started."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from served import serving, until
from typer.testing import CliRunner

from tersely.backends.engine import engine
from tersely.backends.local import LocalBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Capability, Chunk, Completion, Request
from tersely.errors import ConfigError
from tersely.middleware import serve as serving_module
from tersely.middleware.cli import app as command
from tersely.middleware.serve import app
from tersely.middleware.serve_body import HARMLESS, NEUTRAL, ChatBody, SotWishes
from tersely.weights import CausalLM

ALL: frozenset[Capability] = frozenset(
    {"alternatives", "grammar", "logprobs", "parallel", "prefill", "repetition_penalty", "stream"}
)
ASK = [{"role": "user", "content": "What is red?"}]
BODY = {"model": "m", "messages": ASK}


def script() -> ScriptedBackend:
    return ScriptedBackend(lambda request: "Blood is red.", capabilities=ALL)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(script(), name="m", api_key="sëcret", max_bytes=2000) as base:
        yield base


def post(url: str, path: str = "chat/completions", **given: Any) -> httpx.Response:
    headers = {"authorization": "Bearer sëcret".encode(), **given.pop("headers", {})}
    return httpx.post(f"{url}/{path}", headers=headers, **given)


def error_of(got: httpx.Response) -> dict[str, Any]:
    """The error of a response, which has OpenAI's shape."""
    body = got.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    found: dict[str, Any] = body["error"]
    return found


class TestTheDoor:
    @pytest.mark.parametrize("key", ["", "Bearer", "Bearer wrong", "Basic sëcret", "sëcret"])
    def test_a_wrong_key(self, url: str, key: str) -> None:
        got = post(url, json=BODY, headers={"authorization": key.encode()})
        assert got.status_code == 401
        assert error_of(got)["code"] == "invalid_api_key"
        assert got.headers["www-authenticate"] == "Bearer"
        assert httpx.get(f"{url}/models").status_code == 401

    def test_the_right_key(self, url: str) -> None:
        assert post(url, json=BODY).status_code == 200
        assert httpx.get(url.replace("/v1", "/health")).json() == {"status": "ok", "model": "m"}

    def test_the_sdk_tells_of_a_wrong_key(self, url: str) -> None:
        with (
            openai.OpenAI(base_url=url, api_key="wrong") as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()

    @pytest.mark.parametrize("size", [2001, 30_000, 100_000])
    @pytest.mark.parametrize("chunked", [True, False])
    def test_a_body_that_is_too_big(self, url: str, size: int, chunked: bool) -> None:
        kind = {"content-type": "application/json"}
        data = b" " * size
        got = post(url, content=iter([data]) if chunked else data, headers=kind)
        assert got.status_code == 413
        assert error_of(got)["code"] == "request_too_large"

    def test_a_body_that_just_fits(self, url: str) -> None:
        data = json.dumps(BODY).encode().ljust(2000)
        kind = {"content-type": "application/json; charset=utf-8"}
        assert post(url, content=data, headers=kind).status_code == 200

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"[]",
            b"null",
            b'"x"',
            b'{"model": NaN}',
            b"[" * 1900,
        ],
    )
    def test_what_is_no_json_object(self, url: str, data: bytes) -> None:
        got = post(url, content=data, headers={"content-type": "application/json"})
        assert got.status_code == 400
        assert error_of(got)["code"] == "invalid_json"

    def test_what_is_not_said_to_be_json(self, url: str) -> None:
        got = post(url, content=json.dumps(BODY).encode(), headers={"content-type": "text/plain"})
        assert got.status_code == 415
        assert "application/json" in error_of(got)["message"]

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("GET", "chat/completions", 405), ("POST", "models", 405), ("POST", "nothing", 404)],
    )
    def test_what_is_not_there(self, url: str, method: str, path: str, status: int) -> None:
        got = httpx.request(method, f"{url}/{path}")
        assert got.status_code == status
        error_of(got)

    def test_web_pages_stay_out(self, url: str) -> None:
        page = {"origin": "http://pages.example"}
        got = post(url, json=BODY, headers=page)
        assert got.status_code == 403
        assert "access-control-allow-origin" not in got.headers
        asked = {**page, "access-control-request-method": "POST"}
        assert httpx.options(f"{url}/chat/completions", headers=asked).status_code == 405

    def test_web_pages_that_are_named_come_in(self) -> None:
        page = {"origin": "http://pages.example"}
        with serving(script(), name="m", origins=["http://pages.example"]) as base:
            got = post(base, json=BODY, headers=page)
            other = post(base, json=BODY, headers={"origin": "http://other.example"})
            asked = {**page, "access-control-request-method": "POST"}
            before = httpx.options(f"{base}/chat/completions", headers=asked)
        assert got.headers["access-control-allow-origin"] == "http://pages.example"
        assert before.status_code == 200
        assert other.status_code == 403

    @pytest.mark.parametrize(
        "wrong", [{"api_key": " "}, {"max_bytes": 0}, {"max_tokens": 0}, {"keep_alive": 0.0}]
    )
    def test_settings_that_can_not_work(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            app(script(), **wrong)

    def test_without_starlette(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tersely.errors.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"tersely\[serve\]"):
            serving_module.app(script())


class Slow(ScriptedBackend):
    """Says one word, then waits; tells how many answers it was not left to end."""

    def __init__(self) -> None:
        super().__init__([])
        self.begun = 0
        self.broken_off = 0
        self.silent = asyncio.Event

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        await self._wait()
        return []

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        yield Chunk(text="One ")
        await self._wait()

    async def _wait(self) -> None:
        self.begun += 1
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise


class Late(ScriptedBackend):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__([])
        self.let = threading.Event()

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        while not self.let.is_set():
            await asyncio.sleep(0.01)
        yield Chunk(text="One", completion=Completion(text="One"))


class TestThoseWhoGo:
    @pytest.mark.parametrize("wish", [{}, {"stream": True}, {"stream": True, "n": 3}])
    def test_what_they_asked_for_is_broken_off(self, wish: dict[str, Any]) -> None:
        backend = Slow()
        answers = wish.get("n", 1)
        with serving(backend, name="m") as base:
            hang_up(base, {**BODY, **wish}, lambda: backend.begun == answers)
            until(lambda: backend.broken_off == answers)

    def test_points_are_broken_off(self) -> None:
        backend = Slow()
        ask = [{"role": "user", "content": "What are the benefits of sleep?"}]
        for stream in (True, False):
            wish = {"stream": stream, "sot": {"mode": "force"}, "messages": ask}
            backend.begun = backend.broken_off = 0
            with serving(backend, name="m") as base:
                hang_up(base, {**BODY, **wish}, lambda: backend.begun > 0)
                until(lambda: backend.broken_off == backend.begun)

    @pytest.mark.parametrize("stream", [True, False])
    def test_the_engine_lets_go(self, backend: LocalBackend, lm: CausalLM, stream: bool) -> None:
        running = engine(lm)
        steps: list[int] = []
        pace = threading.Event()

        def slowly(*_: Any) -> None:
            steps.append(1)
            pace.wait(0.02)

        hook = lm.model.register_forward_pre_hook(slowly)
        try:
            with serving(backend, name="m") as base:
                wish = {"stream": stream, "max_tokens": 200, "temperature": 1.0, "seed": 3}
                hang_up(base, {**BODY, **wish}, lambda: len(steps) > 3)
                until(lambda: not running._tickets)
        finally:
            hook.remove()
        assert len(steps) < 150

    def test_a_silent_stream_shows_that_it_lives(self) -> None:
        backend = Late()
        with (
            serving(backend, name="m", keep_alive=0.05) as base,
            httpx.stream(
                "POST", f"{base}/chat/completions", json={**BODY, "stream": True}, timeout=20
            ) as got,
        ):
            lines = got.iter_lines()
            assert next(lines) == ": keep-alive"
            backend.let.set()
            rest = [line for line in lines if line and not line.startswith(":")]
        assert json.loads(rest[1].removeprefix("data: "))["choices"][0]["delta"]["content"] == "One"
        assert rest[-1] == "data: [DONE]"

    def test_the_sdk_reads_over_signs_of_life(self) -> None:
        backend = Late()
        with (
            serving(backend, name="m", keep_alive=0.01) as base,
            openai.OpenAI(base_url=base, api_key="none") as client,
        ):
            stream = client.chat.completions.create(model="m", messages=ASK, stream=True)  # type: ignore[call-overload]
            backend.let.set()
            assert "".join(one.choices[0].delta.content or "" for one in stream) == "One"


def hang_up(url: str, body: dict[str, Any], when: Any) -> None:
    """Send a request, and close the connection when something has happened."""
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    data = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as line:
        line.sendall(head.encode() + data)
        until(when)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = sorted({*ChatBody.model_fields, "prompt", *HARMLESS, *NEUTRAL} - {"model"})
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]) | leaves},
        optional={"content": leaves | trees | st.lists(st.fixed_dictionaries({"type": leaves}))},
    ),
    max_size=3,
)
sots = st.dictionaries(st.sampled_from(sorted(SotWishes.model_fields)), leaves, max_size=3)
bodies = st.builds(
    lambda some, base: {**base, **some},
    st.dictionaries(st.sampled_from(NAMES), trees | messages | sots, max_size=4),
    st.sampled_from(
        [{}, {"model": "m"}, {**BODY, "prompt": "Red is"}, {"model": "m", "messages": ASK}]
    ),
)


@given(body=trees | bodies, path=st.sampled_from(["chat/completions", "completions"]))
@example(
    body={**BODY, "messages": [{"role": "user", "content": "\ud800"}]}, path="chat/completions"
)
@example(body={"model": "\ud800"}, path="completions")
@example(body={"model": "m", "\ud800" * 3000: 1, "messages": ASK}, path="chat/completions")
@example(body={**BODY, "metadata": {"a": 1e999}}, path="chat/completions")
@example(
    body={**BODY, "sot": True, "messages": [{"role": "system", "content": "x"}]},
    path="chat/completions",
)
def test_any_body_has_an_answer_or_a_well_formed_error(body: Any, path: str) -> None:
    got = asyncio.run(asked(body, path))
    assert got.status_code < 500, got.text
    if got.status_code != 200:
        error_of(got)
    elif got.headers["content-type"] == "text/event-stream":
        events = [line.removeprefix("data: ") for line in got.text.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        assert all(json.loads(one)["object"] for one in events[:-1])
    else:
        assert got.json()["choices"]


async def asked(body: Any, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app(script(), name="m"))
    async with httpx.AsyncClient(transport=transport, base_url="http://x/v1") as client:
        data = json.dumps(body).encode()
        kind = {"content-type": "application/json"}
        return await client.post(f"/{path}", content=data, headers=kind)


class TestTheCommand:
    def test_serves_until_it_is_interrupted(self, tiny_llama: Path) -> None:
        with started(str(tiny_llama), "--name", "tiny", "--max-tokens", "9") as (process, told):
            assert told["model"] == "tiny" and told["needs_key"] is False
            with openai.OpenAI(base_url=told["base_url"], api_key="none") as client:
                made = client.chat.completions.create(
                    model="tiny",
                    messages=ASK,
                    temperature=0,  # type: ignore[arg-type]
                )
            assert made.usage is not None and 0 < made.usage.completion_tokens <= 9
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            (["--host", "0.0.0.0"], "--api-key-env"),
            (["--host", ""], "--api-key-env"),
            (["--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY"),
            (["--backend", "nope"], "no backend named"),
            (["--set", "loud"], "name=value"),
            (["--set", "loud=1"], "loud"),
            (["--batch-size", "0"], "batch_size"),
            (["--pipeline", "no-such.yaml"], "no-such.yaml"),
        ],
    )
    def test_wrong_options(self, options: list[str], why: str) -> None:
        done = CliRunner().invoke(command, ["serve", *options])
        assert done.exit_code == 1
        assert why in done.stderr

    def test_a_port_that_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = CliRunner().invoke(command, ["serve", "--port", str(port)])
        assert done.exit_code == 1
        assert f"port {port}" in done.stderr


class started:  # noqa: N801
    """`tersely serve` as a process, and what it told when it was ready."""

    def __init__(self, *options: str) -> None:
        code = "from tersely.middleware.cli import main; main()"
        self._command = [sys.executable, "-c", code, "serve", *options, "--port", "0", "--json"]

    def __enter__(self) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return self._process, json.loads(self._process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Iterator[openai.OpenAI]:
    with (
        serving(LocalBackend()) as base,
        openai.OpenAI(base_url=base, api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.mark.model
class TestARealModel:
    def chat(self, real: openai.OpenAI, text: str, **wishes: Any) -> Any:
        said: Any = [{"role": "user", "content": text}]
        defaults = {"temperature": 0, "max_tokens": 12}
        return real.chat.completions.create(
            model="smollm2", messages=said, **{**defaults, **wishes}
        )

    def test_streams_what_it_answers(self, real: openai.OpenAI) -> None:
        made = self.chat(real, "What is the capital of France?")
        pieces = self.chat(real, "What is the capital of France?", stream=True)
        text = "".join(one.choices[0].delta.content or "" for one in pieces)
        assert "Paris" in made.choices[0].message.content
        assert text == made.choices[0].message.content

    def test_json(self, real: openai.OpenAI) -> None:
        form = {"type": "json_object"}
        made = self.chat(real, "Tell of a cat, as JSON.", response_format=form, max_tokens=60)
        if made.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(made.choices[0].message.content), dict)
        assert made.choices[0].message.content.startswith("{")

    def test_a_prompt_that_is_too_long(self, real: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            self.chat(real, "red " * 20_000)
        assert refused.value.code == "context_length_exceeded"

    def test_going_on(self, real: openai.OpenAI) -> None:
        said: Any = [
            {"role": "user", "content": "What is the capital of France?"},
            {"role": "assistant", "content": "The capital of France is"},
        ]
        made = real.chat.completions.create(
            model="smollm2", messages=said, temperature=0, max_tokens=4
        )
        assert (made.choices[0].message.content or "").startswith(" Paris")

    def test_points(self, real: openai.OpenAI) -> None:
        ask: Any = [{"role": "user", "content": "What are the benefits of sleep?"}]
        *said, last = real.chat.completions.create(
            model="smollm2",
            messages=ask,
            temperature=0,
            max_tokens=120,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"sot": {"mode": "force", "max_points": 3}},
        )
        text = "".join(one.choices[0].delta.content or "" for one in said)
        told = (last.model_extra or {})["sot"]
        assert text.strip()
        assert last.usage is not None
        assert last.usage.completion_tokens == sum(call["completion"] for call in told["calls"])
