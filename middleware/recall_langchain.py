"""The tool by which a LangChain agent has again what was left out of a tool's result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from tersely.errors import MissingExtra
from tersely.middleware.adapter_langchain import LANGCHAIN
from tersely.middleware.settled import scopes_of
from tersely.originals import Originals
from tersely.recall import ABOUT, TOOL, Recall, given, key_of

try:
    from langchain.tools import ToolRuntime
except ImportError as error:
    raise MissingExtra("langchain", "langchain") from error

NOWHERE = "-"
"""A scope under which nothing is kept."""


def recall_tool(originals: Originals) -> BaseTool:
    """A tool that gives what was kept of the results of the conversation that calls it.

    Which conversation that is tell the metadata of the messages in its state, which no model and
    no text of a tool can write: a key from elsewhere gives nothing.
    """

    def recall(key: str, runtime: ToolRuntime[Any, Any], find: str = "", start: int = 0) -> str:
        messages = state_messages(runtime.state)
        mine = (one for one in scopes_of(messages) if originals.get(one, key) is not None)
        scope = next(mine, NOWHERE)
        if scope == NOWHERE and (text := said_under(messages, key)) is not None:
            return given(text, find, start)
        return Recall(originals, scope).answer(key, find, start)

    return StructuredTool.from_function(recall, name=TOOL, description=ABOUT)


def said_under(messages: Sequence[Any], key: str) -> str | None:
    """What a tool gave that has this key, and stands in an agent's state; None when nothing does.

    Requests may hold less of it than the state.
    """
    results = [one for one in messages if getattr(one, "type", "") == "tool"]
    leaves = LANGCHAIN.read(results).leaves if results else ()
    return next((one.text for one in leaves if key_of(one.text) == key), None)


def state_messages(state: Any) -> Sequence[Any]:
    """The messages of an agent's state."""
    found = state.get("messages") if isinstance(state, dict) else getattr(state, "messages", state)
    return found if isinstance(found, list) else []
