"""LangChain agents whose prompts, and what their tools give, are compressed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, SystemMessage, ToolMessage

from tersely.budget import Budget, BudgetLike
from tersely.contracts import Stage
from tersely.errors import MissingExtra, StoreError
from tersely.middleware import scope
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline, pipeline_of
from tersely.middleware.recall_langchain import recall_tool, state_messages
from tersely.middleware.scope import Override
from tersely.middleware.session import Session
from tersely.middleware.settled import (
    SETTLED_READER,
    account_of,
    question_of,
    scopes_of,
    settled,
)
from tersely.middleware.shelved import less, marked
from tersely.middleware.wrap_langchain import model_name, working
from tersely.middleware.wrapping import Wrapping
from tersely.originals import Originals
from tersely.recall import Recall, Told
from tersely.report import Mode
from tersely.tokens import counter

try:
    from langchain.agents.middleware import (
        AgentMiddleware,
        AgentState,
        ModelRequest,
        ModelResponse,
    )
    from langchain.agents.middleware.types import ModelCallResult, ToolCallRequest
    from langgraph.types import Command
except ImportError as error:
    raise MissingExtra("langchain", "langchain") from error

SURFACE = "langchain"

told = logging.getLogger("tersely.agents")

Answer = ToolMessage | Command[Any]
"""What a tool gives: a message, or a change of the agent's state with messages in it."""


class TerselyMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Middleware for `create_agent` that compresses what the model is asked.

    What a tool gives is compressed once, when it comes: the agent's state holds the short form,
    and no later call changes it. All else is compressed in each request alone, and a text goes out
    in every request as it did in the first. Messages are never dropped, added or moved, so that
    every call keeps its result. Failures of tools stay as they are.

    `result_budget` is what a result may cost together with its call; left out, it is the
    pipeline's own. With `results` off, or under a budget in tokens, which only a whole request can
    share out, the state keeps what the tools gave, and requests hold the short form. The other
    settings go before the pipeline's own, as in `tersely.wrap`.

    A result that lost something ends with a mark that tells how much. With `recall`, which may say
    where the originals are kept, the agent has a tool of that name that gives them again, and the
    marks name it; else they say that nothing can be had again.

    `account` holds the latest `report`, the tokens `saved`, and how many `requests` were made; a
    result of a tool counts as one.
    """

    def __init__(
        self,
        pipeline: Pipeline | str | Stage | Sequence[object] | Path = "default",
        *,
        budget: BudgetLike = None,
        mode: Mode | None = None,
        strict: bool | None = None,
        results: bool = True,
        result_budget: BudgetLike = None,
        recall: Originals | bool = False,
    ) -> None:
        """Raises ConfigError for a setting that can't work."""
        super().__init__()
        self._originals = Originals() if recall is True else recall or None
        self.tools = [recall_tool(self._originals)] if self._originals else []
        self.account = Session()
        wishes = Override.of({"budget": budget, "mode": mode, "strict": strict})
        self._asking = Wrapping(_recalling(pipeline_of(pipeline), self._originals), wishes)
        own = wishes.budget or self._asking.pipeline.budget
        each = own if result_budget is None else Budget.of(result_budget)
        self.results = results and (result_budget is not None or own.tokens is None)
        self._each = each
        self._giving = Wrapping(self._asking.pipeline.but(history=None), wishes)
        self._count = counter(self._giving.pipeline.model)

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelCallResult[Any]:
        """Ask the model with fewer tokens."""
        messages, wishes = _said(request), self._asking.wishes(None)
        result = self._asking.run(
            messages, wishes, surface=SETTLED_READER, model=model_name(request.model)
        )
        with working(request.model):
            return handler(self._with(request, result))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelCallResult[Any]:
        """The same without blocking the event loop."""
        messages, wishes = _said(request), self._asking.wishes(None)
        result = await self._asking.arun(
            messages, wishes, surface=SETTLED_READER, model=model_name(request.model)
        )
        with working(request.model):
            return await handler(self._with(request, result))

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Answer]
    ) -> Answer:
        """Give the agent what a tool gave with fewer tokens."""
        given = handler(request)
        short = [self._short(request, one) for one in self._due(given)]
        return _replaced(given, short)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Answer]]
    ) -> Answer:
        """The same without blocking the event loop."""
        given = await handler(request)
        short = [await self._ashort(request, one) for one in self._due(given)]
        return _replaced(given, short)

    def _with(self, request: ModelRequest[Any], result: Result) -> ModelRequest[Any]:
        """The request with the messages that a run gave."""
        self.account.note(result.report)
        made = list(result.output)
        if request.system_message is not None and isinstance(made[0], SystemMessage):
            return request.override(system_message=made[0], messages=made[1:])
        return request.override(messages=made)

    def _due(self, given: Answer) -> list[ToolMessage]:
        """The results that are to be compressed."""
        return [one for one in _results(given) if self.results and _may_change(one)]

    def _short(self, request: ToolCallRequest, message: ToolMessage) -> ToolMessage:
        if request.tool in self.tools:
            return _whole(message)
        said, wishes = self._as_asked(request, message)
        return self._noted(request, message, self._giving.run(said, wishes, surface=SURFACE))

    async def _ashort(self, request: ToolCallRequest, message: ToolMessage) -> ToolMessage:
        if request.tool in self.tools:
            return _whole(message)
        said, wishes = self._as_asked(request, message)
        result = await self._giving.arun(said, wishes, surface=SURFACE)
        return self._noted(request, message, result)

    def _as_asked(
        self, request: ToolCallRequest, message: ToolMessage
    ) -> tuple[list[Any], Override]:
        """A result behind its call, and what holds for compressing it."""
        called = AIMessage("", tool_calls=[request.tool_call])
        own = Override(
            question=question_of(state_messages(request.state)),
            session=Session(),
            budget=less(self._each_now, self._count(str(message.text))),
        )
        return [called, message], replace(self._giving.wishes(None), budget=None).over(own)

    @property
    def _each_now(self) -> Budget:
        """What a result may cost here: blocks around the call go first."""
        around = scope.current_override().budget
        return self._each if around is None or around.tokens is not None else around

    def _noted(self, request: ToolCallRequest, message: ToolMessage, result: Result) -> ToolMessage:
        """The short form of a result, with a mark and an account."""
        self.account.note(result.report)
        unchanged = result.output[-1] is message
        if unchanged:
            return message
        name = next(iter(scopes_of(state_messages(request.state))), "") or uuid4().hex
        recall = Recall(self._originals, name) if self._originals else None
        try:
            short: ToolMessage = marked(result, self._count, recall)[-1]
        except StoreError as error:
            told.warning("what was left out of a result is not kept: %s", error)
            short = marked(result, self._count)[-1]
        before, after = self._count.many([str(message.text), str(short.text)])
        kept = {"scope": name} if recall else {}
        made: ToolMessage = settled(short, before=before, after=after, **kept)
        return made


def _recalling(pipeline: Pipeline, originals: Originals | None) -> Pipeline:
    """A pipeline that tells of old results how to have them again: the agent's state holds them."""
    terms = pipeline.history
    if originals is None or terms is None or terms.recall is not None:
        return pipeline
    return pipeline.but(history=terms.model_copy(update={"recall": Told()}))


def _whole(message: ToolMessage) -> ToolMessage:
    """What was recalled, which is not to be compressed again."""
    made: ToolMessage = settled(message, recalled=True)
    return made


def _said(request: ModelRequest[Any]) -> list[Any]:
    """All messages of a request, the system's in front."""
    system = [] if request.system_message is None else [request.system_message]
    return [*system, *request.messages]


def _results(given: Answer) -> list[ToolMessage]:
    """The messages of tools in what a tool gave."""
    if isinstance(given, ToolMessage):
        return [given]
    update = given.update
    found = update.get("messages", ()) if isinstance(update, dict) else ()
    return [one for one in found if isinstance(one, ToolMessage)]


def _may_change(message: ToolMessage) -> bool:
    return message.status != "error" and not account_of(message)


def _replaced(given: Answer, short: Sequence[ToolMessage]) -> Answer:
    """What a tool gave, with other messages in the place of those that answer the same calls."""
    made = {one.tool_call_id: one for one in short}
    if isinstance(given, ToolMessage):
        return made.get(given.tool_call_id, given)
    if not made or not isinstance(given.update, dict):
        return given
    messages = [
        made.get(one.tool_call_id, one) if isinstance(one, ToolMessage) else one
        for one in given.update["messages"]
    ]
    return replace(given, update={**given.update, "messages": messages})
