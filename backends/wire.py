"""The OpenAI-compatible API on the wire: bodies, answers, events and errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tersely.backends.dialects import DIALECTS, Dialect
from tersely.backends.spelling import Tokens
from tersely.backends.vectors import messages_with_vectors
from tersely.backends.whole import as_completion, embeddings, generate_body, saved
from tersely.calls import RETRYABLE, error_said
from tersely.contracts import Completion, FinishReason, Request
from tersely.errors import BackendError
from tersely.prompt import messages_of, sendable

FINISHES: Mapping[str | None, FinishReason] = {"stop": "stop", "length": "length"}


def endpoint(request: Request, *, whole: bool = False) -> str:
    """Where a request goes, below the base URL; `whole`: as the embeddings of all its tokens."""
    return "completions" if request.raw or whole else "chat/completions"


def body_of(
    request: Request,
    model: str,
    extra: Mapping[str, Any],
    *,
    stream: bool,
    dialect: Dialect = DIALECTS["openai"],
    weights: str = "",
) -> bytes:
    """The request as the API reads it. `extra` goes over it; None there leaves a field out.

    With `weights`, where the same model lies on this machine, vectors are sent in whole prompts of
    embeddings.
    """
    if request.vectors and weights and dialect.embeds == "sglang":
        own = generate_body(request, weights, dialect.fields(request))
        return _encoded({**own, "stream": stream or None, **extra})
    body: dict[str, Any] = {
        "model": model,
        **_asked(request, dialect, weights),
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p if request.top_p < 1 else None,
        "stop": list(request.stop) or None,
        "seed": request.seed,
        **dialect.fields(request),
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return _encoded({**body, **extra})


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps({k: v for k, v in body.items() if v is not None}).encode()


def _asked(request: Request, dialect: Dialect, weights: str) -> dict[str, Any]:
    tells = request.logprobs or request.alternatives > 0
    several = max(1, request.alternatives) if tells else None
    if request.vectors and weights:
        return {"prompt_embeds": saved(embeddings(request, weights)), "logprobs": several}
    if request.raw:
        return {"prompt": sendable(request.prompt.text), "logprobs": several}
    wish = {"logprobs": tells or None, "top_logprobs": request.alternatives or None}
    messages = messages_with_vectors(request) if request.vectors else messages_of(request.prompt)
    return {"messages": messages, **wish, **_going_on(messages, dialect)}


def _going_on(messages: Sequence[Mapping[str, Any]], dialect: Dialect) -> dict[str, Any]:
    """What asks a server to go on with the last message, when it is the assistant's."""
    *before, last = messages
    if last["role"] != "assistant":
        return {}
    if dialect.prefill == "vllm":
        return {"continue_final_message": True, "add_generation_prompt": False}
    if dialect.prefill == "prefix":
        return {"messages": [*before, {**last, "prefix": True}]}
    return {}


@dataclass(slots=True)
class Reply:
    """An answer put together from one body or from many events."""

    tokens: Tokens = field(default_factory=Tokens)
    texts: list[str] = field(default_factory=list)
    finish: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""

    @classmethod
    def to(cls, request: Request) -> Reply:
        return cls(Tokens(request.alternatives))

    def add(self, part: Mapping[str, Any]) -> str:
        """Add a body or an event; returns its text. Raises BackendError."""
        if "meta_info" in part:  # SGLang's own way
            part = as_completion(part, "".join(self.texts), len(self.tokens.texts))
        if part.get("error"):
            raise error_said(part["error"], retryable=_passes(part["error"]))
        self.usage = part.get("usage") or self.usage
        self.timings = part.get("timings") or self.timings
        self.model = part.get("model") or self.model
        if not part.get("choices"):
            return ""
        choice = part["choices"][0]
        said = choice.get("delta") or choice.get("message") or {}
        text = said.get("content") or choice.get("text") or ""
        self.texts.append(text)
        self.tokens.add(choice.get("logprobs") or {}, text)
        self.finish = choice.get("finish_reason") or self.finish
        return text

    def completion(self) -> Completion:
        return Completion(
            text="".join(self.texts),
            prompt_tokens=self.usage.get("prompt_tokens") or 0,
            cached_tokens=_cached(self.usage, self.timings),
            completion_tokens=self.usage.get("completion_tokens") or 0,
            finish_reason=FINISHES.get(self.finish, "other"),
            logprobs=tuple(self.tokens.logprobs),
            tokens=tuple(self.tokens.texts),
            alternatives=self.tokens.likeliest(),
            model=self.model,
        )


def _cached(usage: Mapping[str, Any], timings: Mapping[str, Any]) -> int:
    """The prompt tokens that a server had read before, where it tells; llama.cpp does by itself."""
    told = usage.get("prompt_tokens_details")
    found = told.get("cached_tokens") if isinstance(told, Mapping) else None
    if not isinstance(found, int):
        found = timings.get("cache_n")
    return found if isinstance(found, int) else 0


def _passes(error: Any) -> bool:
    """Whether an error within a stream tells of a status that may pass."""
    return isinstance(error, Mapping) and error.get("code") in RETRYABLE


def read(request: Request, text: str, dialect: Dialect = DIALECTS["openai"]) -> Completion:
    """The answer in a response body. Raises BackendError when it is not one."""
    reply = Reply.to(request)
    add(reply, text)
    if not reply.texts:
        raise BackendError(f"the server sent no answer: {text[:200]!r}", retryable=True)
    done = reply.completion()
    if dialect.repeats and not request.raw:
        return replace(done, text=done.text.removeprefix(_begun(request)))
    return done


def _begun(request: Request) -> str:
    """The last turn of the assistant that an answer goes on with; empty: there is none."""
    last = messages_of(request.prompt)[-1]
    return last["content"] if last["role"] == "assistant" else ""


def add(reply: Reply, text: str) -> str:
    """Add the JSON of a body or an event to a reply; returns its text. Raises BackendError."""
    try:
        return reply.add(json.loads(text))
    except BackendError:  # ContextLengthError is a ValueError too
        raise
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise BackendError(f"the server sent no answer: {text[:200]!r}", retryable=True) from error
