"""A stage that is fast and always does the same, and requests with a long text for it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from tersely.contracts import Context, StageModel
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt

LONG = " ".join(f"word{i}" for i in range(60))
SHORT = "word0 word1 word2 word3 word4"

TOOL_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


class Person(BaseModel):
    """What structured answers are parsed into."""

    name: str


PERSON = '{"name": "Ada"}'


class FirstWords(StageModel):
    """Keeps the first words of every text that it may change."""

    name = "first_words"
    words: int = 5

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        texts = {i: prompt.segments[i].text for i in prompt.open}
        kept = {i: " ".join(text.split(" ")[: self.words]) for i, text in texts.items()}
        return prompt.with_texts(
            {i: text for i, text in kept.items() if prompt.segments[i].kind in self.kinds}
        )


def first_words(**settings: Any) -> Pipeline:
    return Pipeline(FirstWords(kinds=("context", "tool_output", "history")), **settings)


def shortened(body: Any) -> Any:
    """What a request should look like when it went through `first_words`."""
    return json.loads(json.dumps(body).replace(LONG, SHORT))


CHAT_MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": LONG},
]

RESPONSES_INPUT: list[Any] = [
    {"role": "user", "content": "What is the weather?"},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": LONG},
]

ANTHROPIC_MESSAGES: list[Any] = [
    {"role": "user", "content": "What is the weather?"},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "c1", "name": "look", "input": {}}],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "c1", "content": LONG}],
    },
]
