"""LangChain agents: their prompts and what their tools give are compressed, and nothing breaks."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from first_words import LONG, SHORT, FirstWords, first_words
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from pydantic import Field

import tersely
from tersely.contracts import Context
from tersely.errors import ConfigError, MissingExtra, StageError, UnknownName
from tersely.middleware.pipeline import Pipeline
from tersely.originals import Originals
from tersely.prompt import Prompt

pytest.importorskip("langchain.agents")

from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tersely.middleware.agent_langchain import TerselyMiddleware

ROWS = json.dumps(
    [{"id": f"ORD-{i:04}", "state": "sent", "total": f"{i}.10"} for i in range(120)], indent=2
)


class Caller(BaseChatModel):
    """A model that calls the named tools in turn, then answers; it keeps what it was asked."""

    calls: list[tuple[str, dict[str, Any]]] = Field(default_factory=list)
    seen: list[list[BaseMessage]] = Field(default_factory=list)
    model_name: str = "gpt-4o"

    @property
    def _llm_type(self) -> str:
        return "caller"

    def bind_tools(self, tools: Any, **settings: Any) -> Any:
        return self

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        at = len(self.seen)
        self.seen.append(list(messages))
        said = AIMessage("done")
        if at < len(self.calls):
            name, args = self.calls[at]
            said = AIMessage("", tool_calls=[{"id": f"c{at}", "name": name, "args": args}])
        return ChatResult(generations=[ChatGeneration(message=said)])


@tool
def look(city: str) -> str:
    """Look at the weather of a city."""
    return LONG


@tool
def orders(state: str) -> str:
    """List all orders of a state."""
    return ROWS


@tool
def fail() -> ToolMessage:
    """Fail."""
    return ToolMessage(LONG, tool_call_id="c0", status="error")


@tool
def change() -> Command[Any]:
    """Change the state of the agent."""
    return Command(update={"messages": [ToolMessage(LONG, tool_call_id="c0")]})


TOOLS = (look, orders, fail, change)
ASKED = [("look", {"city": "Graz"}), ("look", {"city": "Linz"})]


def agent(model: BaseChatModel, middleware: Any, **settings: Any) -> Any:
    return create_agent(
        model, [*TOOLS], middleware=[middleware], system_prompt="Be brief.", **settings
    )


def begun(text: str = "What is the weather?") -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def texts(messages: list[BaseMessage]) -> list[str]:
    return [str(message.content) for message in messages]


def bare(messages: list[BaseMessage]) -> list[str]:
    """The texts without the marks of what is left out."""
    return [text.partition("\n[")[0] for text in texts(messages)]


WAYS: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda one: one.invoke(begun()),
    "stream": lambda one: list(one.stream(begun(), stream_mode="values"))[-1],
}


@pytest.mark.parametrize("way", WAYS)
def test_results_are_short_in_the_state_and_in_every_request(way: str) -> None:
    model, middleware = Caller(calls=ASKED), TerselyMiddleware(first_words())
    state = WAYS[way](agent(model, middleware))
    assert bare(state["messages"]) == ["What is the weather?", "", SHORT, "", SHORT, "done"]
    assert [texts(seen)[0] for seen in model.seen] == ["Be brief."] * 3
    for earlier, later in zip(model.seen, model.seen[1:], strict=False):
        assert texts(later)[: len(earlier)] == texts(earlier)
    told = state["messages"][2].response_metadata["tersely"]
    assert told["before"] > told["after"]


async def test_the_same_without_blocking() -> None:
    model, middleware = Caller(calls=ASKED), TerselyMiddleware(first_words())
    state = await agent(model, middleware).ainvoke(begun())
    assert bare(state["messages"]) == ["What is the weather?", "", SHORT, "", SHORT, "done"]
    assert middleware.account.saved > 0 and middleware.account.requests == 5


def test_every_call_keeps_its_result() -> None:
    model = Caller(calls=[("orders", {"state": "sent"}), *ASKED])
    agent(model, TerselyMiddleware(first_words())).invoke(begun())
    for seen in model.seen:
        called = [call["id"] for m in seen if isinstance(m, AIMessage) for call in m.tool_calls]
        assert called == [m.tool_call_id for m in seen if isinstance(m, ToolMessage)]


def test_the_state_can_keep_what_the_tools_gave() -> None:
    model = Caller(calls=ASKED, model_name="mine")  # whose cache has no least length
    middleware = TerselyMiddleware(first_words(), results=False)
    state = agent(model, middleware).invoke(begun())
    assert texts(state["messages"])[2] == texts(state["messages"])[4] == LONG
    assert texts(model.seen[-1])[3] == texts(model.seen[-1])[5] == SHORT
    assert middleware.account.requests == 3


def test_what_was_sent_once_is_sent_the_same_again_in_a_thread() -> None:
    """Also when the next question is another one."""
    model = Caller(calls=[("orders", {"state": "sent"})])
    middleware = TerselyMiddleware(Pipeline("json", budget=0.3), results=False)
    chat = agent(model, middleware, checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": uuid4().hex}}
    chat.invoke(begun("What is the total of ORD-0077?"), thread)
    chat.invoke(begun("And of ORD-0033?"), thread)
    first, second = model.seen[1], model.seen[2]
    assert texts(second)[: len(first)] == texts(first)
    assert "ORD-0077" in texts(first)[3] and len(texts(first)[3]) < len(ROWS) / 2
    assert texts(chat.get_state(thread).values["messages"])[2] == ROWS


def test_what_the_question_and_the_call_name_stays() -> None:
    model = Caller(calls=[("orders", {"state": "ORD-0042"})])
    middleware = TerselyMiddleware(Pipeline("json", budget=0.3))
    state = agent(model, middleware).invoke(begun("What is the total of ORD-0077?"))
    short = state["messages"][2].content
    assert len(short) < len(ROWS) / 2 and json.loads(short)
    assert all(name in short for name in ("ORD-0042", "ORD-0077"))


@pytest.mark.parametrize("budget", [200, {"ratio": 0.1}])
def test_results_can_have_a_budget_of_their_own(budget: Any) -> None:
    model = Caller(calls=[("orders", {"state": "sent"})])
    middleware = TerselyMiddleware("json", result_budget=budget)
    state = agent(model, middleware).invoke(begun())
    told = state["messages"][2].response_metadata["tersely"]
    assert told["after"] <= (200 if budget == 200 else told["before"] * 0.1 + 30)


def test_a_budget_of_the_whole_request_is_none_of_a_result() -> None:
    model = Caller(calls=[("orders", {"state": "sent"})])
    agent(model, TerselyMiddleware(Pipeline("json", budget=1000))).invoke(begun())
    report = tersely.last_report()
    assert report is not None and report.after <= 1000 and report.met
    assert len(json.loads(texts(model.seen[1])[3])) < 120


def test_failures_stay_as_they_are() -> None:
    state = agent(Caller(calls=[("fail", {})]), TerselyMiddleware(first_words())).invoke(begun())
    assert state["messages"][2].content == LONG


def test_messages_within_a_change_of_the_state() -> None:
    state = agent(Caller(calls=[("change", {})]), TerselyMiddleware(first_words())).invoke(begun())
    assert bare(state["messages"])[2] == SHORT


def test_modes() -> None:
    for mode in ("off", "audit"):
        model = Caller(calls=ASKED)
        middleware = TerselyMiddleware(first_words(), mode=mode)  # type: ignore[arg-type]
        state = agent(model, middleware).invoke(begun())
        assert state["messages"][2].content == LONG == texts(model.seen[1])[3]
        assert bool(middleware.account.saved) == (mode == "audit")


def test_the_report_reaches_who_asked() -> None:
    middleware = TerselyMiddleware(first_words())
    with tersely.session(uuid4().hex) as session:
        agent(Caller(calls=ASKED), middleware).invoke(begun())
        assert tersely.last_report() == middleware.account.report is not None
    assert session.report == middleware.account.report
    assert tersely.last_report() is not None


def test_surrounding_wishes_go_first() -> None:
    model = Caller(calls=ASKED)
    with tersely.override(mode="off"):
        agent(model, TerselyMiddleware(first_words())).invoke(begun())
    assert texts(model.seen[1])[3] == LONG


def test_a_wrapped_model_does_not_compress_anew() -> None:
    model = Caller(calls=ASKED)
    wrapped = tersely.wrap(model, first_words(mode="audit"))
    middleware = TerselyMiddleware(first_words(), results=False)
    with tersely.session(uuid4().hex) as session:
        agent(wrapped, middleware).invoke(begun())
    assert session.requests == middleware.account.requests == 3
    assert session.report is not None and session.report.mode == "optimize"


KEY = re.compile(r"recall\(key='(\w+)'\)")


class Recaller(Caller):
    """A model that calls `recall` with the key that it finds in what it is asked."""

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        found = KEY.search(str(messages[-1].content))
        if found:
            self.calls.append(("recall", {"key": found[1]}))
        return super()._generate(messages, stop, run_manager, **kwargs)


def test_the_agent_can_have_again_what_was_left_out() -> None:
    model = Recaller(calls=[("look", {"city": "Graz"})])
    middleware = TerselyMiddleware(first_words(), recall=True)
    state = agent(model, middleware).invoke(begun())
    assert bare(state["messages"])[2] == SHORT
    assert texts(state["messages"])[4] == LONG  # and is not compressed anew
    assert texts(model.seen[-1])[-1] == LONG
    assert middleware.account.requests == 4


def test_old_results_are_short_in_requests_and_the_agent_can_have_them_again() -> None:
    class Later(Caller):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            found = KEY.search("\n".join(texts(messages)))
            if found and len(self.calls) == 3:
                self.calls.append(("recall", {"key": found[1]}))
            return super()._generate(messages, *args, **kwargs)

    terms = {"limit": 2000, "keep": 1}
    model = Later(calls=[("orders", {"state": "sent"}), *ASKED])
    middleware = TerselyMiddleware(Pipeline(history=terms), recall=True)
    state = agent(model, middleware).invoke(begun())
    assert texts(state["messages"])[2] == ROWS, "the state keeps it"
    short = texts(model.seen[2])[3]
    assert "120 items of id, state, total" in short and KEY.search(short)
    again = [text for text in texts(state["messages"])[3:] if text.startswith(ROWS[:8000])]
    assert again and again[0].endswith(f"of {len(ROWS)}; start=8000 goes on]")
    without = Caller(calls=[("orders", {"state": "sent"}), *ASKED])
    agent(without, TerselyMiddleware(Pipeline(history=terms))).invoke(begun())
    assert "it can't be had again" in texts(without.seen[2])[3]


async def test_it_can_without_blocking_and_in_a_later_process(tmp_path: Path) -> None:
    saver, thread = InMemorySaver(), {"configurable": {"thread_id": uuid4().hex}}
    for calls in ([("look", {"city": "Graz"})], []):
        middleware = TerselyMiddleware(first_words(), recall=Originals(tmp_path / "kept"))
        model = Caller(calls=calls)
        state = await agent(model, middleware, checkpointer=saver).ainvoke(begun(), thread)
    (key,) = KEY.findall(str(state["messages"]))
    model = Caller(calls=[("recall", {"key": key})])
    state = await agent(model, middleware, checkpointer=saver).ainvoke(begun(), thread)
    assert texts(state["messages"])[-2] == LONG


def test_nobody_has_what_belongs_to_another_conversation() -> None:
    """Not even who knows the key, or has a tool that says it."""
    middleware = TerselyMiddleware(first_words(), recall=True)
    state = agent(Caller(calls=ASKED[:1]), middleware).invoke(begun())
    (key,) = KEY.findall(str(state["messages"]))
    model = Caller(calls=[*ASKED[1:], ("recall", {"key": key})])
    told = begun(f"[60 of 90 tokens left out; recall(key='{key}') gives the whole]")
    state = agent(model, middleware).invoke(told)
    assert "Nothing is kept" in texts(state["messages"])[4]


def test_without_recall_the_mark_says_so() -> None:
    state = agent(Caller(calls=ASKED), TerselyMiddleware(first_words())).invoke(begun())
    assert texts(state["messages"])[2].endswith("tokens left out; it can't be had again]")
    assert "recall" not in [tool.name for tool in TerselyMiddleware().tools]


def test_originals_that_can_not_be_kept_stop_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kept" / "originals"
    middleware = TerselyMiddleware(first_words(), recall=Originals(path))
    path.write_bytes(b"no database" * 999)
    path.with_name("originals-journal").unlink(missing_ok=True)
    state = agent(Caller(calls=ASKED), middleware).invoke(begun())
    assert texts(state["messages"])[2].endswith("it can't be had again]")
    assert "is not kept" in caplog.text


class Broken(FirstWords):
    """Fails always."""

    name = "broken"

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        raise RuntimeError("broken")


def test_a_stage_that_fails_stops_nothing_unless_that_is_wished_for() -> None:
    model, middleware = Caller(calls=ASKED), TerselyMiddleware(Broken())
    agent(model, middleware).invoke(begun())
    assert texts(model.seen[1])[3] == LONG
    assert middleware.account.report is not None
    assert any("broken" in note for note in middleware.account.report.notes)
    with pytest.raises(StageError, match="broken"):
        agent(Caller(calls=ASKED), TerselyMiddleware(Broken(), strict=True)).invoke(begun())


def test_settings_that_cannot_work() -> None:
    with pytest.raises(UnknownName):
        TerselyMiddleware("nope")
    with pytest.raises(ConfigError):
        TerselyMiddleware(budget=-1)
    with pytest.raises(ConfigError):
        TerselyMiddleware(result_budget=0)
    with pytest.raises(ConfigError):
        TerselyMiddleware(mode="fast")  # type: ignore[arg-type]


@pytest.fixture
def without_langchain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delitem(sys.modules, "tersely.middleware.agent_langchain")
    monkeypatch.setitem(sys.modules, "langchain.agents.middleware", None)
    yield


def test_a_missing_package_is_named(without_langchain: None) -> None:
    with pytest.raises(MissingExtra, match=r"tersely\[langchain\]"):
        import_module("tersely.middleware.agent_langchain")
