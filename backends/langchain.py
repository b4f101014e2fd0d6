"""Any LangChain chat model as a backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tersely.backends.parallel import aeach, each
from tersely.backends.spelling import Tokens
from tersely.calls import RETRYABLE, TOO_LONG
from tersely.contracts import Capability, Chunk, Completion, FinishReason, Request
from tersely.errors import BackendError, ConfigError, ContextLengthError, TerselyError
from tersely.prompt import messages_of
from tersely.wishes import refuse_unable

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

FINISHES: Mapping[str | None, FinishReason] = {
    None: "stop",
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "STOP": "stop",
    "completed": "stop",
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
}
"""What the integrations call the end of an answer."""

NEVER: frozenset[Capability] = frozenset({"grammar", "repetition_penalty"})
"""What chat models share no way to ask for."""

PASSING = ("ConnectionError", "TimeoutError", "RateLimitError")
"""How the integrations name errors that may pass and carry no HTTP status."""


@dataclass(frozen=True, slots=True)
class LangChainBackend:
    """Answers with a LangChain chat model, at most `parallel` requests at once.

    A request's settings go to the model by their LangChain names; `top_p`, `stop` and `seed`
    only where they are set. `extra` settings go over them; None there leaves one out.

    `can` tells what the model can do besides. Chat models share no way to ask for
    log-probabilities: with `logprobs` and `alternatives` in `can` they are asked for and read as
    ChatOpenAI has them; else a request for them raises ConfigError, as one for `raw` does. Requests
    for a grammar or a repetition penalty are always refused: no two integrations take them alike.
    """

    model: BaseChatModel
    parallel: int = 8
    extra: Mapping[str, Any] = field(default_factory=dict)
    can: frozenset[Capability] = frozenset({"stream"})

    @property
    def capabilities(self) -> frozenset[Capability]:
        """`can`, as far as it can be passed on, and answering several requests at once."""
        return self.can.difference(NEVER).union(("parallel",))

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests. Raises BackendError, ContextLengthError."""

        def ask(request: Request) -> Completion:
            with _translated():
                asked, settings = self._asked(request)
                return _read(request, self.model.invoke(asked, **settings))

        return each(ask, requests, self.parallel)

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests without blocking. Raises BackendError, ContextLengthError."""

        async def ask(request: Request) -> Completion:
            with _translated():
                asked, settings = self._asked(request)
                return _read(request, await self.model.ainvoke(asked, **settings))

        return await aeach(ask, requests, self.parallel)

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece. Raises BackendError, ContextLengthError."""
        reply = _Reply(Tokens(request.alternatives))
        with _translated():
            asked, settings = self._asked(request)
            for part in self.model.stream(asked, **settings):
                if text := reply.add(part):
                    yield reply.tokens.chunk(text)
        yield reply.tokens.chunk("", reply.completion())

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        """Answer piece by piece without blocking. Raises BackendError, ContextLengthError."""
        reply = _Reply(Tokens(request.alternatives))
        with _translated():
            asked, settings = self._asked(request)
            async for part in self.model.astream(asked, **settings):
                if text := reply.add(part):
                    yield reply.tokens.chunk(text)
        yield reply.tokens.chunk("", reply.completion())

    def _asked(self, request: Request) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """A request's messages, and its settings by their LangChain names."""
        if request.raw:
            raise ConfigError("a chat model can't take raw text: use the local or the http backend")
        able = self.capabilities - {"embeds", "kv_prefix"}  # messages have no place for them
        refuse_unable(request, able, mend="use the local or the http backend")
        wishes: dict[Capability, Any] = {
            "logprobs": request.logprobs or request.alternatives > 0,
            "alternatives": request.alternatives,
        }
        for name, wish in wishes.items():
            if wish and name not in self.can:
                raise ConfigError(
                    f"this backend has no {name}: use the local or the http backend, or add"
                    f" {name!r} to `can` if the model takes them as ChatOpenAI does"
                )
        settings = {
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p if request.top_p < 1 else None,
            "stop": list(request.stop) or None,
            "seed": request.seed,
            "logprobs": wishes["logprobs"] or None,
            "top_logprobs": wishes["alternatives"] or None,
            **self.extra,
        }
        asked = {name: value for name, value in settings.items() if value is not None}
        return messages_of(request.prompt), asked


@dataclass(slots=True)
class _Reply:
    """An answer put together from one message or from the pieces of one."""

    tokens: Tokens
    whole: Any = None

    def add(self, part: AIMessage) -> str:
        """Add a message or a piece of one; returns its text."""
        self.whole = part if self.whole is None else self.whole + part
        text = str(part.text)
        told = part.response_metadata.get("logprobs")
        self.tokens.add(told if isinstance(told, dict) else {}, text)
        return text

    def completion(self) -> Completion:
        """The answer. Raises BackendError when none came."""
        if self.whole is None:
            raise BackendError("the model streamed nothing", retryable=True)
        usage: Mapping[str, Any] = self.whole.usage_metadata or {}
        about: Mapping[str, Any] = self.whole.response_metadata
        reason = about.get("finish_reason") or about.get("stop_reason") or about.get("status")
        return Completion(
            text=str(self.whole.text),
            prompt_tokens=usage.get("input_tokens", 0),
            cached_tokens=(usage.get("input_token_details") or {}).get("cache_read") or 0,
            completion_tokens=usage.get("output_tokens", 0),
            finish_reason=FINISHES.get(reason, "other"),
            logprobs=tuple(self.tokens.logprobs),
            tokens=tuple(self.tokens.texts),
            alternatives=self.tokens.likeliest(),
            model=about.get("model_name") or about.get("model") or "",
        )


def _read(request: Request, message: AIMessage) -> Completion:
    reply = _Reply(Tokens(request.alternatives))
    reply.add(message)
    return reply.completion()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what a chat model raises into our errors; each integration has a tree of its own."""
    try:
        yield
    except TerselyError:
        raise
    except Exception as error:
        message = f"the chat model failed ({type(error).__name__}: {error})"
        if _too_long(error):
            raise ContextLengthError(message) from error
        raise BackendError(message, retryable=_may_pass(error)) from error


def _too_long(error: Exception) -> bool:
    about = f"{type(error).__name__} {getattr(error, 'code', '')} {error}"
    return "ContextOverflow" in about or TOO_LONG.search(about) is not None


def _may_pass(error: Exception) -> bool:
    status = getattr(error, "status_code", None)
    return status in RETRYABLE or type(error).__name__.endswith(PASSING)
