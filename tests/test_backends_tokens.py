"""Tokens, what else was likely, and answers gone on with: local, over HTTP, and by a script."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_openai import ChatOpenAI
from script_server import END, Server, Step, event, said, serving, streams

from tersely.backends.decode import Answer
from tersely.backends.detokenize import BROKEN, Detokenizer
from tersely.backends.dialects import Prefill
from tersely.backends.http import HttpBackend
from tersely.backends.langchain import LangChainBackend
from tersely.backends.local import LocalBackend
from tersely.backends.scripted import ScriptedBackend
from tersely.backends.spelling import Tokens, by_text, mended
from tersely.contracts import Backend, Chunk, Completion, Request
from tersely.errors import BackendError, ConfigError
from tersely.prompt import Prompt, Segment
from tersely.weights import CausalLM

TEXTS = ["The quick", "Ein schöner Tag in Zürich: die", "東京の", "12"]


def ask(text: str, **wishes: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **{"max_tokens": 20, **wishes})


def half_said(text: str, **wishes: Any) -> Request:
    prompt = Prompt((Segment(text="hi"), Segment(text=text, role="assistant", turn=1)))
    return Request(prompt=prompt, **wishes)


def heard(chunks: list[Chunk]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    tokens = tuple(token for chunk in chunks for token in chunk.tokens)
    return tokens, tuple(value for chunk in chunks for value in chunk.logprobs)


# --- the local engine: tokens ----------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_are_together_the_answer(backend: LocalBackend, temperature: float) -> None:
    requests = [
        ask(text, temperature=temperature, seed=seed, logprobs=True, max_tokens=40)
        for seed, text in enumerate(TEXTS)
    ]
    for done in backend.complete(requests):
        assert "".join(done.tokens) == done.text
        assert len(done.tokens) == len(done.logprobs) == done.completion_tokens
        assert done.alternatives == ()


def test_tokens_are_not_told_unasked(backend: LocalBackend) -> None:
    done, told = backend.complete([ask("The quick"), ask("The quick", logprobs=True)])
    assert (done.tokens, done.logprobs, done.alternatives) == ((), (), ())
    assert done.text == told.text
    assert all(chunk.tokens == chunk.logprobs == () for chunk in backend.stream(ask("The quick")))


def test_a_stop_string_cuts_the_text_and_not_the_tokens(backend: LocalBackend) -> None:
    (whole,) = backend.complete([ask("The quick", max_tokens=30, logprobs=True)])
    stop = whole.text[8:11]
    (done,) = backend.complete([ask("The quick", max_tokens=30, logprobs=True, stop=(stop,))])
    assert done.tokens == whole.tokens[: len(done.tokens)]
    assert "".join(done.tokens).partition(stop)[:2] == (done.text, stop)


@pytest.mark.parametrize("stop", [(), ("the", "o"), ("zzzz",)])
def test_a_stream_tells_the_tokens_since_the_chunk_before(
    backend: LocalBackend, stop: tuple[str, ...]
) -> None:
    for seed, text in enumerate(TEXTS):
        request = ask(text, stop=stop, temperature=1.0, seed=seed, logprobs=True, max_tokens=40)
        chunks = list(backend.stream(request))
        whole = chunks[-1].completion
        assert whole is not None
        assert heard(chunks) == (whole.tokens, whole.logprobs)
        text_so_far = tokens_so_far = ""
        for chunk in chunks[:-1]:
            text_so_far += chunk.text
            tokens_so_far += "".join(chunk.tokens)
            assert tokens_so_far.startswith(text_so_far)


def torn(lm: CausalLM, text: str) -> list[int]:
    """A character as tokens of one byte each."""
    from tokenizers.pre_tokenizers import ByteLevel

    ((spelled, _),) = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return [lm.tokenizer.convert_tokens_to_ids(byte) for byte in spelled]


def test_a_character_belongs_to_the_token_that_completes_it(
    backend: LocalBackend, lm: CausalLM
) -> None:
    answer = Answer.to(ask("x", logprobs=True), [1], lm.tokenizer)
    for token in [*torn(lm, "a"), *torn(lm, "👍"), *torn(lm, "b")]:
        answer.take(token, -0.5, ends=False)
    answer.take(0, 0.0, ends=True)
    done = answer.completion("m")
    assert done.tokens == ("a", "", "", "", "👍", "b")
    assert (done.text, done.logprobs) == ("a👍b", (-0.5,) * 6)


def test_what_is_whole_in_the_end_belongs_to_the_last_token(
    backend: LocalBackend, lm: CausalLM
) -> None:
    spelled = {token: lm.tokenizer.decode([token]) for token in range(len(lm.tokenizer))}
    half = next(t for t, text in spelled.items() if text[-1:] == BROKEN and text.strip(BROKEN))
    for end in ({"max_tokens": 1}, {}):
        answer = Answer.to(ask("x", logprobs=True, **end), [1], lm.tokenizer)
        answer.take(half, 0.0, ends=False)
        if not end:
            answer.take(0, 0.0, ends=True)
        done = answer.completion("m")
        assert done.tokens == (done.text,) == (spelled[half].rstrip(BROKEN),)
        assert answer.last("m").tokens == done.tokens


@given(tokens=st.lists(st.integers(0, 319), min_size=1, max_size=15))
@settings(max_examples=100)
def test_peeking_foretells_a_push(lm: CausalLM, tokens: list[int]) -> None:
    text = Detokenizer(lambda ids: lm.tokenizer.decode(ids, skip_special_tokens=True))
    for token in tokens:
        assert text.peek(token) == text.peek(token) == text.push(token)


# --- the local engine: alternatives ----------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_alternatives_are_the_likeliest_whatever_the_temperature(
    backend: LocalBackend, lm: CausalLM, temperature: float
) -> None:
    import torch

    requests = [ask(text, temperature=temperature, seed=1, alternatives=5) for text in TEXTS]
    *told, other = backend.complete([*requests, ask("12", logprobs=True)])
    assert other.alternatives == () and other.logprobs
    for request, done in zip(requests, told, strict=True):
        assert len(done.alternatives) == len(done.tokens) == len(done.logprobs)
        scores = lm.model(torch.tensor([backend.encode(request)])).logits[0, -1].softmax(-1)
        expected: dict[str, float] = {}
        for chance, token in zip(*scores.topk(5), strict=True):
            text = lm.tokenizer.decode([token])
            text = "" if text.endswith(BROKEN) else text
            expected[text] = expected.get(text, 0.0) + float(chance)
        found = {text: math.exp(value) for text, value in done.alternatives[0].items()}
        assert found == pytest.approx(expected, abs=1e-4)
        assert [*found.values()] == sorted(found.values(), reverse=True)
    assert max(len(done.alternatives[0]) for done in told) > 2


def test_the_token_that_was_taken_greedily_is_among_them(backend: LocalBackend) -> None:
    seen = 0
    for done in backend.complete([ask(text, alternatives=2, max_tokens=40) for text in TEXTS]):
        for text, logprob, likeliest in zip(
            done.tokens, done.logprobs, done.alternatives, strict=True
        ):
            if text:  # pieces of characters have no text of their own, special tokens a name
                assert likeliest[text] == pytest.approx(logprob, abs=1e-4)
                seen += 1
    assert seen > 40


def test_all_there_are_add_up_to_certainty(backend: LocalBackend) -> None:
    (done,) = backend.complete([ask("The quick", alternatives=10_000, max_tokens=2)])
    for likeliest in done.alternatives:
        assert sum(math.exp(value) for value in likeliest.values()) == pytest.approx(1, abs=1e-3)
        assert "<|end|>" in likeliest, "how likely the end was"


def test_fewer_than_none_is_refused(backend: LocalBackend) -> None:
    with pytest.raises(ConfigError, match="alternatives must not be below 0, was -1"):
        backend.complete([ask("x", alternatives=-1)])


@given(pairs=st.lists(st.tuples(st.sampled_from("abc"), st.floats(-20, 0)), max_size=8))
def test_tokens_of_one_text_are_added_up(pairs: list[tuple[str, float]]) -> None:
    found = by_text(pairs)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    for text, value in found.items():
        chances = [math.exp(one) for other, one in pairs if other == text]
        assert math.exp(value) == pytest.approx(sum(chances))


# --- going on with an answer -----------------------------------------------------------------


def test_a_last_turn_of_the_assistant_is_left_open(backend: LocalBackend, lm: CausalLM) -> None:
    assert "prefill" in backend.capabilities
    opened = "<|user|>hi<|end|><|assistant|>"
    for text in ("", "It is", "It is <b>", "line\nline"):
        assert lm.tokenizer.decode(backend.encode(half_said(text))) == opened + text
    assert lm.tokenizer.decode(backend.encode(half_said("It is", raw=True))) == "hi\n\nIt is"


def test_what_was_said_is_not_said_again(backend: LocalBackend, lm: CausalLM) -> None:
    first = half_said("", max_tokens=10)
    (whole,) = backend.complete([first])
    begun = replace(whole, text=whole.text[:6]).text
    text = "<|user|>hi<|end|><|assistant|>" + begun
    (raw,) = backend.complete([ask(text, raw=True, max_tokens=10)])
    (done,) = backend.complete([half_said(begun, max_tokens=10)])
    assert done.text == raw.text


@pytest.mark.model
def test_the_embedded_model_goes_on(smollm2: Path) -> None:
    prompt = Prompt(
        (
            Segment(text="What is the capital of France?"),
            Segment(text="The capital of France is", role="assistant", turn=1),
        )
    )
    (done,) = LocalBackend().complete([Request(prompt=prompt, max_tokens=2)])
    assert done.text.startswith(" Paris")


# --- over HTTP -------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def http(server: Server) -> HttpBackend:
    return HttpBackend(base_url=server.url, model="m", pause=0)


def answers(body: dict[str, Any]) -> Step:
    return lambda handler, _: handler.answer(200, body)


def entry(data: bytes, logprob: float, **more: Any) -> dict[str, Any]:
    text = data.decode(errors="replace")
    return {"token": text, "logprob": logprob, "bytes": [*data], **more}


async def complete_sync(backend: Backend, request: Request) -> Completion:
    return backend.complete([request])[0]


async def complete_async(backend: Backend, request: Request) -> Completion:
    return (await backend.acomplete([request]))[0]


async def stream_sync(backend: Backend, request: Request) -> list[Chunk]:
    return list(backend.stream(request))


async def stream_async(backend: Backend, request: Request) -> list[Chunk]:
    return [chunk async for chunk in backend.astream(request)]


completing = pytest.mark.parametrize("complete", [complete_sync, complete_async])
streaming = pytest.mark.parametrize("stream", [stream_sync, stream_async])
THUMB = "👍".encode()


@completing
async def test_chat_tells_tokens_by_their_bytes(
    complete: Any, http: HttpBackend, server: Server
) -> None:
    tops = [entry(b"a", -0.5), entry(b"b", -1.0), entry(b"c", -9.0)]
    told = [
        entry(b"a", -0.5, top_logprobs=tops),
        entry(THUMB[:1], -1.0, top_logprobs=[entry(THUMB[:1], -1.0), entry(b"z", -2.0)]),
        entry(THUMB[1:], -1.5, top_logprobs=[entry(THUMB[1:], -1.5), entry(b"z", -3.0)]),
    ]
    server.script = [answers(said("a👍", logprobs={"content": told}))]
    done = await complete(http, ask("hi", alternatives=2))
    assert done.tokens == ("a", "", "👍")
    assert done.logprobs == (-0.5, -1.0, -1.5)
    assert done.alternatives[0] == {"a": -0.5, "b": -1.0}
    assert done.alternatives[1] == {"": -1.0, "z": -2.0}
    assert done.alternatives[2]["👍"] == -1.5
    (body,) = server.bodies
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


@completing
async def test_completions_tell_columns(complete: Any, http: HttpBackend, server: Server) -> None:
    told = {
        "tokens": ["<s>", " a", " b"],
        "token_logprobs": [None, -0.5, -0.25],
        "top_logprobs": [None, {" a": -0.5, " x": -1.5, " y": -0.75}, {" b": -0.25}],
    }
    server.script = [answers(said("", text=" a b", message=None, logprobs=told))]
    done = await complete(http, ask("hi", raw=True, alternatives=2))
    assert (done.tokens, done.logprobs) == ((" a", " b"), (-0.5, -0.25))
    assert done.alternatives == ({" a": -0.5, " y": -0.75}, {" b": -0.25})
    assert server.bodies[0]["logprobs"] == 2


@completing
async def test_alternatives_not_asked_for_are_not_told(
    complete: Any, http: HttpBackend, server: Server
) -> None:
    told = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}]}
    server.script = [answers(said("", text="a", message=None, logprobs=told))]
    done = await complete(http, ask("hi", raw=True, logprobs=True))
    assert (done.tokens, done.alternatives) == (("a",), ())
    server.script = [answers(said("a", logprobs={"content": [entry(b"a", -0.5)]}))]
    done = await complete(http, ask("hi", alternatives=3))
    assert (done.tokens, done.alternatives) == (("a",), ()), "the server left them out"


@streaming
async def test_a_stream_over_http_tells_tokens(
    stream: Any, http: HttpBackend, server: Server
) -> None:
    server.script = [
        streams(
            [
                event(""),
                event("a", logprobs={"content": [entry(b"a", -0.5)]}),
                event("", logprobs={"content": [entry(THUMB[:2], -1.0)]}),
                event("👍", logprobs={"content": [entry(THUMB[2:], -1.5)]}),
                event("", logprobs={"content": [entry(b"", -0.1)]}),
                *END,
            ]
        )
    ]
    chunks = await stream(http, ask("hi", logprobs=True))
    assert [chunk.tokens for chunk in chunks] == [("a",), ("", "👍"), ("",)]
    assert [chunk.logprobs for chunk in chunks] == [(-0.5,), (-1.0, -1.5), (-0.1,)]
    whole = chunks[-1].completion
    assert (whole.tokens, whole.logprobs) == heard(chunks)
    assert server.bodies[0]["logprobs"] is True


def test_bytes_that_are_none_are_told(http: HttpBackend, server: Server) -> None:
    wrong = {"token": "a", "logprob": -1, "bytes": [999]}
    server.script = [answers(said("a", logprobs={"content": [wrong]}))]
    with pytest.raises(BackendError, match="the server sent no answer"):
        http.complete([ask("hi", logprobs=True)])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(at)]


@given(text=st.text(st.characters(exclude_categories=["Cs"])), places=st.lists(st.integers(0, 99)))
@settings(max_examples=200)
def test_bytes_cut_anywhere_are_together_the_text(text: str, places: list[int]) -> None:
    tokens = Tokens()
    for data in cut(text.encode(), places):
        tokens.add({"content": [entry(data, -1.0)]}, "")
    assert "".join(tokens.texts).replace(BROKEN, "") == text.replace(BROKEN, "")
    if BROKEN not in text:
        assert BROKEN not in "".join(tokens.texts)


@given(words=st.lists(st.tuples(st.text("ab ", max_size=3), st.text("é東👍", max_size=2))))
@settings(max_examples=200)
def test_torn_characters_are_mended_by_the_text(words: list[tuple[str, str]]) -> None:
    spelled = [
        token for plain, torn in words for token in (plain, *(BROKEN for _ in torn.encode()))
    ]
    text = "".join(plain + torn for plain, torn in words)
    whole = mended(spelled, text)
    assert len(whole) == len(spelled)
    assert "".join(whole) == text


def test_tokens_beyond_a_text_that_was_cut_stay() -> None:
    assert mended(["a", BROKEN, BROKEN, "b", "c"], "a👍") == ["a", "", "👍", "b", "c"]
    assert mended(["a", "", "b"], "") == ["a", "", "b"]
    assert mended([BROKEN, "", "b"], "éb") == ["é", "", "b"]


@pytest.mark.parametrize(
    ("prefill", "fields", "mark"),
    [
        ("", {}, {}),
        ("last", {}, {}),
        ("prefix", {}, {"prefix": True}),
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}, {}),
    ],
)
def test_a_server_is_asked_to_go_on_its_own_way(
    server: Server, prefill: Prefill, fields: dict[str, Any], mark: dict[str, Any]
) -> None:
    backend = HttpBackend(base_url=server.url, model="m", prefill=prefill)
    assert ("prefill" in backend.capabilities) is bool(prefill)
    backend.complete([half_said("It is"), ask("hi"), half_said("It is", raw=True)])
    going_on, plain, raw = sorted(server.bodies, key=lambda body: len(body.get("messages", [])))[
        ::-1
    ]
    assert going_on["messages"][-1] == {"role": "assistant", "content": "It is", **mark}
    assert going_on.keys() - plain.keys() == fields.keys()
    assert {name: going_on[name] for name in fields} == fields
    assert raw["prompt"] == "hi\n\nIt is" and not raw.keys() & fields.keys()


def test_a_server_can_what_it_is_known_to() -> None:
    known: dict[str, Any] = {"base_url": "http://x/v1", "model": "m"}
    assert HttpBackend(**known).capabilities == {"alternatives", "logprobs", "parallel", "stream"}
    told = HttpBackend(**known, can=["stream"], prefill="vllm")
    assert told.capabilities == {"parallel", "prefill", "stream"}


# --- LangChain -------------------------------------------------------------------------------


def test_a_chat_model_that_tells_tokens(server: Server) -> None:
    told = {"content": [entry(b"a", -0.5, top_logprobs=[entry(b"a", -0.5), entry(b"b", -1.0)])]}
    server.script = [
        answers(said("a", logprobs=told)),
        streams(
            [event("a", logprobs=told), event("b", logprobs={"content": [entry(b"b", -1)]}), *END]
        ),
    ]
    with httpx.Client() as client:
        model = ChatOpenAI(base_url=server.url, model="m", api_key="k", http_client=client)
        backend = LangChainBackend(model, can=frozenset({"logprobs", "alternatives", "stream"}))
        assert backend.capabilities == {"alternatives", "logprobs", "parallel", "stream"}
        request = ask("hi", alternatives=2)
        (done,) = backend.complete([request])
        chunks = list(backend.stream(replace(request, alternatives=0, logprobs=True)))
    assert (done.tokens, done.logprobs) == (("a",), (-0.5,))
    assert done.alternatives == ({"a": -0.5, "b": -1.0},)
    assert (server.bodies[0]["logprobs"], server.bodies[0]["top_logprobs"]) == (True, 2)
    assert "top_logprobs" not in server.bodies[1]
    whole = chunks[-1].completion
    assert whole is not None
    assert heard(chunks) == (whole.tokens, whole.logprobs) == (("a", "b"), (-0.5, -1.0))
    assert [chunk.text for chunk in chunks if chunk.text] == ["a", "b"]


@pytest.mark.parametrize(
    ("can", "wish", "message"),
    [
        ({"stream"}, {"logprobs": True}, "has no logprobs"),
        ({"stream"}, {"alternatives": 1}, "has no logprobs"),
        ({"logprobs"}, {"alternatives": 1}, "has no alternatives"),
    ],
)
def test_a_chat_model_that_is_not_known_to_tell_them(
    server: Server, can: set[Any], wish: dict[str, Any], message: str
) -> None:
    with httpx.Client() as client:
        model = ChatOpenAI(base_url=server.url, model="m", api_key="k", http_client=client)
        backend = LangChainBackend(model, can=frozenset(can))
        with pytest.raises(ConfigError, match=message):
            backend.complete([ask("hi", **wish)])
    assert server.calls == []


# --- by a script -----------------------------------------------------------------------------

pieces = st.lists(st.text("ab  ", max_size=3), max_size=12)


@given(tokens=pieces, beyond=st.sampled_from(["", "x"]))
@settings(max_examples=200)
def test_a_script_streams_tokens_with_the_word_they_end_in(tokens: list[str], beyond: str) -> None:
    given_tokens = tuple([*tokens, beyond] if beyond else tokens)
    whole = Completion(
        text="".join(tokens),
        tokens=given_tokens,
        logprobs=tuple(-float(i) for i in range(len(given_tokens))),
    )
    chunks = list(ScriptedBackend([whole]).stream(ask("x")))
    assert chunks[-1].completion == whole
    assert heard(chunks) == (whole.tokens, whole.logprobs)
    assert "".join(chunk.text for chunk in chunks) == whole.text
    text_so_far = tokens_so_far = ""
    for chunk in chunks[:-1]:
        text_so_far += chunk.text
        tokens_so_far += "".join(chunk.tokens)
        assert text_so_far.startswith(tokens_so_far)


def test_a_script_may_mix() -> None:
    scripted = ScriptedBackend([], mix=lambda requests, weights: f"{len(requests)} {weights[0]}")
    assert "mixes" in scripted.capabilities
    done = scripted.mix([ask("a b"), ask("c")], [0.25, 0.75])
    assert (done.text, done.prompt_tokens) == ("2 0.25", 3)
    assert [request.prompt.text for request in scripted.requests] == ["a b", "c"]
    plain = ScriptedBackend(["a"])
    assert "mixes" not in plain.capabilities
    with pytest.raises(ConfigError, match="give it a function"):
        plain.mix([ask("a")], [1.0])
