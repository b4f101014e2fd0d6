"""What a backend can do is found out by asking it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from script_server import END, Handler, Server, Step, event, said, serving

from tersely.backends.http import HttpBackend
from tersely.backends.langchain import LangChainBackend
from tersely.backends.local import LocalBackend
from tersely.backends.probe import HALF_SAID, aprobe, probe
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Request
from tersely.errors import BackendError

ALL = {"alternatives", "logprobs", "parallel", "prefill", "stream"}


class Playing:
    """A server with faults: the names of what it lacks, and how it refuses what it is asked."""

    def __init__(self, *lacks: str, refuses: dict[str, tuple[int, str]] | None = None) -> None:
        self.lacks = lacks
        self.refuses = refuses or {}

    def __call__(self, handler: Handler, body: Any) -> None:
        for field, (status, message) in self.refuses.items():
            if body.get(field):
                handler.answer(status, {"error": {"message": message}})
                return
        text = self.text(body)
        told = self.told(body, text)
        if body.get("stream") and "stream" not in self.lacks:
            told = None if "streamed logprobs" in self.lacks else told
            handler.events([event(text, logprobs=told), *END])
        else:
            handler.answer(200, said(text, logprobs=told))

    def text(self, body: Any) -> str:
        if body["messages"][-1]["role"] != "assistant":
            return "Hello"
        if "echo" in self.lacks:
            return HALF_SAID + "is."
        return "Paris." if "prefill" in self.lacks else "is."

    def told(self, body: Any, text: str) -> dict[str, Any] | None:
        if not body.get("logprobs") or "logprobs" in self.lacks:
            return None
        entry = {"token": text, "logprob": -0.5, "bytes": [*text.encode()]}
        tops = [entry, {"token": "Hi", "logprob": -1.5, "bytes": [*b"Hi"]}]
        several = body.get("top_logprobs") and "alternatives" not in self.lacks
        return {"content": [{**entry, "top_logprobs": tops if several else []}]}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


async def sync(backend: HttpBackend) -> frozenset[str]:
    return frozenset(backend.probe())


async def awaited(backend: HttpBackend) -> frozenset[str]:
    return frozenset(await backend.aprobe())


either = pytest.mark.parametrize("found", [sync, awaited])


def backend(server: Server, play: Step, **settings: Any) -> HttpBackend:
    server.script = [play] * 30
    return HttpBackend(base_url=server.url, model="m", pause=0, retries=1, **settings)


@either
@pytest.mark.parametrize(
    ("play", "lacking", "calls"),
    [
        (Playing(), set(), 3),
        (Playing("logprobs"), {"logprobs", "alternatives"}, 3),
        (Playing("alternatives"), {"alternatives"}, 3),
        (Playing("stream"), {"stream"}, 3),
        (Playing("streamed logprobs"), {"stream"}, 3),
        (Playing("prefill"), {"prefill"}, 3),
        (Playing("echo"), {"prefill"}, 3),
        (
            Playing(refuses={"logprobs": (403, "You may not request logprobs from this model.")}),
            {"logprobs", "alternatives"},
            5,
        ),
        (Playing(refuses={"top_logprobs": (400, "unknown field")}), {"alternatives"}, 5),
        (
            Playing(refuses={"logprobs": (500, "logprobs is not supported: logits_all=False")}),
            {"logprobs", "alternatives"},
            7,
        ),
        (Playing(refuses={"stream": (501, "no streams")}), {"stream"}, 4),
    ],
)
async def test_what_is_refused_or_left_out_is_not_there(
    found: Any, server: Server, play: Playing, lacking: set[str], calls: int
) -> None:
    assert await found(backend(server, play)) == ALL - lacking
    assert len(server.calls) <= calls
    assert all(body["max_tokens"] <= 3 for body in server.bodies)


@either
async def test_the_way_to_go_on_is_the_one_that_was_set(found: Any, server: Server) -> None:
    def only_vllm(handler: Handler, body: Any) -> None:
        Playing(*() if "continue_final_message" in body else ("prefill",))(handler, body)

    assert "prefill" not in await found(backend(server, only_vllm))
    assert "prefill" in await found(backend(server, only_vllm, prefill="vllm"))
    assert "prefill" not in await found(backend(server, Playing("prefill"), prefill="vllm"))


@either
@pytest.mark.parametrize(
    ("refuses", "message"),
    [
        ({"model": (401, "bad key")}, "bad key"),
        ({"model": (400, "bad model")}, "bad model"),
        ({"logprobs": (500, "we are down")}, "we are down"),
        ({"stream": (429, "too fast")}, "too fast"),
    ],
)
async def test_other_errors_are_raised(
    found: Any, server: Server, refuses: dict[str, tuple[int, str]], message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        await found(backend(server, Playing(refuses=refuses)))


def test_what_was_found_can_be_kept(server: Server) -> None:
    first = backend(server, Playing("alternatives", "prefill"))
    kept = first.model_copy(update={"can": first.probe()})
    assert kept.capabilities == {"logprobs", "parallel", "stream"}


def test_a_chat_model_without_logprobs() -> None:
    chat = LangChainBackend(FakeListChatModel(responses=["hello"]))
    assert probe(chat) == {"parallel", "stream"}


async def test_what_is_not_probed_stays_declared() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return "is"

    scripted = ScriptedBackend(
        answer, capabilities=frozenset({"embeds", "logprobs"}), mix=lambda *_: "x"
    )
    assert probe(scripted) == {"embeds", "mixes", "stream", "prefill"}
    assert await aprobe(scripted) == probe(scripted)
    assert len(asked) == 9


@pytest.mark.model
def test_the_embedded_model_can_all(smollm2: Path) -> None:
    assert probe(LocalBackend()) == LocalBackend.capabilities
