"""Counting: exact where a vocabulary is at hand, an estimate that says so elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from tersely import tokens
from tersely.contracts import TokenCounter


@pytest.fixture
def no_vocabulary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine with an empty tiktoken cache and no package that bundles vocabularies."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tokens, "find_spec", lambda name: None)
    caches = (tokens._openai, tokens._estimate)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("openai/gpt-4.1", "o200k_base"),
        ("gpt-5.6-luna", "o200k_base"),
        ("o3", "o200k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("cl100k_base", "cl100k_base"),
    ],
)
def test_openai_models_are_counted_exactly(model: str, encoding: str) -> None:
    count = tokens.counter(model)
    assert count.exact
    assert count.name == f"tiktoken {encoding}"
    assert count("tersely says the same in fewer tokens") == 8


def test_known_counts() -> None:
    """The examples of OpenAI's own guide to counting tokens."""
    assert tokens.counter("gpt-4o")("antidisestablishmentarianism") == 6
    assert tokens.counter("gpt-4")("2 + 2 = 4") == 7


def test_special_tokens_in_a_text_are_plain_text() -> None:
    assert tokens.counter("gpt-4o")("<|endoftext|>") > 1


@pytest.mark.parametrize("model", ["claude-sonnet-5", "anthropic/claude-opus-5", "mystery-7b", ""])
def test_what_is_not_known_is_called_an_estimate(model: str) -> None:
    count = tokens.counter(model)
    assert not count.exact
    assert count.name.startswith("estimate")
    assert count("What does the kettle hold?") > 0


def test_claude_is_estimated_above_openai() -> None:
    text = "the kettle is on the stove " * 50
    assert tokens.counter("claude-sonnet-5")(text) > tokens.counter("gpt-4o")(text)


@pytest.mark.usefixtures("no_vocabulary", "no_network")
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "davinci-002", "claude-sonnet-5", ""])
def test_without_vocabularies_and_network_it_estimates(model: str) -> None:
    count = tokens.counter(model)
    assert not count.exact
    assert "estimate" in count.name
    assert count("four") == count.many(["four"])[0] >= 1


@pytest.mark.usefixtures("no_network")
def test_a_damaged_cache_is_no_reason_to_ask_the_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tokens._openai.cache_clear()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    import hashlib

    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(b"damaged")
    assert tokens.counter("gpt-4o").exact  # from the bundled vocabulary
    tokens._openai.cache_clear()


def test_a_bundled_vocabulary_is_tiktokens_own() -> None:
    encoding = tokens._bundled("o200k_base")
    assert isinstance(encoding, tiktoken.Encoding)
    assert encoding.encode_ordinary("hello world") == [24912, 2375]


@given(st.lists(st.text(), max_size=5))
def test_many_is_each_by_itself(texts: list[str]) -> None:
    count: TokenCounter = tokens.counter("gpt-4o")
    assert count.many(texts) == [count(text) for text in texts]


@pytest.mark.parametrize(
    "text", ["", "\x00", "\ud800", "a" * 200_000, " " * 200_000, "é" * 50_000, "🤖" * 20_000]
)
@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-5", "mystery-7b"])
def test_hostile_texts_are_counted(text: str, model: str) -> None:
    assert (tokens.counter(model)(text) == 0) == (text == "")
