"""Vectors over HTTP, as vLLM and SGLang take them."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from script_server import Handler, Server, said, serving, streams

from tersely.backends.http import HttpBackend
from tersely.backends.local import LocalBackend
from tersely.contracts import Request
from tersely.errors import BackendError, ConfigError, UnknownName
from tersely.prompt import Prompt, Segment
from tersely.soft import KVPrefix, SoftPrompt
from tersely.weights import causal_lm

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
        ({"engine": "sglang"}, "for vectors in SGLang set `weights` too"),
        ({"engine": "sglang", "weights": "smollm2", "can": None}, "has no embeds"),
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


WEIGHTS = "smollm2"


def whole(server: Server, engine: str) -> HttpBackend:
    """A server whose model lies here too."""
    return backend(server, engine=engine, weights=WEIGHTS)


def about_kettles(**wishes: Any) -> Request:
    """A request whose vectors are the embeddings of a text, known by the server's name for it."""
    own = LocalBackend(model=WEIGHTS).embed(KETTLE)
    note = Segment(text="[note]", kind="soft", soft=SoftPrompt(own.vectors, "m"))
    return Request(
        prompt=Prompt((note, Segment(text=" What colour is it?", kind="question"))), **wishes
    )


KETTLE = "The kettle is blue."


def in_words(request: Request) -> Any:
    """The embeddings of the same prompt with the text in the place of its vectors."""
    local = LocalBackend(model=WEIGHTS)
    plain = request.prompt.with_segments({0: Segment(text=KETTLE)})
    return embedded(local.encode(replace(request, prompt=plain)))


def embedded(tokens: list[int]) -> Any:
    import torch

    return causal_lm(WEIGHTS).model.get_input_embeddings()(torch.tensor(tokens))


def completed(handler: Handler, _body: Any) -> None:
    """vLLM's answer to a completion."""
    handler.answer(
        200,
        {
            "choices": [{"text": " blue", "finish_reason": "length"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 1},
        },
    )


@pytest.mark.parametrize("raw", [True, False])
async def test_vllm_reads_whole_prompts_of_embeddings(server: Server, raw: bool) -> None:
    import torch

    server.play = completed
    request = about_kettles(raw=raw, logprobs=True)
    (done,) = whole(server, "vllm").complete([request])
    await whole(server, "vllm").acomplete([request])
    assert (done.text, done.prompt_tokens) == (" blue", 9)
    for path, body, _ in server.calls:
        assert path == "/v1/completions"
        assert "prompt" not in body and "messages" not in body and body["logprobs"] == 1
        found = torch.load(BytesIO(b64decode(body["prompt_embeds"])), weights_only=True)
        assert torch.equal(found, in_words(request))


def test_text_alone_needs_no_embeddings(server: Server) -> None:
    whole(server, "vllm").complete([Request(prompt=Prompt((Segment(text="hi"),)))])
    assert server.calls[0][0] == "/v1/chat/completions"


def piece(text: str, tokens: list[str], finish: Any = None, ids: int | None = None) -> Any:
    """A piece of SGLang's own answer: all that was said so far."""
    told = [[-0.5, 7, token] for token in tokens][-(ids or len(tokens)) :]
    return {
        "text": text,
        "output_ids": [7] * (len(tokens) if ids is None else ids),
        "meta_info": {
            "prompt_tokens": 9,
            "completion_tokens": len(tokens),
            "cached_tokens": 2,
            "finish_reason": finish,
            "output_token_logprobs": told,
            "output_top_logprobs": [
                [row, [-1.5, 8, "x"]] for row in (told[-ids:] if ids else told)
            ],
        },
    }


def sent(part: Any) -> bytes:
    return f"data: {json.dumps(part)}\n\n".encode()


ENDED = {"type": "stop", "matched": 2}


@pytest.mark.parametrize("raw", [True, False])
async def test_sglang_reads_embeddings_in_its_own_way(server: Server, raw: bool) -> None:
    import torch

    server.play = lambda handler, _body: handler.answer(200, piece("It is", ["It", " is"], ENDED))
    wishes: dict[str, Any] = {"stop": ("\n",), "repetition_penalty": 1.2, "grammar": "root ::= x"}
    request = about_kettles(raw=raw, max_tokens=5, alternatives=1, **wishes)
    (done,) = whole(server, "sglang").complete([request])
    assert (await whole(server, "sglang").acomplete([request])) == [done]
    for path, body, _ in server.calls:
        assert path == "/generate"
        assert torch.equal(torch.tensor(body["input_embeds"]), in_words(request).float())
        assert body["sampling_params"] == {
            "max_new_tokens": 5,
            "temperature": 0.0,
            "top_p": 1.0,
            "stop": ["\n"],
            "ebnf": "root ::= x",
            "repetition_penalty": 1.2,
        }
        assert body["return_logprob"] and body["top_logprobs_num"] == 1
    assert (done.text, done.finish_reason) == ("It is", "stop")
    assert (done.tokens, done.logprobs) == (("It", " is"), (-0.5, -0.5))
    assert done.alternatives == ({"It": -0.5}, {" is": -0.5})
    assert (done.prompt_tokens, done.cached_tokens, done.completion_tokens) == (9, 2, 2)


@pytest.mark.parametrize("news", [False, True], ids=["all so far", "only what is new"])
async def test_sglang_streams(server: Server, news: bool) -> None:
    texts = ("It", " is" if news else "It is", " is" if news else "It is is")
    tokens = ["It", " is", " is"]
    pieces = [
        piece(text, tokens[: i + 1], ENDED if i == 2 else None, 1 if news else None)
        for i, text in enumerate(texts)
    ]
    server.play = streams([*map(sent, pieces), b"data: [DONE]\n\n"])
    request = about_kettles(logprobs=True)
    for chunks in (
        [*whole(server, "sglang").stream(request)],
        [chunk async for chunk in whole(server, "sglang").astream(request)],
    ):
        assert [chunk.text for chunk in chunks] == ["It", " is", " is", ""]
        assert [chunk.tokens for chunk in chunks] == [("It",), (" is",), (" is",), ()]
        assert chunks[-1].completion is not None
        assert chunks[-1].completion.text == "It is is"
    assert all(body["stream"] for body in server.bodies)


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ("vllm", "You must set `--enable-prompt-embeds` to input `prompt_embeds`."),
        ("sglang", "Please add `--disable-radix-cache` when you launch the server"),
    ],
)
def test_a_server_that_was_not_started_so_tells_it(server: Server, engine: str, told: str) -> None:
    server.play = lambda handler, _body: handler.answer(400, {"error": {"message": told}})
    with pytest.raises(BackendError, match=told[:20]):
        whole(server, engine).complete([about_kettles()])
    assert len(server.calls) == 1


def test_sglang_tells_of_what_it_broke_off(server: Server) -> None:
    ended = {"type": "abort", "message": "no memory", "status_code": 503}
    server.play = streams([sent(piece("It", ["It"])), sent(piece("It", ["It"], ended))])
    with pytest.raises(BackendError, match="no memory"):
        [*whole(server, "sglang").stream(about_kettles())]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_vectors_must_be_the_model_s(server: Server, engine: str) -> None:
    import torch

    able = whole(server, engine)
    other = Segment(text="[note]", kind="soft", soft=SoftPrompt(torch.ones(2, 576), "other"))
    wrong = {
        "have 3 values, and those of 'smollm2' have 576": ask(vectors(2), vectors(2)),
        "made for the model 'other', and 'm'": Request(prompt=Prompt((other,))),
    }
    for message, request in wrong.items():
        with pytest.raises(ConfigError, match=message):
            able.complete([request])
    with pytest.raises(UnknownName):
        able.model_copy(update={"weights": "smolm2"}).complete([about_kettles()])
    assert server.calls == []
