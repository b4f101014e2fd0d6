"""Where in a request's text soft input stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import TypeVar

from tersely.contracts import Request
from tersely.errors import BackendError, ConfigError
from tersely.prompt import Prompt
from tersely.soft import KVPrefix, SoftPrompt

Soft = SoftPrompt | KVPrefix
S = TypeVar("S", bound=Soft)


def marked(request: Request) -> tuple[Request, dict[str, Soft]]:
    """The request with a mark of its own in place of each soft segment's text.

    Raises ConfigError for a soft segment with nothing to stand there, and for a KV prefix that
    does not begin the prompt.
    """
    soft = _soft(request.prompt)
    _check_begins(request, soft)
    salt = next(n for n in count() if f"\uf8ff{n}." not in request.prompt.text)
    marks = {i: f"\uf8ff{salt}.{i}\uf8ff" for i in soft}
    prompt = request.prompt.with_texts(marks)
    return replace(request, prompt=prompt), {marks[i]: one for i, one in soft.items()}


def filled_in(text: str, marks: Mapping[str, S], model: str) -> Iterator[str | S]:
    """The runs of a text, and the soft input that stands between them.

    What is before a KV prefix is part of it. Raises BackendError when a mark is missing: a chat
    template left out what held it.
    """
    for mark, soft in marks.items():
        before, found, text = text.partition(mark)
        if not found:
            raise BackendError(f"the chat template of {model!r} left out or moved a soft prompt")
        if isinstance(soft, SoftPrompt):
            yield before
        yield soft
    yield text


def _soft(prompt: Prompt) -> dict[int, Soft]:
    """What stands in the prompt's soft segments, by their positions."""
    found: dict[int, Soft] = {}
    for i, segment in enumerate(prompt.segments):
        if segment.kind == "soft" and segment.soft is None:
            raise ConfigError(
                f"segment {i} is of kind 'soft' and has nothing to stand there: give it `soft`"
            )
        if segment.kind != "soft" and segment.soft is not None:
            raise ConfigError(f"segment {i} has `soft` and is of kind {segment.kind!r}, not 'soft'")
        if segment.soft is not None:
            found[i] = segment.soft
    return found


def _check_begins(request: Request, soft: Mapping[int, Soft]) -> None:
    """Raise ConfigError unless a KV prefix among these begins the prompt."""
    for i, one in soft.items():
        if not isinstance(one, KVPrefix):
            continue
        if any(segment.text or segment.soft for segment in request.prompt.segments[:i]):
            raise ConfigError(
                f"a KV prefix stands for the beginning of a prompt, and segment {i} does not begin"
                " it: put it first, or use vectors"
            )
        if request.kv_prefix is not None:
            raise ConfigError("a request has one KV prefix: `kv_prefix`, or that of its first text")
