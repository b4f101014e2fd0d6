"""Where in a request's text soft prompts stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from tersely.contracts import Request
from tersely.errors import BackendError, ConfigError
from tersely.soft import SoftPrompt


def marked(request: Request) -> tuple[Request, dict[str, SoftPrompt]]:
    """The request with a mark of its own in place of each soft segment's text.

    Raises ConfigError unless there are as many soft segments as soft prompts.
    """
    segments = request.prompt.segments
    at = [i for i, segment in enumerate(segments) if segment.kind == "soft"]
    if len(at) != len(request.soft):
        raise ConfigError(
            f"the prompt has {len(at)} segments of kind 'soft', and the request {len(request.soft)}"
            " soft prompts to stand there"
        )
    salt = next(n for n in count() if f"\uf8ff{n}." not in request.prompt.text)
    marks = [f"\uf8ff{salt}.{i}\uf8ff" for i in range(len(at))]
    prompt = request.prompt.with_texts(dict(zip(at, marks, strict=True)))
    return replace(request, prompt=prompt), dict(zip(marks, request.soft, strict=True))


def filled_in(text: str, marks: dict[str, SoftPrompt], model: str) -> Iterator[str | SoftPrompt]:
    """The runs of a text, and the soft prompts that stand between them.

    Raises BackendError when a mark is missing: a chat template left out what held it.
    """
    for mark, soft in marks.items():
        before, found, text = text.partition(mark)
        if not found:
            raise BackendError(f"the chat template of {model!r} left out or moved a soft prompt")
        yield before
        yield soft
    yield text
