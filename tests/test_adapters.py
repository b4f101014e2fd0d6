"""What each adapter takes a text for, and why."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompt_values import StringPromptValue
from openai.types.chat import ChatCompletionMessage

from tersely.errors import UnknownName
from tersely.middleware import adapters
from tersely.middleware.leaves import BREAKPOINT
from tersely.prompt import Prompt, Segment

DOC = "The ship sails at night. " * 180
USER = {"role": "user", "content": "Why?"}


def read(request: Any, surface: str = "") -> Prompt:
    reader = adapters.adapter(surface) if surface else adapters.find(request)
    assert reader is not None
    return reader.read(request)


def kinds(prompt: Prompt) -> list[tuple[str, str, bool]]:
    return [(s.role, s.kind, s.locked) for s in prompt.segments]


def test_a_chat() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": '{"a":1}'}}
    prompt = read(
        {
            "messages": [
                {"role": "developer", "content": "Be good."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "user", "content": "Which ship?"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": '[{"ship": 1}]'},
            ],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        }
    )
    assert kinds(prompt) == [
        ("system", "instruction", False),
        ("user", "history", False),
        ("assistant", "history", False),
        ("user", "question", False),
        ("assistant", "history", True),
        ("tool", "json", False),
    ]
    assert prompt.question == "Which ship?"
    assert prompt.tools == '[{"type":"function","function":{"name":"f"}}]'
    assert prompt.turns == 6
    assert prompt.segments[3].turn == 3


def test_a_long_last_turn_is_material_and_question() -> None:
    text = f"Answer from this:\n\n{DOC}\n\n{DOC}\n\nWhen does it sail?"
    prompt = read({"messages": [{"role": "user", "content": text}]})
    assert [s.kind for s in prompt.segments] == ["question", "context", "question"]
    assert "".join(s.text for s in prompt.segments) == text
    assert prompt.segments[1].text == f"{DOC}\n\n{DOC}".strip()
    assert prompt.question == "When does it sail?"
    assert len(list(prompt.leaves)) == 1


def test_parts_before_the_last_are_material_when_long() -> None:
    parts = [{"type": "text", "text": text} for text in ("short", DOC, "When?")]
    prompt = read({"messages": [{"role": "user", "content": parts}]})
    assert [s.kind for s in prompt.segments] == ["question", "context", "question"]
    assert prompt.question == "When?"


def test_a_short_part_may_ask_about_a_long_one() -> None:
    parts = [{"type": "text", "text": text} for text in ("When does it sail?", DOC)]
    prompt = read({"messages": [{"role": "user", "content": parts}]})
    assert [s.kind for s in prompt.segments] == ["question", "context"]
    assert prompt.question == "When does it sail?"


def test_a_long_turn_without_a_question_stays_one_question() -> None:
    prompt = read({"messages": [{"role": "user", "content": DOC}]})
    assert [s.kind for s in prompt.segments] == ["question"]
    assert len(prompt.question) <= len(DOC)


def test_standing_orders_in_a_users_turn_are_instructions() -> None:
    orders = f"<system-reminder>{DOC}</system-reminder>"
    parts = [{"type": "text", "text": text} for text in (orders, "When?")]
    prompt = read({"messages": [{"role": "user", "content": parts}]})
    assert [s.kind for s in prompt.segments] == ["instruction", "question"]


def test_anthropic() -> None:
    cached = {"type": "text", "text": "Be good.", "cache_control": {"type": "ephemeral"}}
    use = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": "found it"}
    source = {"type": "text", "media_type": "text/plain", "data": DOC}
    prompt = read(
        {
            "system": [cached],
            "messages": [
                {"role": "user", "content": [{"type": "document", "source": source}, use_text()]},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, use]},
                {"role": "user", "content": [result]},
            ],
        }
    )
    assert kinds(prompt) == [
        ("system", "instruction", True),
        ("user", "context", False),
        ("user", "question", False),
        ("assistant", "history", True),
        ("assistant", "history", True),
        ("tool", "tool_output", False),
    ]
    assert prompt.segments[0].reason == BREAKPOINT
    assert prompt.segments[4].text == '{"a":1}'
    assert prompt.question == "Why?"
    assert prompt.turns == 4


def use_text() -> dict[str, str]:
    return {"type": "text", "text": "Why?"}


def test_responses() -> None:
    prompt = read(
        {
            "instructions": "Be good.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]},
                {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "found it"},
            ],
            "text": {"format": {"type": "json_schema"}},
        }
    )
    assert kinds(prompt) == [
        ("system", "instruction", False),
        ("user", "question", False),
        ("assistant", "history", True),
        ("tool", "tool_output", False),
    ]
    assert prompt.tools == '{"type":"json_schema"}'


@pytest.mark.parametrize("name", ["previous_response_id", "conversation"])
def test_a_conversation_that_the_provider_holds_is_left_alone(name: str) -> None:
    prompt = read({"input": "Why?", name: "r_1"})
    assert prompt == Prompt((), why=f"`{name}` is set: the provider holds the earlier turns")
    assert read({"input": "Why?", name: None}).segments


def test_langchain() -> None:
    call = {"name": "f", "args": {"a": 1}, "id": "1"}
    messages = [
        HumanMessage("Why?"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("found it", tool_call_id="1"),
    ]
    for request in (messages, {"messages": messages}):
        assert kinds(read(request)) == [
            ("user", "question", False),
            ("assistant", "history", True),
            ("tool", "tool_output", False),
        ]
    assert kinds(read(Document(page_content=DOC))) == [("user", "context", False)]
    assert read(StringPromptValue(text="Why?")).question == "Why?"


def test_texts_with_a_question() -> None:
    prompt = read({"context": ["a", Document(page_content="b")], "question": "Why?", "k": 3})
    assert kinds(prompt) == [
        ("user", "context", False),
        ("user", "context", False),
        ("user", "question", False),
    ]
    assert prompt.question == "Why?"


def test_demonstrations_beside_a_question() -> None:
    prompt = read({"instruction": "Answer.", "examples": ["2+2? 4", "1+1? 2"], "query": "3+3?"})
    assert [s.kind for s in prompt.segments] == ["instruction", "example", "example", "question"]
    assert prompt.question == "3+3?"


def test_turns_of_a_demonstration_in_a_chat() -> None:
    shots = [
        {"role": "system", "name": "example_user", "content": "2+2?"},
        {"role": "system", "name": "example_assistant", "content": "4"},
        {"role": "user", "name": "example_user", "content": "1+1?"},
    ]
    prompt = read([{"role": "system", "content": "Add."}, *shots, USER])
    assert [s.kind for s in prompt.segments][:4] == ["instruction", *["example"] * 3]
    assert prompt.question == read([USER]).question


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        ({"messages": [USER]}, "openai-chat"),
        ([USER], "openai-chat"),
        ({"messages": [USER], "model": "claude-x"}, "anthropic"),
        ({"messages": [USER], "system": "Be good."}, "anthropic"),
        ([{"role": "user", "content": [{"type": "tool_result"}]}], "anthropic"),
        ({"messages": [{"role": "tool"}, USER], "model": "claude-x"}, "openai-chat"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [1]}], "model": "claude-x"},
            "openai-chat",
        ),
        ({"input": "Why?"}, "openai-responses"),
        ({"messages": [USER], "input": "Why?"}, "openai-chat"),
        ({"context": "a", "input": "Why?"}, "text"),
        ("text", "text"),
        ((HumanMessage("a"),), "langchain"),
        (None, None),
        (7, None),
        ([], None),
        ({}, None),
        ({"input": 7}, None),
        ({"context": []}, None),
        (["a", 1], None),
    ],
)
def test_who_reads_what(request_: Any, name: str | None) -> None:
    found = adapters.find(request_)
    assert (found and found.name) == name


@pytest.mark.parametrize("name", ["openai-chat", "anthropic"])
@pytest.mark.parametrize("said", [None, 7, "text", {"role": "user"}])
def test_messages_that_are_no_list(name: str, said: Any) -> None:
    prompt = read({"messages": said}, name)
    assert not prompt.segments
    assert type(said).__name__ in prompt.why


def test_tools_that_are_not_json_are_not_counted() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    for tools in (deep, endless, [{(1, 2): 3}]):
        assert read({"messages": [USER], "tools": tools}).tools == ""
    assert "object object" in read({"messages": [USER], "tools": [object()]}).tools


def test_objects_of_the_sdk() -> None:
    answer = ChatCompletionMessage(role="assistant", content="Because.", annotations=[])
    prompt = read({"messages": [USER, answer]})
    request = {"messages": [USER, answer]}
    output = adapters.write(request, prompt, prompt.with_texts({1: "B."}))
    assert output["messages"][1] == answer.model_copy(update={"content": "B."})
    assert output["messages"][0] is USER
    assert answer.content == "Because."


Pair = namedtuple("Pair", "first second")


@dataclass
class Note:
    text: str
    n: int = 1


class Plain:
    def __init__(self, text: str) -> None:
        self.text = text


@pytest.mark.parametrize(
    "holder", [Note("a"), Plain("a"), Pair("a", "b"), ("a", "b"), ["a"], {"text": "a"}]
)
def test_a_text_is_written_into_a_node_of_any_type(holder: Any) -> None:
    step: Any = "text" if not isinstance(holder, tuple | list) else 0
    before = Prompt((Segment(text="a", path=("x", step)),))
    request = {"x": holder, "y": [1]}
    output = adapters.write(request, before, before.with_texts({0: "new"}))
    assert adapters.look(output, ("x", step)) == "new"
    assert adapters.look(request, ("x", step)) == "a"
    assert type(output["x"]) is type(holder)
    assert output["y"] is request["y"]


def test_nothing_lies_where_nothing_is() -> None:
    for path in (("a", "b"), ("a", 0), ("a", 7, "b"), ("b",), (0,)):
        assert adapters.look({"a": "text"}, path) is None


def test_an_unknown_surface() -> None:
    with pytest.raises(UnknownName, match="openai-chat"):
        adapters.adapter("openai-chats")
