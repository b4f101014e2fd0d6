"""Soft input of the local engine: vectors in a prompt, keys and values in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_watch import forget, forwards, generated
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.backends.langchain import LangChainBackend
from tersely.backends.local import LocalBackend
from tersely.backends.lookup import Lookup
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Backend, Request
from tersely.errors import BackendError, ConfigError, ContextLengthError
from tersely.prompt import Prompt, Segment
from tersely.soft import KVPrefix, SoftPrompt
from tersely.weights import CausalLM, causal_lm
from tersely.wishes import wishes

FOX = "The quick brown fox jumps over the lazy dog, 12 times a day. "
DAY = "Ein schöner Tag in Zürich: die Brücke über die Limmat. "


def ask(*parts: str | SoftPrompt | KVPrefix, **wishes: Any) -> Request:
    """A request of one user turn, in which soft input stands between texts."""
    segments = [
        Segment(text=part)
        if isinstance(part, str)
        else Segment(text="[soft]", kind="soft", soft=part)
        for part in parts
    ]
    return Request(prompt=Prompt(tuple(segments)), **{"max_tokens": 12, **wishes})


@pytest.fixture(autouse=True)
def fresh(lm: CausalLM) -> Iterator[None]:
    """No test finds what another one left in memory."""
    yield
    forget(lm)


def most(shapes: Sequence[tuple[int, ...]]) -> int:
    """The tokens of the longest pass, padding included."""
    return max(rows * columns for rows, columns in shapes)


# --- vectors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_texts_own_vectors_say_what_it_says(
    backend: LocalBackend, lm: CausalLM, at: int, raw: bool
) -> None:
    texts: list[str | SoftPrompt] = [FOX, DAY, "12 times"]
    soft = [*texts]
    soft[at] = backend.embed(str(texts[at]))
    plain, request = ask(*texts, raw=raw), ask(*soft, raw=raw)
    (done,) = backend.complete([request])
    assert done.text == generated(lm, backend.encode(plain), 12)
    assert done == backend.complete([plain])[0]
    assert done.prompt_tokens == len(backend.encode(request)) == len(backend.encode(plain))


def test_it_has_all_that_a_text_has(backend: LocalBackend) -> None:
    wishes: dict[str, Any] = {"temperature": 0.8, "seed": 3, "alternatives": 2, "max_tokens": 20}
    plain = ask(FOX, DAY, **wishes)
    soft = ask(backend.embed(FOX), DAY, **wishes)
    (expected,) = backend.complete([plain])
    (done,) = backend.complete([soft])
    assert done.text == expected.text and done.tokens == expected.tokens
    assert done.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    stop = (expected.text[4:7],)
    cut = [backend.complete([replace(one, stop=stop)])[0].text for one in (plain, soft)]
    assert cut[0] == cut[1] == expected.text[: expected.text.index(stop[0])]
    *chunks, last = backend.stream(soft)
    assert "".join(chunk.text for chunk in chunks) == expected.text
    assert last.completion and last.completion.tokens == done.tokens


async def test_a_stream_of_it_can_be_cancelled(backend: LocalBackend, lm: CausalLM) -> None:
    async def read() -> None:
        async for _ in backend.astream(ask(backend.embed(FOX), max_tokens=150)):
            begun.set()

    begun = asyncio.Event()
    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (expected,) = backend.complete([ask(DAY)])
    assert await backend.acomplete([ask(backend.embed(DAY))]) == [expected]


def test_vectors_that_are_no_texts(backend: LocalBackend, lm: CausalLM) -> None:
    """The scores are those of the model itself, which reads the embeddings in one pass."""
    import torch

    made = torch.randn(6, 32, generator=torch.Generator().manual_seed(3))
    request = ask(SoftPrompt(made), FOX, raw=True, logprobs=True, max_tokens=1)
    (done,) = backend.complete([request])
    ids = torch.tensor(lm.tokenizer.encode(FOX))
    with torch.inference_mode():
        whole = torch.cat([made, lm.model.get_input_embeddings()(ids)]).unsqueeze(0)
        last = lm.model(inputs_embeds=whole).logits[0, -1].log_softmax(-1)
    assert done.logprobs == pytest.approx([float(last.max())], abs=1e-4)


def test_vectors_are_remembered_by_their_values(backend: LocalBackend, lm: CausalLM) -> None:
    import torch

    made = torch.randn(60, 32, generator=torch.Generator().manual_seed(3))
    first = ask(SoftPrompt(made), FOX, raw=True, max_tokens=3)
    again = ask(SoftPrompt(made.clone()), DAY, raw=True, max_tokens=3)
    other = ask(SoftPrompt(made + 0.25), FOX, raw=True, max_tokens=3)
    (expected,) = backend.complete([other])
    backend.complete([first])
    with forwards(lm) as shapes:
        backend.complete([again])
    assert most(shapes[:1]) == len(backend.encode(again)) - 60, "what is alike is not read again"
    with forwards(lm) as shapes:
        assert backend.complete([other]) == [expected]
        assert backend.complete([ask(SoftPrompt(made), "a", raw=True), again, first])
    assert most(shapes) < 60


def test_guesses_do_not_look_into_vectors(tiny_llama: Path, backend: LocalBackend) -> None:
    assert Lookup([1, 2, 3, -9, 5, 1, 2]).guess(4) == [3]
    assert Lookup([1, 2, -9, 5, 1, 2]).guess(4) == []
    bare = LocalBackend(model=str(tiny_llama), precision="float32", lookup=0)
    for parts in [(FOX, backend.embed(FOX), FOX), (backend.embed(FOX * 2),)]:
        request = ask(*parts, max_tokens=40, repetition_penalty=0.8)
        assert backend.complete([request]) == bare.complete([request])


# --- KV prefixes -----------------------------------------------------------------------------


def test_a_prefix_is_what_its_text_would_be(backend: LocalBackend, lm: CausalLM) -> None:
    prefix = backend.prefix(FOX)
    request = ask(DAY, raw=True, kv_prefix=prefix, logprobs=True)
    tokens = lm.tokenizer.encode(FOX) + lm.tokenizer.encode(DAY)
    with forwards(lm) as shapes:
        (done,) = backend.complete([request])
    assert most(shapes) == len(lm.tokenizer.encode(DAY)), "the prefix is not read"
    assert done.text == generated(lm, tokens, 12)
    assert done.prompt_tokens == len(tokens)
    longer = ask(DAY + "12", raw=True, kv_prefix=prefix, max_tokens=12)
    with forwards(lm) as shapes:
        assert backend.complete([longer] * 3) == [backend.complete([longer])[0]] * 3
    assert most(shapes) < len(tokens)


@pytest.mark.parametrize("text", [FOX, "a"])
def test_several_answers_share_a_prefix(backend: LocalBackend, text: str) -> None:
    prefix = backend.prefix(FOX * 2)
    requests = [ask(text + end, raw=True, kv_prefix=prefix) for end in ("The", "Ein", "12")]
    alone = [backend.complete([request])[0] for request in requests]
    assert backend.complete(requests) == alone


def test_a_prefix_stands_before_the_chat_template(backend: LocalBackend, lm: CausalLM) -> None:
    request = ask(DAY, kv_prefix=backend.prefix(FOX))
    tokens = lm.tokenizer.encode(FOX) + backend.encode(ask(DAY))
    assert backend.complete([request])[0].text == generated(lm, tokens, 12)
    both = ask(backend.embed(DAY), kv_prefix=backend.prefix(FOX))
    assert backend.complete([both]) == backend.complete([request])


def test_a_prefix_stands_for_what_the_prompt_begins_with(
    backend: LocalBackend, lm: CausalLM
) -> None:
    """Template head and all: what it was read from is not read again, nor said twice."""
    said = [Segment(text=FOX, role="system"), Segment(text=DAY, turn=1)]
    plain = Request(prompt=Prompt(tuple(said)), max_tokens=12)
    whole = lm.tokenizer.decode(backend.encode(plain))
    prefix = backend.prefix(whole[: whole.index(FOX) + len(FOX)])
    soft = Request(prompt=Prompt((said[0].softened(prefix, "learned"), said[1])), max_tokens=12)
    with forwards(lm) as shapes:
        (done,) = backend.complete([soft])
    assert most(shapes) == len(backend.encode(plain)) - len(prefix)
    assert done == backend.complete([plain])[0]
    raw = ask(backend.prefix(FOX), DAY, raw=True)
    tokens = lm.tokenizer.encode(FOX) + lm.tokenizer.encode(DAY, add_special_tokens=False)
    assert backend.complete([raw])[0].text == generated(lm, tokens, 12)


# --- together --------------------------------------------------------------------------------

kinds = st.lists(
    st.tuples(
        st.sampled_from(["plain", "soft", "between", "prefix", "both", "begun"]),
        st.sampled_from([FOX, DAY, FOX + DAY]),
        st.sampled_from(["The", DAY, "12 times"]),
        st.integers(1, 9),
    ),
    min_size=2,
    max_size=6,
)


@given(plan=kinds)
@settings(max_examples=20)
def test_whoever_is_beside_it_an_answer_is_the_same(
    backend: LocalBackend, plan: list[tuple[str, str, str, int]]
) -> None:
    def request(kind: str, head: str, tail: str, tokens: int) -> Request:
        if kind == "prefix":
            return ask(tail, kv_prefix=backend.prefix(head), max_tokens=tokens, raw=True)
        if kind == "both":
            prefix = backend.prefix(head)
            return ask(backend.embed(tail), "!", kv_prefix=prefix, max_tokens=tokens)
        if kind == "begun":
            return ask(backend.prefix(head), tail, max_tokens=tokens)
        if kind == "between":
            return ask(tail, backend.embed(head), tail, max_tokens=tokens)
        return ask(backend.embed(head) if kind == "soft" else head, tail, max_tokens=tokens)

    requests = [request(*one) for one in plan]
    alone = [backend.complete([one])[0] for one in requests]
    assert backend.complete(requests) == alone


@pytest.mark.model
def test_the_embedded_model_reads_soft_input(smollm2: Path) -> None:
    backend = LocalBackend(precision="float32")
    head = "The kettle is blue and holds 1.7 litres of water. "
    plain = ask(head, "What colour is the kettle?", max_tokens=10)
    soft = ask(backend.embed(head), "What colour is the kettle?", max_tokens=10)
    prefix = ask("It is made of", max_tokens=10, raw=True, kv_prefix=backend.prefix(head))
    lm = causal_lm("smollm2", precision="float32")
    one, two, three = backend.complete([plain, soft, prefix])
    assert one.text == two.text == generated(lm, backend.encode(plain), 10)
    tokens = lm.tokenizer.encode(head) + lm.tokenizer.encode("It is made of")
    assert three.text == generated(lm, tokens, 10)


# --- what can't be read ----------------------------------------------------------------------


def test_input_that_another_model_made(backend: LocalBackend) -> None:
    import torch

    soft, prefix = backend.embed(FOX), backend.prefix(FOX)
    name = backend.model
    with pytest.raises(ConfigError, match=f"SoftPrompt was made for the model 'x', and '{name}'"):
        backend.complete([ask(replace(soft, model="x"))])
    with pytest.raises(ConfigError, match="KVPrefix was made for the model 'x'"):
        backend.complete([ask("a", kv_prefix=replace(prefix, model="x"))])
    with pytest.raises(ConfigError, match=f"have 31 values, and those of '{name}' have 32"):
        backend.complete([ask(SoftPrompt(torch.ones(2, 31)))])
    shallow = KVPrefix([*prefix.layers][:1])
    said = f"has 1 layers of 2 heads, 8 wide, and '{name}' has 2 layers of 2 heads, 8 wide"
    with pytest.raises(ConfigError, match=said):
        backend.complete([ask("a", kv_prefix=shallow)])
    wide = KVPrefix([(torch.ones(2, 3, 9), torch.ones(2, 3, 8))] * 2)
    with pytest.raises(ConfigError, match="2 layers of 2 heads, 9 and 8 wide"):
        backend.complete([ask("a", kv_prefix=wide)])
    half = replace(soft, vectors=soft.vectors.bfloat16(), model="")
    assert backend.complete([ask(half)])[0].prompt_tokens == len(backend.encode(ask(soft)))


def test_soft_input_out_of_place(backend: LocalBackend) -> None:
    soft, prefix = backend.embed("a"), backend.prefix(FOX)
    empty = Request(prompt=Prompt((Segment(text=FOX), Segment(text="a", kind="soft"))))
    stray = Request(prompt=Prompt((Segment(text=FOX, soft=soft),)))
    wrong = {
        "segment 1 is of kind 'soft' and has nothing to stand there": empty,
        "segment 0 has `soft` and is of kind 'context'": stray,
        "segment 1 does not begin it": ask(FOX, prefix),
        "a request has one KV prefix": ask(prefix, FOX, kv_prefix=prefix),
        "begins it|does not begin": ask(prefix, FOX, prefix),
    }
    for message, request in wrong.items():
        with pytest.raises(ConfigError, match=message):
            backend.complete([request])


def test_a_template_that_leaves_vectors_out(
    backend: LocalBackend, lm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm.tokenizer, "chat_template", "{{ messages[-1]['content'] }}")
    soft = Segment(text="", role="system", kind="soft", soft=backend.embed(FOX))
    request = Request(prompt=Prompt((soft, Segment(text="a", turn=1))))
    with pytest.raises(BackendError, match="left out or moved a soft prompt"):
        backend.complete([request])


def test_soft_input_counts_for_the_context(backend: LocalBackend, lm: CausalLM) -> None:
    import torch

    long = SoftPrompt(torch.ones(250, 32))
    with pytest.raises(ContextLengthError, match=r"25\d prompt tokens and max_tokens=12 exceed"):
        backend.complete([ask(long)])
    prefix = KVPrefix([(torch.ones(2, 250, 8), torch.ones(2, 250, 8))] * 2)
    with pytest.raises(ContextLengthError, match=r"25\d prompt tokens and max_tokens=12 exceed"):
        backend.complete([ask("a", raw=True, kv_prefix=prefix)])


def test_a_mark_in_the_text_is_text(backend: LocalBackend) -> None:
    text = "\uf8ff0.0\uf8ff and \uf8ff1."
    soft, plain = ask(text, backend.embed(FOX)), ask(text, FOX)
    assert backend.complete([soft]) == backend.complete([plain])


async def test_who_can_not_read_it_refuses() -> None:
    import torch
    from langchain_core.language_models.fake_chat_models import FakeListChatModel

    soft = SoftPrompt(torch.ones(2, 3))
    prefix = KVPrefix([(torch.ones(1, 2, 3),) * 2])
    chat = LangChainBackend(FakeListChatModel(responses=["yes"]), can=frozenset({"stream"}))
    unable: list[Backend] = [ScriptedBackend(["yes"] * 9), chat]
    asked = {
        "embeds": [ask(soft), Request(prompt=Prompt((Segment(text="a", kind="soft"),)))],
        "kv_prefix": [ask("a", kv_prefix=prefix), ask(prefix, "a")],
    }
    for name, requests in asked.items():
        for request in requests:
            assert wishes(request) == [name]
            for backend in unable:
                with pytest.raises(ConfigError, match=f"has no {name}: use the local"):
                    backend.complete([request])
                with pytest.raises(ConfigError, match=f"has no {name}"):
                    [chunk async for chunk in backend.astream(request)]
    with pytest.raises(ConfigError, match="leave soft segments out of the request"):
        unable[0].complete([ask(soft)])


# --- mixtures, and models with a window ------------------------------------------------------


def test_a_mix_of_vectors_and_text(backend: LocalBackend) -> None:
    texts = [ask(FOX, "The"), ask(DAY, "The")]
    soft = [ask(backend.embed(FOX), "The"), ask(DAY, "The")]
    assert backend.mix(soft, [0.4, 0.6]) == backend.mix(texts, [0.4, 0.6])
    same = [ask(backend.embed(FOX), end) for end in ("The", "Ein")]
    assert backend.mix(same, [0.5, 0.5]).text
    with pytest.raises(ConfigError, match="a mix takes no KV prefix"):
        backend.mix([ask("a", kv_prefix=backend.prefix(FOX))], [1.0])


def test_a_model_with_a_window_reads_vectors_alone(tiny_windowed: Path) -> None:
    import torch

    windowed = LocalBackend(model=str(tiny_windowed), precision="float32")
    plain, soft = ask(FOX, DAY), ask(windowed.embed(FOX), DAY)
    assert windowed.complete([soft, plain]) == windowed.complete([plain]) * 2
    with pytest.raises(ConfigError, match="has a window or a state of its own"):
        windowed.prefix(FOX)
    prefix = KVPrefix([(torch.ones(2, 3, 8),) * 2] * 2)
    with pytest.raises(ConfigError, match="has a window or a state of its own"):
        windowed.complete([ask("a", kv_prefix=prefix)])
