"""Soft prompts on the wire, as vLLM reads them: parts of a message."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any

from tersely.backends.marks import filled_in, marked
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


def check_vectors(request: Request, model: str) -> None:
    """Raise ConfigError for what such a server could not be asked."""
    marked(request)
    for soft in request.vectors:
        check_model(soft, model)
    if request.raw and request.vectors:
        raise ConfigError(
            "over HTTP vectors stand in chat messages only: ask without raw, or the local backend"
        )


def _part(part: str | SoftPrompt) -> dict[str, str]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    import torch

    saved = BytesIO()
    torch.save(part.vectors, saved)
    return {"type": "prompt_embeds", "data": b64encode(saved.getvalue()).decode()}
