"""The tool by which a LangChain agent has again what was left out of a tool's result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

from tersely.errors import MissingExtra
from tersely.middleware.settled import scopes_of
from tersely.originals import Originals
from tersely.recall import ABOUT, TOOL, Recall

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
        scopes = scopes_of(state_messages(runtime.state))
        mine = (scope for scope in scopes if originals.get(scope, key) is not None)
        return Recall(originals, next(mine, NOWHERE)).answer(key, find, start)

    return StructuredTool.from_function(recall, name=TOOL, description=ABOUT)


def state_messages(state: Any) -> Sequence[Any]:
    """The messages of an agent's state."""
    found = state.get("messages") if isinstance(state, dict) else getattr(state, "messages", state)
    return found if isinstance(found, list) else []
