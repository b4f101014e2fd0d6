"""Any LangChain chat model as a backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from tersely.backends.parallel import aeach, each
from tersely.backends.wire import RETRYABLE, TOO_LONG
from tersely.contracts import Capability, Chunk, Completion, FinishReason, Request
from tersely.errors import BackendError, ConfigError, ContextLengthError, TerselyError
from tersely.prompt import messages_of

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


PASSING = ("ConnectionError", "TimeoutError", "RateLimitError")
"""How the integrations name errors that may pass and carry no HTTP status."""


@dataclass(frozen=True, slots=True)
class LangChainBackend:
    """Answers with a LangChain chat model, at most `parallel` requests at once.

    A request's settings go to the model by their LangChain names; `top_p`, `stop` and `seed`
    only where they are set. `extra` settings go over them; None there leaves one out. Raises
    ConfigError for `raw` and `logprobs`, which chat models don't share a way to ask for.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset({"parallel", "stream"})

    model: BaseChatModel
    parallel: int = 8
    extra: Mapping[str, Any] = field(default_factory=dict)

    def complete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests. Raises BackendError, ContextLengthError."""

        def ask(request: Request) -> Completion:
            with _translated():
                return _completion(self.model.invoke(_asked(request), **self._settings(request)))

        return each(ask, requests, self.parallel)

    async def acomplete(self, requests: Sequence[Request], /) -> list[Completion]:
        """Answer all requests without blocking. Raises BackendError, ContextLengthError."""

        async def ask(request: Request) -> Completion:
            with _translated():
                return _completion(
                    await self.model.ainvoke(_asked(request), **self._settings(request))
                )

        return await aeach(ask, requests, self.parallel)

    def stream(self, request: Request, /) -> Iterator[Chunk]:
        """Answer piece by piece. Raises BackendError, ContextLengthError."""
        whole: Any = None
        with _translated():
            for part in self.model.stream(_asked(request), **self._settings(request)):
                whole = part if whole is None else whole + part
                if text := str(part.text):
                    yield Chunk(text=text)
        yield _last(whole)

    async def astream(self, request: Request, /) -> AsyncIterator[Chunk]:
        """Answer piece by piece without blocking. Raises BackendError, ContextLengthError."""
        whole: Any = None
        with _translated():
            async for part in self.model.astream(_asked(request), **self._settings(request)):
                whole = part if whole is None else whole + part
                if text := str(part.text):
                    yield Chunk(text=text)
        yield _last(whole)

    def _settings(self, request: Request) -> dict[str, Any]:
        """A request's settings by their LangChain names."""
        settings = {
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p if request.top_p < 1 else None,
            "stop": list(request.stop) or None,
            "seed": request.seed,
            **self.extra,
        }
        return {name: value for name, value in settings.items() if value is not None}


def _asked(request: Request) -> list[dict[str, str]]:
    if request.raw:
        raise ConfigError("a chat model can't take raw text: use the local or the http backend")
    if request.logprobs:
        raise ConfigError("this backend has no logprobs: use the local or the http backend")
    return messages_of(request.prompt)


def _completion(message: AIMessage) -> Completion:
    usage: Mapping[str, Any] = message.usage_metadata or {}
    about = message.response_metadata
    reason = about.get("finish_reason") or about.get("stop_reason") or about.get("status")
    return Completion(
        text=str(message.text),
        prompt_tokens=usage.get("input_tokens", 0),
        completion_tokens=usage.get("output_tokens", 0),
        finish_reason=FINISHES.get(reason, "other"),
        model=about.get("model_name") or about.get("model") or "",
    )


def _last(whole: AIMessage | None) -> Chunk:
    if whole is None:
        raise BackendError("the model streamed nothing", retryable=True)
    return Chunk(text="", completion=_completion(whole))


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
