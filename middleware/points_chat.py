"""OpenAI's chat completions as the calls of a plan, and a plan's answer as a chat completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tersely.calls import error_said
from tersely.contracts import Capability, Chunk, Completion, FinishReason, Request
from tersely.middleware.points import ROOM, Untouched
from tersely.middleware.serve_asked import Asked, asked
from tersely.middleware.serve_body import HARMLESS, Given
from tersely.middleware.serve_errors import Refused
from tersely.middleware.serve_reply import Reply
from tersely.middleware.serve_stream import DONE, encoded, event
from tersely.middleware.shape import CAN, Heard, Saying
from tersely.prompt import messages_of

CARRIED = HARMLESS | {
    *("chat_template_kwargs", "frequency_penalty", "logit_bias", "min_p", "presence_penalty"),
    *("provider", "reasoning", "reasoning_effort", "repetition_penalty", "top_k", "verbosity"),
}
"""Fields that say how it is to be written, or by whom: every call takes them along."""

OURS = frozenset({"continue_final_message", "add_generation_prompt", "sot", "tersely"})
"""Fields by which a server is asked for what only it can do."""

FINISHES: Mapping[str | None, FinishReason] = {"stop": "stop", "length": "length"}


class Chat:
    """Reads and writes `/chat/completions`."""

    sdk = "openai"
    surface = "openai-chat"

    def read(self, body: Mapping[str, Any]) -> Request:
        """What is asked. Raises Untouched when it can't be answered in several calls."""
        if ours := OURS & body.keys():
            raise Untouched(f"the server itself is asked for {min(ours)}")
        call = _asked(body)
        if why := call.against_points[1]:
            raise Untouched(why)
        return replace(call.requests[0], model=call.body.model)

    def call(self, body: Mapping[str, Any], request: Request, *, whole: bool) -> dict[str, Any]:
        """The body of one call; with `whole` it is the caller's own, streamed."""
        made = {**body, "stream": True, "stream_options": {"include_usage": True}}
        if whole:
            return made
        for limit in ("max_completion_tokens", "max_tokens"):
            if body.get(limit) is not None:
                made[limit] = request.max_tokens
        if request.model:
            made["model"] = request.model
        if request.stop:
            made["stop"] = list(request.stop)
        return {**made, "messages": messages_of(request.prompt)}

    def heard(self, heard: Heard, part: Mapping[str, Any]) -> str:
        """The text of one event. Raises BackendError for one that tells an error."""
        if part.get("error"):
            raise error_said(part["error"], retryable=False)
        usage = part.get("usage") or {}
        heard.prompt = usage.get("prompt_tokens") or heard.prompt
        heard.completion = usage.get("completion_tokens") or heard.completion
        details = usage.get("prompt_tokens_details") or {}
        heard.cached = details.get("cached_tokens") or heard.cached
        heard.model = part.get("model") or heard.model
        for choice in part.get("choices") or ():
            said = choice.get("delta") or {}
            reason = choice.get("finish_reason")
            heard.finish = FINISHES.get(reason, "other") if reason else heard.finish
            return str(said.get("content") or said.get("refusal") or "")
        return ""

    def whole(self, body: Mapping[str, Any], answer: Completion) -> bytes:
        """The answer as one body."""
        return encoded(_reply(body, answer.model).whole([answer]))

    def saying(self, body: Mapping[str, Any], model: str) -> Saying:
        """What makes events of an answer's pieces."""
        return _Saying(_reply(body, model))


class _Saying:
    """A stream of an answer, event by event."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def begin(self) -> bytes:
        return self._event(self._reply.begin(0))

    def piece(self, chunk: Chunk) -> bytes:
        return self._event(self._reply.piece(0, chunk))

    def end(self, answer: Completion) -> Iterator[bytes]:
        yield self._event(self._reply.end(0, answer))
        if self._reply.asked.body.with_usage:
            yield self._event(self._reply.last([answer]))
        yield DONE

    def broken(self, error: Exception) -> bytes:
        told = {"message": str(error), "type": "server_error", "param": None, "code": None}
        return event({"error": told})

    @staticmethod
    def _event(told: Mapping[str, Any] | None) -> bytes:
        return event(told) if told is not None else b""


@dataclass(frozen=True, slots=True)
class _Able:
    """Any server: it is not asked for more."""

    capabilities: frozenset[Capability] = CAN


def _asked(body: Mapping[str, Any]) -> Asked:
    given = {name: value for name, value in body.items() if name not in CARRIED}
    try:
        return asked(Given.among(given), _Able(), ROOM, chat=True)
    except Refused as error:
        raise Untouched(str(error)) from error


def _reply(body: Mapping[str, Any], model: str) -> Reply:
    call = _asked(body)
    return Reply(replace(call, ignored=()), model or call.body.model)
