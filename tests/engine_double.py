"""A server that speaks as one engine does: its fields, its echoes, its errors, its owner's name.

Its model says the words of a song, from where the prompt ends, and takes only the fields that the
engine takes: what is spelt in another engine's way is refused.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from script_server import Handler, Server, serving

SONG = [
    "row",
    "your",
    "boat",
    "gently",
    "down",
    "the",
    "stream",
    "merrily",
    "life",
    "is",
    "but",
    "a",
    "dream",
]
CONTEXT = 2000

PLAIN = {
    *("model", "messages", "prompt", "max_tokens", "temperature", "top_p", "stop", "seed"),
    *("stream", "stream_options", "logprobs", "top_logprobs"),
}


@dataclass(frozen=True)
class Ways:
    """How an engine differs from the API; `too_long` are its words for a prompt too long."""

    owner: str
    fields: frozenset[str]
    too_long: str
    slots: int = 0

    def grammar(self, body: Any) -> str:
        asked = body.get("structured_outputs", {}).get("grammar")
        return asked or body.get("ebnf") or body.get("grammar") or ""

    def goes_on(self, body: Any) -> bool:
        last = body["messages"][-1]["role"] if "messages" in body else "user"
        if last != "assistant" or not self.prefills:
            return False
        return self.slots > 0 or body.get("continue_final_message") is True

    @property
    def prefills(self) -> bool:
        return self.slots > 0 or "continue_final_message" in self.fields


GOING_ON = ("continue_final_message", "add_generation_prompt")
WAYS = {
    "vllm": Ways(
        "vllm",
        frozenset({*GOING_ON, "structured_outputs", "repetition_penalty"}),
        "The decoder prompt (length 9001) is longer than the maximum model length of 2000.",
    ),
    "sglang": Ways(
        "sglang",
        frozenset({*GOING_ON, "ebnf", "repetition_penalty"}),
        "The input (9001 tokens) is longer than the model's context length (2000 tokens).",
    ),
    "llama.cpp": Ways(
        "llamacpp",
        frozenset({"grammar", "repeat_penalty", "repeat_last_n"}),
        "request (9001 tokens) exceeds the available context size (2000 tokens)",
        slots=4,
    ),
    "llama-cpp-python": Ways(
        "me",
        frozenset({"grammar", "repeat_penalty"}),
        "This model's maximum context length is 2000 tokens, you requested 9001 tokens",
    ),
    "openai": Ways("somebody", frozenset(), "This model's maximum context length is 2000 tokens"),
}


class Engine:
    """Answers a call as the engine would."""

    def __init__(self, ways: Ways) -> None:
        self.ways = ways

    def __call__(self, handler: Handler, body: Any) -> None:
        if strange := body.keys() - PLAIN - self.ways.fields:
            handler.answer(400, {"error": {"message": f"unknown fields: {sorted(strange)}"}})
            return
        read = [word for text in self._texts(body) for word in text.split()]
        if len(read) > CONTEXT:
            handler.answer(400, {"error": {"message": self.ways.too_long, "code": 400}})
            return
        words, finish = self._said(body, read)
        usage = {"prompt_tokens": len(read), "completion_tokens": len(words)}
        if body.get("stream"):
            self._stream(handler, body, words, finish, usage)
            return
        text = "".join(words)
        if self.ways.slots and self.ways.goes_on(body):
            text = body["messages"][-1]["content"] + text
        choice = {"index": 0, "finish_reason": finish, **self._told(body, words)}
        choice |= {"message": {"content": text}} if "messages" in body else {"text": text}
        timings = {"timings": {"cache_n": 7}} if self.ways.slots else {}
        handler.answer(200, {"model": "m", "choices": [choice], "usage": usage, **timings})

    @staticmethod
    def _texts(body: Any) -> list[str]:
        return [one["content"] for one in body.get("messages", ())] or [body["prompt"]]

    def _said(self, body: Any, read: list[str]) -> tuple[list[str], str]:
        if grammar := self.ways.grammar(body):
            return [grammar.split('"')[1]], "stop"
        sown = random.Random(body.get("seed")) if body["temperature"] else random.Random(len(read))
        at, penalty = sown.randrange(len(SONG)), 1.0
        for field in ("repetition_penalty", "repeat_penalty"):
            penalty = body.get(field, penalty)
        words: list[str] = []
        while len(words) < body["max_tokens"]:
            word = " " + SONG[at % (3 if penalty == 1 else len(SONG))]
            words.append(word)
            at += 1
            for stop in body.get("stop", ()):
                if (found := "".join(words).find(stop)) >= 0:
                    return ["".join(words)[:found]], "stop"
        return words, "length"

    @staticmethod
    def _told(body: Any, words: list[str]) -> dict[str, Any]:
        if not body.get("logprobs"):
            return {}
        if "prompt" in body:
            return {"logprobs": {"tokens": words, "token_logprobs": [-0.5] * len(words)}}
        likely = [{"token": " hm", "logprob": -1.5}] if body.get("top_logprobs") else []
        entries = [{"token": word, "logprob": -0.5} for word in words]
        return {
            "logprobs": {"content": [{**one, "top_logprobs": [one, *likely]} for one in entries]}
        }

    def _stream(
        self, handler: Handler, body: Any, words: list[str], finish: str, usage: Any
    ) -> None:
        parts: list[Any] = []
        for word in words:
            said = {"delta": {"content": word}} if "messages" in body else {"text": word}
            choice = {"index": 0, "finish_reason": None, **said, **self._told(body, [word])}
            parts.append({"model": "m", "choices": [choice]})
        end = {"index": 0, "finish_reason": finish, "delta": {}}
        parts += [{"model": "m", "choices": [end]}, {"choices": [], "usage": usage}]
        events = [f"data: {json.dumps(part)}\n\n".encode() for part in parts]
        handler.events([*events, b"data: [DONE]\n\n"])


@contextmanager
def playing(engine: str) -> Iterator[Server]:
    """A server that is that engine."""
    ways = WAYS[engine]
    with serving() as server:
        server.play = Engine(ways)
        server.pages = {"/v1/models": {"data": [{"id": "m", "owned_by": ways.owner}]}}
        if ways.slots:
            server.pages["/props"] = {"total_slots": ways.slots}
        yield server
