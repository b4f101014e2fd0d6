"""Vectors over HTTP, as vLLM takes them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from script_server import Handler, Server, said, serving

from tersely.backends.http import HttpBackend
from tersely.contracts import Request
from tersely.errors import ConfigError
from tersely.prompt import Prompt, Segment
from tersely.soft import KVPrefix, SoftPrompt

ABLE = frozenset({"embeds", "stream"})


def vectors(length: int, dtype: str = "bfloat16") -> SoftPrompt:
    import torch

    return SoftPrompt(torch.arange(length * 3).reshape(length, 3).to(getattr(torch, dtype)))


def ask(one: SoftPrompt, other: SoftPrompt, **wishes: Any) -> Request:
    segments = (
        Segment(text="You are brief.", role="system", kind="instruction"),
        Segment(text="Read ", turn=1, path=(1,)),
        Segment(text="[note]", kind="soft", turn=1, path=(1,), soft=one),
        Segment(text=" and ", turn=1, path=(1,)),
        Segment(text="[note]", kind="soft", turn=1, path=(1,), soft=other),
    )
    return Request(prompt=Prompt(segments), **wishes)


def yes(handler: Handler, _body: Any) -> None:
    handler.answer(200, said("yes"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.play = yes
        yield running


def backend(server: Server, **settings: Any) -> HttpBackend:
    known: dict[str, Any] = {"engine": "vllm", "can": ABLE, **settings}
    return HttpBackend(base_url=server.url, model="m", pause=0, **known)


async def test_vectors_are_parts_of_a_message(server: Server) -> None:
    import torch

    one, two = vectors(2), vectors(4, "float32")
    request = ask(one, two)
    assert backend(server).complete([request])[0].text == "yes"
    await backend(server).acomplete([request])
    for body in server.bodies:
        system, user = body["messages"]
        assert system == {"role": "system", "content": "You are brief."}
        assert [part["type"] for part in user["content"]] == ["text", "prompt_embeds"] * 2
        assert [user["content"][i]["text"] for i in (0, 2)] == ["Read ", " and "]
        for part, soft in zip(user["content"][1::2], (one, two), strict=True):
            found = torch.load(BytesIO(b64decode(part["data"])), weights_only=True)
            assert found.dtype == soft.vectors.dtype and torch.equal(found, soft.vectors)


def test_text_alone_is_sent_as_ever(server: Server) -> None:
    backend(server).complete([Request(prompt=Prompt((Segment(text="hi"),)))])
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"can": None}, "has no embeds: set `engine`"),
        ({"engine": "sglang"}, "has no embeds"),
        ({"engine": "openai"}, "has no embeds"),
    ],
)
def test_who_was_not_started_so_is_not_asked(
    server: Server, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        backend(server, **settings).complete([ask(vectors(2), vectors(2))])
    assert server.calls == []


def test_what_can_not_be_sent_is_refused(server: Server) -> None:
    import torch

    two = (vectors(2), vectors(2))
    prefix = KVPrefix([(torch.ones(1, 2, 3), torch.ones(1, 2, 3))])
    named = SoftPrompt(torch.ones(2, 3), "smollm2")
    empty = Request(prompt=Prompt((Segment(text="[note]", kind="soft"),)))
    wrong = {
        "in chat messages only": ask(*two, raw=True),
        "has nothing to stand there": empty,
        "has no kv_prefix": ask(*two, kv_prefix=prefix),
        "made for the model 'smollm2', and 'm'": ask(named, named),
    }
    able = backend(server, can=ABLE | {"kv_prefix"})
    for message, request in wrong.items():
        with pytest.raises(ConfigError, match=message):
            able.complete([request])
        with pytest.raises(ConfigError, match=message):
            [*able.stream(request)]
    assert server.calls == []
