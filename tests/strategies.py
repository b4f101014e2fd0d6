"""Requests of every shape that an adapter reads, with all that may lie around their texts.

Every string tells what may happen to it: `OPEN` may change, `SHUT` is read and never changed,
`DEAF` is not even read.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from openai.types.chat import ChatCompletionMessage

JSON = dict[str, Any]
Texts = st.SearchStrategy[str]

WORDS = st.sampled_from(
    [
        *("the", "a", "of", "not", "never", "12", "1.10", "ship", "Bridge", "night,", "?", ":"),
        *("<b>", "{x}", "naïve", "東京", "🎉", "e\u0301", "שלום", "", "\n", "\n\n"),
    ]
)
CACHE = {"type": "ephemeral"}


def prose(most: int = 12) -> Texts:
    """Words with blank lines, marks, foreign letters and emoji among them."""
    return st.lists(WORDS, max_size=most).map(" ".join)


def long_prose() -> Texts:
    """Several paragraphs, long enough to hold material beside a question."""
    paragraphs = st.lists(prose(8).map(lambda text: (text + " far ") * 20), min_size=2, max_size=4)
    return st.tuples(
        paragraphs, st.sampled_from(("What is it?", "Question: who?", "Go on.", ""))
    ).map(lambda parts: "\n\n".join([*parts[0], parts[1]]))


def tagged() -> Texts:
    """Tags of keeping and dropping, balanced and not."""
    tag = st.sampled_from(("<keep>", "</keep>", "<drop>", "</drop>", "word", "<", ">", " "))
    return st.lists(tag, max_size=8).map("".join)


def marked(mark: str) -> Texts:
    """A text of any looks that carries a mark."""
    plain = st.one_of(prose(), st.text(max_size=12), tagged(), long_prose())
    looks = st.one_of(
        plain,
        prose().map(lambda text: json.dumps({"a": text, "n": [1.10, None]})),
        prose().map(lambda text: f"2026-11-23 10:00:00 INFO {text}\n" * 4),
    )
    return looks.map(lambda text: f"{mark} {text}")


OPEN, SHUT, DEAF = marked("OPEN"), marked("SHUT"), prose(3).map(lambda text: f"DEAF {text}")


def junk() -> st.SearchStrategy[Any]:
    """Anything that JSON holds, under names that look as if a text were meant."""
    leaves = st.one_of(DEAF, st.none(), st.booleans(), st.integers(-9, 9), st.just(1.5))
    names = st.sampled_from(("text", "content", "type", "role", "input", "x"))
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=5,
    )


@st.composite
def node(draw: st.DrawFn, parts: dict[str, st.SearchStrategy[Any]], *unsure: str) -> JSON:
    """A mapping of these parts, some of them perhaps left out, among unknown ones, in any order."""
    made = {
        name: draw(part)
        for name, part in parts.items()
        if name not in unsure or draw(st.booleans())
    }
    made |= draw(
        st.dictionaries(st.sampled_from(("x_one", "metadata", "extra_body")), junk(), max_size=2)
    )
    order = draw(st.permutations(list(made)))
    return {name: made[name] for name in order}


def typed(
    kind: str, parts: dict[str, st.SearchStrategy[Any]], *unsure: str
) -> st.SearchStrategy[JSON]:
    return node({"type": st.just(kind), **parts}, *unsure)


def text_block(kind: str = "text", text: Texts = OPEN) -> st.SearchStrategy[JSON]:
    """A block of text; with a cache breakpoint or citations it is shut."""
    shut = st.sampled_from(
        (
            {"cache_control": CACHE},
            {"prompt_cache_breakpoint": {"mode": "explicit"}},
            {"citations": [{"cited_text": "DEAF"}]},
            {"annotations": [{"start_index": 1}]},
        )
    )
    return st.one_of(
        typed(kind, {"text": text}),
        st.tuples(typed(kind, {"text": SHUT}), shut).map(lambda parts: parts[0] | parts[1]),
    )


def strange_block() -> st.SearchStrategy[Any]:
    """A block that holds no text, or whose type nobody knows."""
    return st.one_of(
        typed("image_url", {"image_url": st.just({"url": "data:DEAF"})}),
        typed("image", {"source": st.just({"type": "base64", "data": "DEAF"})}),
        typed("input_audio", {"text": DEAF}),
        typed("from_the_future", {"text": DEAF, "content": junk()}),
        st.sampled_from((None, 7, [], {}, {"type": 5, "text": "DEAF"}, {"type": ["text"]})),
        typed("text", {"text": st.sampled_from((None, 5, ["DEAF"]))}),
    )


def blocks(*kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.one_of(*kinds, strange_block()), max_size=4)


def arguments() -> Texts:
    return prose(4).map(lambda text: json.dumps({"SHUT": text}))


def chat_messages() -> st.SearchStrategy[list[Any]]:
    content = st.one_of(OPEN, blocks(text_block()), st.none(), st.just(""), st.just(5))
    call = node({"id": DEAF, "function": node({"name": DEAF, "arguments": arguments()})})
    custom = typed("custom", {"custom": st.fixed_dictionaries({"name": DEAF, "input": SHUT})})
    message = st.one_of(
        node({"role": st.sampled_from(("user", "system", "developer")), "content": content}),
        node(
            {
                "role": st.just("assistant"),
                "content": content,
                "refusal": SHUT,
                "tool_calls": st.lists(call | custom, max_size=2),
                "function_call": node({"name": DEAF, "arguments": arguments()}),
            },
            "refusal",
            "tool_calls",
            "function_call",
        ),
        node({"role": st.just("tool"), "content": content, "tool_call_id": DEAF}),
        node({"role": st.sampled_from(("alien", 3, None)), "content": SHUT}, "role"),
        node({"role": st.just("user"), "content": SHUT, "cache_control": st.just(CACHE)}),
        OPEN.map(
            lambda text: ChatCompletionMessage(role="assistant", content=text, x_one=["DEAF"])
        ),
        st.sampled_from((None, 7, "DEAF", ["DEAF"], {})),
    )
    return st.lists(message, max_size=6)


def chat_requests() -> st.SearchStrategy[JSON]:
    """OpenAI Chat, as the openai SDK sends it and as people get it wrong."""
    parts = {
        "messages": chat_messages() | chat_messages().map(tuple),
        "model": st.just("gpt-4o-DEAF"),
        "tools": st.lists(junk(), max_size=2),
        "response_format": junk(),
    }
    return node(parts, "model", "tools", "response_format")


def anthropic_requests() -> st.SearchStrategy[JSON]:
    """Anthropic Messages, with blocks of every type."""
    cited = typed(
        "document",
        {
            "source": typed("text", {"data": SHUT, "media_type": DEAF}),
            "citations": st.just({"enabled": True}),
        },
    )
    document = typed(
        "document",
        {
            "source": typed("text", {"data": OPEN}) | typed("base64", {"data": DEAF}),
            "title": DEAF,
            "citations": st.just({"enabled": False}),
        },
        "citations",
    )
    result = typed(
        "tool_result",
        {"tool_use_id": DEAF, "content": OPEN | blocks(text_block())},
        "content",
    )
    cached = typed(
        "tool_result",
        {
            "cache_control": st.just(CACHE),
            "content": SHUT | st.lists(typed("text", {"text": SHUT}), max_size=2),
        },
    )
    search = typed("search_result", {"source": DEAF, "content": blocks(text_block())})
    use = typed(
        "tool_use", {"id": DEAF, "name": DEAF, "input": st.dictionaries(DEAF, junk(), max_size=2)}
    )
    thinking = typed("thinking", {"thinking": SHUT, "signature": DEAF})
    redacted = typed("redacted_thinking", {"data": DEAF})
    user = OPEN | blocks(text_block(), result, cached, document, cited, search)
    assistant = OPEN | blocks(text_block(), use, thinking, redacted)
    message = st.one_of(
        node({"role": st.just("user"), "content": user}),
        node({"role": st.just("assistant"), "content": assistant}),
    )
    parts = {
        "system": OPEN | blocks(text_block()),
        "messages": st.lists(message, max_size=6),
        "model": st.just("claude-DEAF"),
        "max_tokens": st.just(64),
        "tools": st.lists(junk(), max_size=2),
        "cache_control": st.just(CACHE),
    }
    return node(parts, "tools", "cache_control")


def responses_requests() -> st.SearchStrategy[JSON]:
    """OpenAI Responses, `input` as a text and as items."""
    said = st.one_of(
        OPEN,
        blocks(
            text_block("input_text"), text_block("output_text"), typed("refusal", {"refusal": SHUT})
        ),
    )
    item = st.one_of(
        node({"role": st.sampled_from(("user", "system", "assistant")), "content": said}),
        typed("message", {"role": st.just("user"), "content": said}),
        typed("function_call", {"call_id": DEAF, "name": DEAF, "arguments": arguments()}),
        typed("custom_tool_call", {"call_id": DEAF, "input": SHUT}),
        typed(
            "function_call_output",
            {"call_id": DEAF, "output": OPEN | blocks(text_block("input_text"))},
        ),
        typed("reasoning", {"id": DEAF, "summary": junk(), "encrypted_content": DEAF}),
        typed("item_reference", {"id": DEAF}),
        st.sampled_from((None, 7, "DEAF", {})),
    )
    parts = {
        "input": OPEN | st.lists(item, max_size=6),
        "instructions": OPEN,
        "model": st.just("gpt-4o-DEAF"),
        "tools": st.lists(junk(), max_size=2),
        "text": node({"format": junk()}),
        "previous_response_id": st.none(),
    }
    return node(parts, "instructions", "tools", "text", "previous_response_id")


def langchain_messages() -> st.SearchStrategy[list[BaseMessage]]:
    content = OPEN | blocks(text_block()).map(lambda made: [b for b in made if isinstance(b, dict)])
    extra = st.dictionaries(st.just("x_one"), junk(), max_size=1)
    call = st.fixed_dictionaries({"name": DEAF, "args": st.just({"x": "DEAF"}), "id": DEAF})
    message = st.one_of(
        st.builds(HumanMessage, content=content, additional_kwargs=extra, id=DEAF),
        st.builds(SystemMessage, content=content, additional_kwargs=extra),
        st.builds(
            AIMessage,
            content=content,
            tool_calls=st.lists(call, max_size=2),
            response_metadata=extra,
        ),
        st.builds(ToolMessage, content=content, tool_call_id=DEAF, artifact=junk()),
    )
    return st.lists(message, min_size=1, max_size=5)


def documents() -> st.SearchStrategy[list[Document]]:
    metadata = st.dictionaries(st.just("x_one"), junk(), max_size=1)
    return st.lists(
        st.builds(Document, page_content=OPEN, metadata=metadata), min_size=1, max_size=4
    )


def langchain_inputs() -> st.SearchStrategy[Any]:
    """What flows through LangChain: messages, states, prompt values, documents."""
    return st.one_of(
        langchain_messages(),
        langchain_messages().map(lambda made: made[0]),
        langchain_messages().map(lambda made: ChatPromptValue(messages=made)),
        node({"messages": langchain_messages(), "input": DEAF}),
        OPEN.map(lambda text: StringPromptValue(text=text)),
        documents(),
        documents().map(lambda made: made[0]),
    )


def text_inputs() -> st.SearchStrategy[Any]:
    """Texts without roles, alone or with a question."""
    beside = {
        "context": OPEN | st.lists(OPEN, min_size=1) | documents(),
        "question": OPEN,
        "instruction": OPEN,
        "examples": OPEN | st.lists(OPEN, min_size=1),
    }
    return st.one_of(
        OPEN,
        st.lists(OPEN, min_size=1, max_size=4),
        node(beside, "question", "instruction", "examples"),
    )


REQUESTS: dict[str, st.SearchStrategy[Any]] = {
    "openai-chat": chat_requests(),
    "openai-responses": responses_requests(),
    "anthropic": anthropic_requests(),
    "langchain": langchain_inputs(),
    "text": text_inputs(),
}
"""Requests by the name of the adapter that reads them."""


def any_request() -> st.SearchStrategy[Any]:
    """A request of any shape."""
    return st.one_of(*REQUESTS.values())
