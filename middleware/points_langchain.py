"""LangChain chat models whose answers are written point by point, all at the same time.

The plan's calls go to the model's own `_stream` and `_agenerate`, below its callbacks and its
cache: who watches or counts sees one call, with all its tokens, and its pieces in their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tersely import registry
from tersely.account import SotAnswer
from tersely.contracts import Chunk, Completion, Request
from tersely.middleware.adapter_langchain import LANGCHAIN
from tersely.middleware.drive import adrive, astream, drive, stream
from tersely.middleware.points import ROOM, Beside, Points, Untouched, failed, untouched
from tersely.middleware.serve_reply import account_of
from tersely.middleware.threaded import threaded

if TYPE_CHECKING:
    from langchain_core.messages import AIMessageChunk, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult

CARRIED = frozenset(
    {"frequency_penalty", "metadata", "presence_penalty", "seed", "stream", "stream_usage"}
    | {"temperature", "top_k", "top_p", "user"}
)
"""Settings of a call that every call of the plan takes along."""

ROLES = ("system", "human", "ai")

LIMITS = ("max_tokens", "max_output_tokens", "num_predict")
"""What models call the length that they were bound to."""

BOUND = ("response_format", "tools", "functions", "stop", "logprobs")
"""Settings of a model under which an answer can't be taken apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One call of a wrapped model. `plain` is the model as it was, `blocking` tells a sync call."""

    plain: Any
    points: Points
    model: str
    messages: Sequence[Any]
    stop: Any
    settings: Mapping[str, Any]
    blocking: bool = False

    def beside(self) -> Beside:
        """The request for a plan. Raises Untouched when none can answer."""
        if why := self._against:
            raise Untouched(why)
        limits = (getattr(self.plain, name, None) for name in LIMITS)
        limit = self.settings.get("max_tokens") or next((n for n in limits if n), None)
        own = dict.fromkeys(("temperature", "seed", "top_p"))
        given = {k: v for k, v in self.settings.items() if k in CARRIED and k != "stream"}
        # where nobody bounded the answer, no call is bounded
        bounded = {} if isinstance(limit, int) else {"max_tokens": None}
        backend = registry.backend(
            "langchain", model=Quiet(self.plain, self.blocking), extra={**own, **given, **bounded}
        )
        request = Request(
            prompt=LANGCHAIN.read(list(self.messages)),
            max_tokens=limit if isinstance(limit, int) else ROOM,
            temperature=1.0,
        )
        return Beside.of(self.points, request, backend, self.model)

    @property
    def _against(self) -> str:
        """Why the answer can't be made of several calls, or ""."""
        strange = self.settings.keys() - CARRIED - {"max_tokens", "stop"}
        given = {name for name in strange if self.settings[name] is not None}
        if given:
            return f"{min(given)} is asked for"
        if self.stop or getattr(self.plain, "stop", None):
            return "the answer is to stop at a string"
        if (getattr(self.plain, "n", None) or 1) > 1:
            return f"{self.plain.n} answers are wanted"
        fixed = getattr(self.plain, "model_kwargs", None) or {}
        if bound := [name for name in BOUND if fixed.get(name) or getattr(self.plain, name, None)]:
            return f"the model is bound to {bound[0]}"
        if not all(map(_is_text, self.messages)) or self.messages[-1].type != "human":
            return "the messages hold more than text, or do not end with the user's"
        return ""


def answered(turn: Turn) -> ChatResult | None:
    """The answer that a plan makes; None where the model is to answer itself."""
    try:
        beside = turn.beside()
        return result_of(beside.settled(drive(beside.steps(), beside.backend)))
    except Exception as error:  # whatever it was, the plain way is still open
        untouched(failed(error))
        return None


async def aanswered(turn: Turn) -> ChatResult | None:
    """As `answered`, without blocking."""
    try:
        beside = await asyncio.to_thread(turn.beside)
        return result_of(beside.settled(await adrive(beside.steps(), beside.backend)))
    except Exception as error:
        untouched(failed(error))
        return None


def streamed(turn: Turn) -> Generator[ChatGenerationChunk, None, bool]:
    """The pieces of the answer that a plan makes, and whether there were any.

    There are none where the model is to answer itself.
    """
    begun = False
    try:
        beside = turn.beside()
        with closing(stream(beside.steps(), beside.backend)) as pieces:
            for chunk in pieces:
                begun = True
                yield piece_of(settled_piece(beside, chunk))
    except Exception as error:
        if begun:
            raise
        untouched(failed(error))
    return begun


async def astreamed(turn: Turn) -> AsyncGenerator[ChatGenerationChunk, None]:
    """As `streamed`, without blocking."""
    begun = False
    try:
        beside = await asyncio.to_thread(turn.beside)
        async with aclosing(astream(beside.steps(), beside.backend)) as pieces:
            async for chunk in pieces:
                begun = True
                yield piece_of(settled_piece(beside, chunk))
    except Exception as error:
        if begun:
            raise
        untouched(failed(error))


def settled_piece(beside: Beside, chunk: Chunk) -> Chunk:
    """A piece of an answer; of the last one the bill is settled."""
    if chunk.completion is None:
        return chunk
    return Chunk(text=chunk.text, completion=beside.settled(chunk.completion))


def result_of(answer: Completion) -> ChatResult:
    """An answer as a chat model gives it."""
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    message = AIMessage(
        answer.text, usage_metadata=_usage(answer), response_metadata=_about(answer)
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def piece_of(chunk: Chunk) -> ChatGenerationChunk:
    """A piece of an answer as a chat model gives it; the last one has what it took."""
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk

    answer = chunk.completion
    if answer is None:
        return ChatGenerationChunk(message=AIMessageChunk(content=chunk.text))
    message = AIMessageChunk(
        content="",
        usage_metadata=_usage(answer),
        response_metadata=_about(answer),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message)


def _usage(answer: Completion) -> Any:
    return {
        "input_tokens": answer.prompt_tokens,
        "output_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "input_token_details": {"cache_read": answer.cached_tokens},
    }


def _about(answer: Completion) -> dict[str, Any]:
    reason = "length" if answer.finish_reason in ("length", "cancelled") else "stop"
    account = {"sot": account_of(answer.account)} if isinstance(answer, SotAnswer) else {}
    return {"finish_reason": reason, "model_name": answer.model, **account}


def _is_text(message: Any) -> bool:
    """Whether a message is plain text, and calls no tool."""
    content = message.content
    parts = content if isinstance(content, list) else [content]
    texts = (isinstance(one, str) or one.get("type") == "text" for one in parts)
    return message.type in ROLES and not getattr(message, "tool_calls", None) and all(texts)


@dataclass(frozen=True, slots=True)
class Quiet:
    """A chat model that nobody watches, as far as the backend over one asks it.

    For a `blocking` caller its sync methods run in threads: the event loop under such a caller
    ends with the answer, and async clients keep connections for longer.
    """

    model: Any
    blocking: bool = False

    def invoke(self, messages: Any, **settings: Any) -> BaseMessage:
        """The whole answer."""
        self._wait()
        result = self.model._generate(_messages(messages), **settings)
        message: BaseMessage = result.generations[0].message
        return message

    async def ainvoke(self, messages: Any, **settings: Any) -> BaseMessage:
        """The whole answer, without blocking."""
        if self.model.rate_limiter:
            await self.model.rate_limiter.aacquire(blocking=True)
        result = await self.model._agenerate(_messages(messages), **settings)
        message: BaseMessage = result.generations[0].message
        return message

    def stream(self, messages: Any, **settings: Any) -> Iterator[BaseMessage]:
        """The answer piece by piece, where the model gives pieces."""
        if not self._has("_stream"):
            yield self.invoke(messages, **settings)
            return
        self._wait()
        for chunk in self.model._stream(_messages(messages), **self._told(settings)):
            yield _described(chunk)

    async def astream(self, messages: Any, **settings: Any) -> AsyncIterator[BaseMessage]:
        """The same without blocking."""
        if self.blocking:
            async with aclosing(threaded(lambda: self.stream(messages, **settings))) as parts:
                async for part in parts:
                    yield part
        elif not (self._has("_stream") or self._has("_astream")):
            yield await self.ainvoke(messages, **settings)
        else:
            if self.model.rate_limiter:
                await self.model.rate_limiter.aacquire(blocking=True)
            made = self.model._astream(_messages(messages), **self._told(settings))
            async with aclosing(made) as chunks:
                async for chunk in chunks:
                    yield _described(chunk)

    def _has(self, name: str) -> bool:
        from langchain_core.language_models import BaseChatModel

        return getattr(type(self.model), name) is not getattr(BaseChatModel, name)

    def _told(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings, with the wish to hear of the tokens where the model knows that one."""
        known = "stream_usage" in getattr(type(self.model), "model_fields", {})
        return {"stream_usage": True, **settings} if known else settings

    def _wait(self) -> None:
        if self.model.rate_limiter:
            self.model.rate_limiter.acquire(blocking=True)


def _messages(said: Any) -> list[BaseMessage]:
    from langchain_core.messages import convert_to_messages

    return convert_to_messages(said)


def _described(chunk: ChatGenerationChunk) -> AIMessageChunk:
    """The message of a piece, with what was told beside it."""
    message: Any = chunk.message
    about = {**(chunk.generation_info or {}), **message.response_metadata}
    described: AIMessageChunk = message.model_copy(update={"response_metadata": about})
    return described
