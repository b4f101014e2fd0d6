"""What needs no model: the scripted backend, text from tokens, stop strings, messages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersely.backends.detokenize import BROKEN, Detokenizer, StopStrings
from tersely.backends.parallel import aeach
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Backend, Completion, Request
from tersely.errors import BackendError
from tersely.prompt import Prompt, Segment, messages_of
from tersely.registry import BACKENDS, backend


def ask(text: str, **settings: Any) -> Request:
    return Request(prompt=Prompt((Segment(text=text),)), **settings)


def test_the_script_is_followed_and_requests_are_remembered() -> None:
    scripted = ScriptedBackend(["one", Completion(text="two", finish_reason="length")])
    first, second = scripted.complete([ask("a b"), ask("c")])
    assert (first.text, first.prompt_tokens, first.completion_tokens) == ("one", 2, 1)
    assert (second.text, second.finish_reason) == ("two", "length")
    assert [request.prompt.text for request in scripted.requests] == ["a b", "c"]
    with pytest.raises(BackendError, match="has 2 answers"):
        scripted.complete([ask("d")])


def test_the_script_may_be_a_function_or_hold_errors() -> None:
    echo = ScriptedBackend(lambda request: request.prompt.text.upper())
    assert [done.text for done in echo.complete([ask("a"), ask("b")])] == ["A", "B"]
    with pytest.raises(BackendError, match="broken"):
        ScriptedBackend([BackendError("broken")]).complete([ask("a")])


@given(text=st.text(max_size=60))
def test_a_scripted_stream_says_the_same_word_by_word(text: str) -> None:
    *words, last = ScriptedBackend([text]).stream(ask("x"))
    assert last.completion is not None
    assert "".join(chunk.text for chunk in words) == last.completion.text == text
    assert all(len(chunk.text.split()) <= 1 for chunk in words)


async def test_the_scripted_backend_is_async_too() -> None:
    scripted = ScriptedBackend(["a b", "c d"])
    assert (await scripted.acomplete([ask("x")]))[0].text == "a b"
    assert [chunk.text async for chunk in scripted.astream(ask("x"))] == ["c ", "d", ""]


def test_every_backend_fulfils_the_contract() -> None:
    from langchain_core.language_models import FakeListChatModel

    needed: dict[str, dict[str, Any]] = {
        "http": {"base_url": "http://localhost/v1", "model": "m"},
        "langchain": {"model": FakeListChatModel(responses=[])},
        "llamacpp": {},
        "local": {},
        "scripted": {"answers": []},
        "several": {"models": {"small": ScriptedBackend([])}},
    }
    assert needed.keys() == BACKENDS.keys()
    for name, given_settings in needed.items():
        assert isinstance(backend(name, **given_settings), Backend)


async def test_no_more_than_the_limit_are_under_way() -> None:
    under_way, most = 0, 0

    async def slow(request: Request) -> Completion:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(5):
            await asyncio.sleep(0)
        under_way -= 1
        return Completion(text=request.prompt.text)

    done = await aeach(slow, [ask(str(i)) for i in range(10)], 3)
    assert [one.text for one in done] == [str(i) for i in range(10)]
    assert most == 3


async def test_one_failure_ends_the_others() -> None:
    ended: list[str] = []

    async def work(request: Request) -> Completion:
        if request.prompt.text == "bad":
            raise BackendError("bad")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(request.prompt.text)
        raise AssertionError("unreachable")

    with pytest.raises(BackendError, match="bad"):
        await aeach(work, [ask("a"), ask("bad"), ask("waits"), ask("b")], 2)
    assert sorted(ended) == ["a", "waits"], "what had begun was ended, the rest never began"


# --- stop strings ----------------------------------------------------------------------------

letters = st.text("ab ", max_size=12)
stop_lists = st.lists(st.text("ab ", max_size=4), max_size=3)


def in_pieces(pieces: list[str], stops: list[str]) -> tuple[list[str], bool]:
    stop = StopStrings(stops)
    said = []
    for piece in pieces:
        said.append(stop.push(piece))
        if stop.met:
            return said, True
    said.append(stop.flush())
    return said, False


@given(pieces=st.lists(letters, max_size=6), stops=stop_lists)
@settings(max_examples=200)
def test_pieces_do_not_matter_to_a_stop_string(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    letter_by_letter, met = in_pieces(list(text), stops)
    said, met_in_pieces = in_pieces(pieces, stops)
    assert ("".join(said), met_in_pieces) == ("".join(letter_by_letter), met)
    assert met == any(stop and stop in text for stop in stops)
    assert text.startswith("".join(said))
    assert not any(stop and stop in "".join(said) for stop in stops)


@given(pieces=st.lists(letters, max_size=6), stop=st.text("ab", min_size=1, max_size=4))
@settings(max_examples=200)
def test_one_stop_string_cuts_at_its_first_place(pieces: list[str], stop: str) -> None:
    said, _ = in_pieces(pieces, [stop])
    assert "".join(said) == "".join(pieces).partition(stop)[0]


@given(pieces=st.lists(letters, max_size=6), stop=st.text("ab", min_size=1, max_size=4))
def test_what_was_said_is_never_taken_back(pieces: list[str], stop: str) -> None:
    said, met = in_pieces(pieces, [stop])
    held_longest = max((len(stop) - 1), 0)
    before_end = "".join(said[:-1])
    assert met or len("".join(pieces)) - len(before_end) <= held_longest + len(said[-1])


# --- text from tokens ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_llama)


def spelled(tokenizer: Any, tokens: list[int]) -> list[str]:
    text = Detokenizer(lambda ids: tokenizer.decode(ids, skip_special_tokens=True))
    return [*(text.push(token) for token in tokens), text.flush()]


@given(tokens=st.lists(st.integers(0, 319), max_size=40))
@settings(max_examples=200)
def test_any_tokens_spell_the_text_of_them_all(tokenizer: Any, tokens: list[int]) -> None:
    pieces = spelled(tokenizer, tokens)
    whole = tokenizer.decode(tokens, skip_special_tokens=True)
    assert "".join(pieces) == whole.rstrip(BROKEN)
    assert not any(piece.endswith(BROKEN) for piece in pieces)


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters=BROKEN)))
@settings(max_examples=200)
def test_no_character_is_ever_torn(tokenizer: Any, text: str) -> None:
    pieces = spelled(tokenizer, tokenizer.encode(text, add_special_tokens=False))
    assert BROKEN not in "".join(pieces)
    assert "".join(pieces) == text.replace("<|end|>", "")


@pytest.mark.model
@given(tokens=st.lists(st.integers(0, 49151), max_size=30))
@settings(max_examples=50)
def test_the_embedded_models_tokens_spell_their_text(smollm2: Path, tokens: list[int]) -> None:
    from tersely.weights import causal_lm

    tokenizer = causal_lm("smollm2").tokenizer
    whole = tokenizer.decode(tokens, skip_special_tokens=True)
    assert "".join(spelled(tokenizer, tokens)) == whole.rstrip(BROKEN)


# --- messages --------------------------------------------------------------------------------


def test_a_plain_prompt_is_one_message_of_the_user() -> None:
    assert messages_of(ask("hello").prompt) == [{"role": "user", "content": "hello"}]
    assert messages_of(Prompt(())) == [{"role": "user", "content": ""}]


def test_segments_become_messages_by_turn_and_role() -> None:
    prompt = Prompt(
        (
            Segment(text="be brief", role="system", turn=0, path=("a",)),
            Segment(text="one", turn=1, path=("b", 0)),
            Segment(text=" more", turn=1, path=("b", 0)),
            Segment(text="two", turn=1, path=("b", 1)),
            Segment(text="fine", role="assistant", turn=2, path=("c",)),
            Segment(text="42 degrees", role="tool", turn=3, path=("d",)),
        )
    )
    assert messages_of(prompt) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one more\n\ntwo"},
        {"role": "assistant", "content": "fine"},
        {"role": "user", "content": "42 degrees"},
    ]


def test_a_lone_surrogate_can_be_sent() -> None:
    (message,) = messages_of(ask("a\ud800b").prompt)
    assert message["content"] == "a?b"
