"""Soft prompts on the wire, as vLLM reads them: parts of a message."""

from __future__ import annotations

from typing import Any

from tersely.backends.marks import filled_in, marked
from tersely.backends.whole import read, saved
from tersely.contracts import Request
from tersely.errors import ConfigError
from tersely.prompt import messages_of
from tersely.soft import SoftPrompt, check_model


def messages_with_vectors(request: Request) -> list[dict[str, Any]]:
    """The request's messages, in parts where vectors stand between texts."""
    asked, found = marked(request)
    marks = {mark: soft for mark, soft in found.items() if isinstance(soft, SoftPrompt)}
    messages: list[dict[str, Any]] = [*messages_of(asked.prompt)]
    for message in messages:
        own = {mark: soft for mark, soft in marks.items() if mark in message["content"]}
        if own:
            parts = filled_in(message["content"], own, "the server")
            message["content"] = [_part(part) for part in parts if part]
    return messages


def check_vectors(request: Request, model: str, weights: str = "") -> None:
    """Raise ConfigError for what such a server could not be asked.

    With `weights` on this machine whole prompts are sent, and so bare ones too; the vectors must
    be as wide as that model's, and made for it by one of its two names.
    """
    marked(request)
    if not request.vectors:
        return
    for soft in request.vectors:
        if soft.model != weights:
            check_model(soft, model)
    if weights:
        read(request, weights)
    elif request.raw:
        raise ConfigError(
            "over HTTP vectors stand in chat messages only, unless `weights` tell where the same"
            " model lies on this machine: set them, ask without raw, or the local backend"
        )


def _part(part: str | SoftPrompt) -> dict[str, str]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "prompt_embeds", "data": saved(part.vectors)}
