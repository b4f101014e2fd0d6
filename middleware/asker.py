"""Any backend as a LangChain chat model whose answers are written point by point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from tersely.contracts import Request
from tersely.errors import ConfigError
from tersely.middleware.adapter_langchain import LANGCHAIN
from tersely.middleware.drive import adrive, astream, drive, stream
from tersely.middleware.points import Beside, Points
from tersely.middleware.points_langchain import piece_of, result_of, settled_piece
from tersely.middleware.prompted import asked_by


class Asker(BaseChatModel):
    """Asks a backend, point by point where the question suits.

    It takes a text or messages, and gives an AIMessage: `invoke`, `ainvoke`, `stream`, `astream`,
    `batch`, and whatever LangChain builds on these. Called with a text or messages it does the same
    as `invoke`; called with a function that makes a prompt it gives one that gives the answer's
    text, so that it is a decorator. `response_metadata["sot"]` tells how the answer came about.

    The points have `max_tokens` together. Raises what the backend raises.
    """

    backend: Any
    points: Points
    max_tokens: int = 1024
    temperature: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "tersely-sot"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What an answer depends on: LangChain's cache tells askers apart by it."""
        names = ("model", "base_url")
        return {
            "backend": type(self.backend).__name__,
            **{name: str(getattr(self.backend, name, "")) for name in names},
            "points": repr(self.points),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }

    def __call__(self, what: Any) -> Any:
        """The answer to a text or messages; of a function, one that gives its answer's text."""
        return asked_by(self, what)

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        beside = self._beside(messages, stop, kwargs)
        return result_of(beside.settled(drive(beside.all_steps(), beside.backend)))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        beside = await asyncio.to_thread(self._beside, messages, stop, kwargs)
        return result_of(beside.settled(await adrive(beside.all_steps(), beside.backend)))

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        beside = self._beside(messages, stop, kwargs)
        with closing(stream(beside.all_steps(), beside.backend)) as pieces:
            for chunk in pieces:
                yield piece_of(settled_piece(beside, chunk))

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        beside = await asyncio.to_thread(self._beside, messages, stop, kwargs)
        async with aclosing(astream(beside.all_steps(), beside.backend)) as pieces:
            async for chunk in pieces:
                yield piece_of(settled_piece(beside, chunk))

    def _beside(self, messages: list[BaseMessage], stop: Any, settings: dict[str, Any]) -> Beside:
        known = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        given = {name: value for name, value in settings.items() if value is not None}
        given.pop("stream", None)
        if strange := sorted(given.keys() - {*known, "top_p", "seed"}):
            raise ConfigError(f"a backend has no {strange[0]}: leave it out, or wrap a chat model")
        prompt = LANGCHAIN.read(messages)
        request = Request(prompt=prompt, stop=tuple(stop or ()), **{**known, **given})
        model = str(getattr(self.backend, "model", ""))
        return Beside.of(self.points, request, self.backend, model)
