"""Lines of the results that OpenAI and Anthropic give for a batch, as answers of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tersely.errors import RequestError
from tersely.middleware.adapters import look
from tersely.middleware.row_shapes import glimpse

BESIDE = ("tool_calls", "function_call", "refusal", "audio")
"""What a chat message may hold beside its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a request: the `body` of the response, or the reason why there is none.

    `more` names what the answer has beside its text, such as calls of tools.
    """

    body: Mapping[str, Any] | None = None
    reason: str = ""
    text: str = ""
    finish: str = ""
    more: str = ""

    @property
    def answer(self) -> dict[str, Any]:
        """As it stands in a column."""
        body = self.body or {}
        usage = body.get("usage") or {}
        details = look(usage, ("prompt_tokens_details",)) or look(usage, ("input_tokens_details",))
        cached = (details or {}).get("cached_tokens", usage.get("cache_read_input_tokens")) or 0
        apart = "cache_read_input_tokens" in usage  # Anthropic counts what was cached apart
        written = usage.get("cache_creation_input_tokens") or 0
        read = usage.get("prompt_tokens", usage.get("input_tokens")) or 0
        return {
            "text": self.text,
            "model": str(body.get("model") or ""),
            "finish_reason": self.finish,
            "prompt_tokens": read + (cached + written if apart else 0),
            "cached_tokens": cached,
            "completion_tokens": usage.get("completion_tokens", usage.get("output_tokens")) or 0,
        }


def outcome_of(line: Any) -> tuple[str, Outcome]:
    """A line of the results: the `custom_id`, and what came of it. Raises RequestError."""
    name = line.get("custom_id") if isinstance(line, Mapping) else None
    if name is None:
        raise RequestError(f"a result has a `custom_id`, this was {glimpse(line)}")
    if not {"result", "response", "error"} & line.keys():
        raise RequestError(f"a result has a `response` or a `result`, this was {glimpse(line)}")
    try:
        outcome = _anthropic(line["result"]) if "result" in line else _openai(line)
        _ = outcome.answer
    except (AttributeError, LookupError, TypeError) as error:  # shaped as no provider's
        outcome = Outcome(reason=f"its answer can't be read ({error}): {glimpse(line)}")
    return str(name), outcome


def _openai(line: Mapping[str, Any]) -> Outcome:
    response, error = line.get("response") or {}, line.get("error")
    body = response.get("body") or {}
    status = response.get("status_code", 200)
    if error or body.get("error") or status != 200 or not body:
        said = error or body.get("error") or {}
        told = said.get("message") or said.get("code") if isinstance(said, Mapping) else said
        return Outcome(reason=f"the provider refused (HTTP {status}): {told or 'no reason given'}")
    return _response(body) if "output" in body else _chat(body)


def _chat(body: Mapping[str, Any]) -> Outcome:
    choices = body.get("choices") or []
    if not choices:
        return Outcome(reason="the provider sent no answer")
    message = choices[0].get("message") or {}
    more = [name for name in BESIDE if message.get(name)]
    more += [f"{len(choices)} answers"] if len(choices) > 1 else []
    return Outcome(
        body=body,
        text=_text(message.get("content")),
        finish=str(choices[0].get("finish_reason") or ""),
        more=", ".join(more),
    )


def _response(body: Mapping[str, Any]) -> Outcome:
    said, more = [], []
    for item in body.get("output") or []:
        for part in (item.get("content") or []) if item.get("type") == "message" else []:
            if part.get("type") == "output_text":
                said.append(part.get("text") or "")
            else:
                more.append(str(part.get("type")))
        if item.get("type") not in ("message", "reasoning"):
            more.append(str(item.get("type")))
    cut = look(body, ("incomplete_details", "reason"))
    finish = str(cut or body.get("status") or "")
    return Outcome(
        body=body, text="".join(said), finish=finish, more=", ".join(dict.fromkeys(more))
    )


def _anthropic(result: Mapping[str, Any]) -> Outcome:
    if result.get("type") != "succeeded":
        told = look(result, ("error", "error", "message")) or look(result, ("error", "message"))
        return Outcome(reason=f"the request {result.get('type')}{f': {told}' if told else ''}")
    message = result.get("message") or {}
    blocks = message.get("content") or []
    kinds = [str(block.get("type")) for block in blocks]
    more = [kind for kind in kinds if kind not in ("text", "thinking", "redacted_thinking")]
    return Outcome(
        body=message,
        text=_text(blocks),
        finish=str(message.get("stop_reason") or ""),
        more=", ".join(dict.fromkeys(more)),
    )


def _text(content: Any) -> str:
    """What a content says: a text, or the texts among its blocks."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(block.get("text") or "" for block in content if block.get("type") == "text")
