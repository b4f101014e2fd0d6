"""Anthropic's messages as the calls of a plan, and a plan's answer as a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from tersely.calls import error_said
from tersely.contracts import Chunk, Completion, FinishReason, Request
from tersely.middleware.adapter_anthropic import ANTHROPIC
from tersely.middleware.points import Untouched
from tersely.middleware.serve_stream import encoded
from tersely.middleware.shape import Heard, Saying
from tersely.prompt import messages_of

JSON = dict[str, Any]

READ = frozenset({"model", "max_tokens", "messages", "system", "stream", "temperature", "top_p"})

CARRIED = frozenset({"metadata", "service_tier", "top_k"})
"""Fields that every call takes along."""

NOTHING: Mapping[str, tuple[Any, ...]] = {
    "stop_sequences": ([],),
    "thinking": ({"type": "disabled"},),
    "tools": ([],),
}
"""Fields that go along where they ask for nothing."""

FINISHES: Mapping[str, FinishReason] = {"end_turn": "stop", "max_tokens": "length"}

TOLD: Mapping[FinishReason, str] = {"stop": "end_turn", "other": "end_turn"}
"""What is not here was cut."""


class Messages:
    """Reads and writes `/v1/messages`."""

    sdk = "anthropic"

    def read(self, body: Mapping[str, Any]) -> Request:
        """What is asked. Raises Untouched when it can't be answered in several calls."""
        if not isinstance(body.get("model"), str):  # as clients of Bedrock and Vertex send it
            raise Untouched("the model is named by the address: such answers are not taken apart")
        for name, value in body.items():
            if name not in READ | CARRIED and value is not None and value not in _nothing(name):
                raise Untouched(f"{name} is asked for")
        messages, limit = body.get("messages"), body.get("max_tokens")
        if not isinstance(messages, list) or not isinstance(limit, int) or limit < 1:
            raise Untouched("the request has no messages, or no max_tokens")
        if not messages or not all(map(_is_text, messages)):
            raise Untouched("the messages hold more than text")
        if messages[-1]["role"] != "user":
            raise Untouched("the answer is begun already")
        return Request(
            prompt=ANTHROPIC.read(body),
            model=body["model"],
            max_tokens=limit,
            temperature=_number(body, "temperature"),
            top_p=_number(body, "top_p"),
        )

    def call(self, body: Mapping[str, Any], request: Request, *, whole: bool) -> JSON:
        """The body of one call; with `whole` it is the caller's own, streamed."""
        made = {**body, "stream": True}
        if whole:
            return made
        if request.model:
            made["model"] = request.model
        if request.stop:
            made["stop_sequences"] = list(request.stop)
        # the system's text stays as the caller marked it for the cache
        said = [one for one in messages_of(request.prompt) if one["role"] != "system"]
        return {**made, "messages": said, "max_tokens": request.max_tokens}

    def heard(self, heard: Heard, part: Mapping[str, Any]) -> str:
        """The text of one event. Raises BackendError for one that tells an error."""
        if part.get("type") == "error":
            raise error_said(part.get("error"), retryable=False)
        message = part.get("message") or {}
        usage = message.get("usage") or part.get("usage") or {}
        heard.model = message.get("model") or heard.model
        heard.completion = usage.get("output_tokens") or heard.completion
        if usage.get("input_tokens") is not None and message:
            heard.cached = usage.get("cache_read_input_tokens") or 0
            written = usage.get("cache_creation_input_tokens") or 0
            heard.prompt = usage["input_tokens"] + written + heard.cached
        delta = part.get("delta") or {}
        if reason := delta.get("stop_reason"):
            # a stop string is the plan's own: the point has ended
            heard.finish = "stop" if reason == "stop_sequence" else FINISHES.get(reason, "other")
        return str(delta.get("text") or "")

    def whole(self, body: Mapping[str, Any], answer: Completion) -> bytes:
        """The answer as one body."""
        text = {"type": "text", "text": answer.text, "citations": None}
        ended = {"stop_reason": TOLD.get(answer.finish_reason, "max_tokens")}
        model = answer.model or body["model"]
        return encoded(_message(model, [text]) | ended | {"usage": _usage(answer)})

    def saying(self, body: Mapping[str, Any], model: str) -> Saying:
        """What makes events of an answer's pieces."""
        return _Saying(model or body["model"])


class _Saying:
    """A stream of an answer, event by event."""

    def __init__(self, model: str) -> None:
        self._model = model

    def begin(self) -> bytes:
        block = {"type": "text", "text": ""}
        opened = {"index": 0, "content_block": block}
        message = _message(self._model, []) | {"usage": _usage(Completion(text=""))}
        return _event("message_start", message=message) + _event("content_block_start", **opened)

    def piece(self, chunk: Chunk) -> bytes:
        delta = {"type": "text_delta", "text": chunk.text}
        return _event("content_block_delta", index=0, delta=delta)

    def end(self, answer: Completion) -> Iterator[bytes]:
        yield _event("content_block_stop", index=0)
        reason = TOLD.get(answer.finish_reason, "max_tokens")
        delta = {"stop_reason": reason, "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage=_usage(answer))
        yield _event("message_stop")

    def broken(self, error: Exception) -> bytes:
        return _event("error", error={"type": "api_error", "message": str(error)})


def _nothing(name: str) -> tuple[Any, ...]:
    return NOTHING.get(name, ())


def _number(body: Mapping[str, Any], name: str) -> float:
    value = body.get(name)
    return float(value) if isinstance(value, int | float) else 1.0


def _is_text(message: Any) -> bool:
    """Whether a message is plain text of the user or the assistant."""
    if not isinstance(message, Mapping) or message.get("role") not in ("user", "assistant"):
        return False
    content = message.get("content")
    if isinstance(content, str):
        return True
    return isinstance(content, list) and all(
        isinstance(block, Mapping)
        and block.get("type") == "text"
        and isinstance(block.get("text"), str)
        for block in content
    )


def _message(model: str, content: list[JSON]) -> JSON:
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(answer: Completion) -> JSON:
    """What the calls took; Anthropic tells apart what was read before."""
    return {
        "input_tokens": answer.prompt_tokens - answer.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.cached_tokens,
        "output_tokens": answer.completion_tokens,
    }


def _event(name: str, **fields: Any) -> bytes:
    told = encoded({"type": name, **fields})
    return b"event: " + name.encode() + b"\ndata: " + told + b"\n\n"
