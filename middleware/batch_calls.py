"""What a row asks of a backend, and how the answer is spelled where the row is from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from time import time
from typing import Any, Literal

from pydantic import Field, ValidationError

from tersely.contracts import Completion, Request
from tersely.errors import RequestError
from tersely.middleware.adapters import adapter, find
from tersely.middleware.leaves import role_of
from tersely.middleware.row_shapes import FormatName, Part
from tersely.middleware.serve_asked import Able, asked, check_content
from tersely.middleware.serve_body import HARMLESS, Given, Sized, Strict
from tersely.middleware.serve_errors import brief, invalid, unsupported, wrong
from tersely.middleware.serve_reply import Reply
from tersely.prompt import Prompt, Segment

JSON = dict[str, Any]

TEXTS = ("text", "input_text", "output_text")
"""Blocks of a content that are text."""

SPOKEN = ("message", "human", "ai", "system")
"""What an item of a conversation is where somebody speaks, if it tells that at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a row asks; `body` makes of the answers what a provider would send back."""

    requests: tuple[Request, ...]
    body: Callable[[Sequence[Completion]], JSON]

    @property
    def is_soft(self) -> bool:
        """Whether soft input stands in what is asked."""
        return any(one.prefix is not None or one.vectors for one in self.requests)


class AnthropicBody(Strict):
    """The params of a line for Anthropic, as far as a backend can keep to them."""

    model: str
    messages: list[Any] = Field(min_length=1)
    system: Any = None
    max_tokens: Sized | None = None
    temperature: float = Field(default=1.0, ge=0, le=1)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop_sequences: list[str] = []
    stream: Literal[False] = False


class ResponsesBody(Strict):
    """A body of `/v1/responses`, as far as a backend can keep to it."""

    model: str
    input: str | list[Any]
    instructions: str | None = None
    max_output_tokens: Sized | None = None
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    truncation: Literal["disabled"] = "disabled"
    stream: Literal[False] = False


def call_of(part: Part, like: Request, backend: Able, question: str = "") -> Call:
    """What the request of a row asks of a backend.

    What it does not say itself is as in `like`. A `question` goes behind texts, which ask nothing
    themselves. Raises RequestError for what no backend is asked: tools, images, other fields.
    """
    if not isinstance(part.request, Mapping) or not part.place:
        return _said(part, like, question)
    by = {"openai-responses": _responses, "anthropic": _anthropic}
    call = by.get(str(part.reader), _chat)(part.request, like, backend)
    if "models" not in backend.capabilities:
        return call
    named = str(part.request.get("model") or "")
    return replace(call, requests=tuple(replace(one, model=named) for one in call.requests))


def _said(part: Part, like: Request, question: str) -> Call:
    """A row of texts, or of messages in no provider's hands."""
    request, reader = part.request, part.reader
    if isinstance(reader, str):
        reader = adapter(reader) if reader else find(request) or adapter("text")
        _check_said(request.get("messages") if isinstance(request, Mapping) else request)
        question = ""
    prompt = reader.read(request)
    if prompt.tools:
        raise unsupported("tools", "a backend is asked with texts; leave it out")
    return Call(requests=(replace(like, prompt=asking(prompt, question)),), body=plain)


def asking(prompt: Prompt, question: str) -> Prompt:
    """The prompt with a question at its end. Raises RequestError when nothing is asked at all."""
    if question:
        last = Segment(text=question, kind="question", locked=True, path=("question",))
        prompt = replace(prompt, segments=(*prompt.segments, last), question=question)
    if not any(one.text.strip() for one in prompt.segments):
        raise RequestError(prompt.why or "the row holds no text that could be asked")
    return prompt


def _chat(body: Mapping[str, Any], like: Request, backend: Able) -> Call:
    call = asked(Given.among(body), backend, like.max_tokens, chat=True)
    for name in ("sot", "tersely"):
        if getattr(call.body, name) is not None:
            raise unsupported(name, "that is for `tersely serve`; leave it out")
    return Call(requests=call.requests, body=lambda done: _chat_body(Reply(call, ""), done))


def _chat_body(reply: Reply, done: Sequence[Completion]) -> JSON:
    reply.model, reply.id = done[0].model, _id(done)
    return reply.whole(done)


def _anthropic(body: Mapping[str, Any], like: Request, backend: Able) -> Call:
    given = _read(AnthropicBody, body)
    _check_said(given.messages, "messages")
    check_content(given.system or "", ("system",), TEXTS)
    request = replace(
        like,
        prompt=adapter("anthropic").read(body),
        max_tokens=given.max_tokens or like.max_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
        stop=tuple(given.stop_sequences),
    )
    return Call(requests=(request,), body=_message)


def _responses(body: Mapping[str, Any], like: Request, backend: Able) -> Call:
    given = _read(ResponsesBody, body)
    if not isinstance(given.input, str):
        _check_said(given.input, "input")
    request = replace(
        like,
        prompt=adapter("openai-responses").read(body),
        max_tokens=given.max_output_tokens or like.max_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
    )
    return Call(requests=(request,), body=_response)


def _read(kind: type[Any], body: Mapping[str, Any]) -> Any:
    """The fields of a body without those that ask for nothing. Raises Refused."""
    fields = {name: value for name, value in body.items() if value not in (None, [], {})}
    try:
        return kind.model_validate({n: v for n, v in fields.items() if n not in HARMLESS})
    except ValidationError as error:
        raise invalid(error) from error


def _check_said(messages: Any, name: str = "messages") -> None:
    """Raise Refused unless messages are texts of the system, the user and the assistant."""
    for i, message in enumerate(messages if isinstance(messages, list) else ()):
        place = (name, i)
        if not isinstance(message, Mapping) or message.get("type", "message") not in SPOKEN:
            raise wrong(place, f"a backend reads messages only, was {brief(message)}")
        if role_of(message) not in ("system", "user", "assistant"):
            raise wrong(
                (*place, "role"), f"a backend can't be told by {brief(message.get('role'))}"
            )
        for calls in ("tool_calls", "function_call"):
            if message.get(calls):
                raise wrong((*place, calls), "a backend is asked with texts, and has no tools")
        check_content(message.get("content"), (*place, "content"), TEXTS)


def plain(done: Sequence[Completion]) -> JSON:
    """An answer as it stands in a column. Raises Refused for several, which have no room there."""
    if len(done) > 1:
        raise wrong(["n"], f"a column has room for one answer, asked were {len(done)}")
    (one,) = done
    return {
        "text": one.text,
        "model": one.model,
        "finish_reason": one.finish_reason,
        "prompt_tokens": one.prompt_tokens,
        "cached_tokens": one.cached_tokens,
        "completion_tokens": one.completion_tokens,
    }


def _message(done: Sequence[Completion]) -> JSON:
    """As a message of Anthropic's, which counts what was cached apart."""
    (one,) = done
    return {
        "id": f"msg_{_id(done)}",
        "type": "message",
        "role": "assistant",
        "model": one.model,
        "content": [{"type": "text", "text": one.text}],
        "stop_reason": "max_tokens" if one.finish_reason == "length" else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": one.prompt_tokens - one.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": one.cached_tokens,
            "output_tokens": one.completion_tokens,
        },
    }


def _response(done: Sequence[Completion]) -> JSON:
    """As a response of OpenAI's."""
    (one,) = done
    cut = one.finish_reason == "length"
    status = "incomplete" if cut else "completed"
    part = {"type": "output_text", "text": one.text, "annotations": []}
    said = {"type": "message", "id": f"msg_{_id(done)}", "role": "assistant", "status": status}
    return {
        "id": f"resp_{_id(done)}",
        "object": "response",
        "created_at": int(time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "model": one.model,
        "output": [{**said, "content": [part]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": one.prompt_tokens,
            "input_tokens_details": {"cached_tokens": one.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": one.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": one.prompt_tokens + one.completion_tokens,
        },
    }


def result_of(format: FormatName, name: Any, body: JSON | None, reason: str = "") -> JSON:
    """A line of the results file of a provider, for the `custom_id` of a row.

    Without a body it tells the reason why there is no answer.
    """
    if format == "anthropic-batch":
        fault = {"type": "error", "error": {"type": "api_error", "message": reason}}
        failed = {"type": "errored", "error": fault}
        told = failed if body is None else {"type": "succeeded", "message": body}
        return {"custom_id": name, "result": told}
    asked_as = blake2b(str(name).encode(errors="replace"), digest_size=12).hexdigest()
    response = {"status_code": 200, "request_id": asked_as, "body": body}
    error = {"code": "no_answer", "message": reason}
    return {
        "id": f"batch_req_{asked_as}",
        "custom_id": name,
        "response": None if body is None else response,
        "error": error if body is None else None,
    }


def _id(done: Sequence[Completion]) -> str:
    """A name for an answer, the same for the same one."""
    said = "\0".join(one.text for one in done)
    return blake2b(said.encode(errors="replace"), digest_size=12).hexdigest()
