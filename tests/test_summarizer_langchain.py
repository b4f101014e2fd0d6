"""Our text in the place of old turns, in LangChain's own middleware."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

import tersely
from tersely.backends.scripted import ScriptedBackend
from tersely.errors import ConfigError
from tersely.history import HEAD
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.summarizer_langchain import TerselySummarizer, summarization

STORY = "The tale went on without any turn and nobody in the room had much to add to it then. "


def way(count: int) -> list[AnyMessage]:
    made: list[AnyMessage] = []
    for i in range(count):
        call = {"name": "search", "args": {"town": f"Town{i}"}, "id": f"c{i}"}
        made += [
            HumanMessage(f"Never book before {i + 7} AM in Town{i}. Thanks!"),
            AIMessage("", tool_calls=[call]),
            ToolMessage(f'[{{"id": "HAT{i}", "price": {i}50}}]', tool_call_id=f"c{i}"),
            AIMessage(f"I have found HAT{i}. {STORY * 4}"),
        ]
    return made


class Heard(GenericFakeChatModel):
    """A model that answers as it is told and notes what it was sent."""

    heard: list[list[AnyMessage]] = []

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        self.heard.append(list(messages))
        return super()._generate(messages, *args, **kwargs)

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def model(*answers: AIMessage) -> Heard:
    return Heard(messages=iter(answers), heard=[])


def middleware(**settings: Any) -> SummarizationMiddleware:
    given: dict[str, Any] = {"trigger": ("messages", 6), "keep": ("messages", 2)}
    return summarization(model(), **given | settings)


def test_what_binds_stands_in_the_message_that_langchain_puts_in_place() -> None:
    told = middleware().before_model({"messages": way(4)}, None)  # type: ignore[arg-type, typeddict-item]
    assert told is not None
    text = told["messages"][1].content
    for i in range(3):
        assert f"user: Never book before {i + 7} AM in Town{i}.\n" in text
        assert f"call: search(town Town{i})" in text
        assert f"HAT{i}" in text
    assert "Thanks" not in text
    assert len(text) < sum(len(str(one.content)) for one in way(4)) / 2


def test_the_next_text_goes_on_from_the_last() -> None:
    ours = middleware()
    state: Any = {"messages": way(4)}
    for i in range(3):
        told = ours.before_model(state, None)  # type: ignore[arg-type]
        assert told is not None
        state = {"messages": [*told["messages"][1:], *way(9)[16 + 8 * i : 24 + 8 * i]]}
    text = state["messages"][0].content
    assert text.count(HEAD) == 1
    assert all(f"Never book before {i + 7} AM in Town{i}." in text for i in range(7))


async def test_it_works_without_blocking_too() -> None:
    told = await middleware().abefore_model({"messages": way(4)}, None)  # type: ignore[arg-type, typeddict-item]
    assert told is not None
    assert "Never book before 7 AM" in told["messages"][1].content


def test_an_agent_goes_on_with_it() -> None:
    @tool
    def search(town: str) -> str:
        """Look for flights."""
        return '[{"id": "HAT9", "price": 950}]'

    call = {"name": "search", "args": {"town": "Oslo"}, "id": "c9"}
    asked = model(AIMessage("", tool_calls=[call]), AIMessage("HAT9 it is."))
    agent = create_agent(
        asked,
        tools=[search],
        system_prompt="You book flights.",
        middleware=[summarization(asked, trigger=("messages", 8), keep=("messages", 3))],
    )
    done = agent.invoke({"messages": [*way(3), HumanMessage("And to Oslo?")]})
    assert done["messages"][-1].content == "HAT9 it is."
    first = asked.heard[0]
    assert isinstance(first[0], SystemMessage)
    assert HEAD in str(first[1].content)
    assert "Never book before 7 AM in Town0." in str(first[1].content)
    assert str(first[-1].content) == "And to Oslo?"


def test_a_backend_writes_the_rest() -> None:
    backend = ScriptedBackend(lambda _: "The tale went on without any turn.")
    text = TerselySummarizer(backend).invoke(way(4))
    assert text.splitlines()[1] == "gist: The tale went on without any turn."


def test_where_nothing_is_shorter_everything_is_told() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    short = [HumanMessage("Two\nlines"), HumanMessage([{"type": "text", "text": "Look"}, picture])]
    assert TerselySummarizer().invoke(short) == "\n".join(
        [HEAD, "user: Two\n  lines", "user: Look", "user: [it holds image_url]"]
    )


def test_a_wrong_setting_is_told() -> None:
    with pytest.raises(ConfigError, match="ratio"):
        TerselySummarizer(ratio=0)
    with pytest.raises(ConfigError, match="gists"):
        middleware(history={"gists": 1})


def test_a_wrapped_model_is_sent_the_compacted_conversation() -> None:
    asked = model(AIMessage("Yes."), AIMessage("Yes."))
    ours = tersely.wrap(asked, Pipeline(history={"limit": 300, "keep": 2}))
    said = [SystemMessage("You book flights."), *way(4), HumanMessage("And now?")]
    ours.invoke(said)
    ours.invoke([*said, AIMessage("Yes."), HumanMessage("Then?")])
    first, second = asked.heard
    assert first[0] is said[0] and HEAD in str(first[1].content)
    assert len(first) < len(said)
    assert second[1].content == first[1].content
