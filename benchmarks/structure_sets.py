"""Tool outputs of real agents, with what the rest of the trajectory needs of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tersely.named import LITERALS
from tersely.prompt import Prompt, Segment

SHORTEST = 400
"""Characters below which a tool's output is not worth a measurement."""

ROWS = 60
"""Rows that one answer of the shop's database holds."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a tool gave, the call, the question, and what is used of it later.

    `facts` are ids, numbers, dates and paths that later calls of tools hold, that stand in this
    output and in nothing that was said before it. Of a made question it is what answers it.
    """

    source: str
    text: str
    handed: str
    question: str
    facts: tuple[str, ...]

    @property
    def prompt(self) -> Prompt:
        """The question, the call and the output; the output alone may change."""
        asked = Segment(text=self.question, kind="question", locked=True, path=("messages", 0))
        call = Segment(
            text=self.handed,
            role="assistant",
            kind="history",
            locked=True,
            turn=1,
            path=("messages", 1, "tool_calls", 0, "function", "arguments"),
        )
        output = Segment(
            text=self.text, role="tool", kind="tool_output", turn=2, path=("messages", 2, "content")
        )
        return Prompt((asked, call, output), question=self.question, turns=3)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The same as a chat, for other packages."""
        function = {"name": "look_up", "arguments": self.handed}
        call = {"id": "call_1", "type": "function", "function": function}
        return [
            {"role": "user", "content": self.question or "Go on."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": self.text},
        ]


def trajectories(data: Path) -> Iterator[Item]:
    """Every tool output of tau-bench, ToolBench and SWE-agent that later calls could use."""
    agents = data / "agents"
    for run in _read(agents / "tau-bench-airline-dev.json"):
        yield from _items("tau-bench", run["traj"])
    for path in sorted(agents.glob("toolbench_*.json")):
        answer = _read(path)
        query = answer["answer_generation"]["query"]
        yield from _branches(answer["tree"]["tree"], query, query)
    for path in sorted((agents / "swe_agent").glob("*.json")):
        yield from _items("SWE-agent", _read(path)["history"])


def lookups(data: Path, most: int) -> Iterator[Item]:
    """Pages of the shop's database of tau2-bench, each with a question about one row of it."""
    tables = _read(data / "agents" / "tau2_retail_db.json")
    for name, key, asked in (
        ("orders", "order_id", "What is the status of order {}, and what was paid for it?"),
        ("users", "user_id", "Which address and payment methods does {} have?"),
    ):
        rows = list(tables[name].values())
        for page in range(most):
            start = page * ROWS % (len(rows) - ROWS)
            some = rows[start : start + ROWS]
            row = some[(page * 17 + 7) % ROWS]
            text = json.dumps({"count": len(some), name: some}, indent=2)
            facts = tuple(dict.fromkeys(_scalars(row)))
            yield Item("tau2 " + name, text, "{}", asked.format(row[key]), facts)


def _items(source: str, messages: Sequence[dict[str, Any]]) -> Iterator[Item]:
    question, handed = "", "{}"
    said = ""
    for at, message in enumerate(messages):
        text = message.get("content") or ""
        role = message["role"]
        observed = role in ("tool", "function") or (
            role == "user" and source == "SWE-agent" and at > 2
        )
        if observed and len(text) >= SHORTEST:
            later = set().union(*(_facts(_handed(one)) for one in messages[at + 1 :]))
            facts = sorted(fact for fact in later if fact in text and fact not in said)
            yield Item(source, text, handed, question, tuple(facts))
        elif role == "user":
            question = text[-2000:]
        if role == "assistant":
            handed = _handed(message) or handed
        said += "\n" + text + _handed(message)


def _branches(node: dict[str, Any], question: str, said: str) -> Iterator[Item]:
    """The outputs in a tree of attempts; what is later lies further down the same branch."""
    text, handed = node.get("observation") or "", node.get("description") or ""
    if len(text) >= SHORTEST:
        later = set().union(*map(_facts, _inputs_below(node)))
        facts = sorted(fact for fact in later if fact in text and fact not in said + handed)
        yield Item("ToolBench", text, handed, question, tuple(facts))
    for child in node["children"]:
        yield from _branches(child, question, f"{said}\n{handed}\n{text}")


def _inputs_below(node: dict[str, Any]) -> Iterator[str]:
    for child in node["children"]:
        if child["node_type"] == "Action Input":
            yield child["description"]
        yield from _inputs_below(child)


def _handed(message: dict[str, Any]) -> str:
    """What an assistant's message hands to tools, in any of the shapes."""
    if message["role"] != "assistant":
        return ""
    calls = [call["function"]["arguments"] for call in message.get("tool_calls") or ()]
    if call := message.get("function_call"):
        calls.append(call["arguments"])
    return "\n".join(calls) or message.get("action") or ""


def _facts(text: str) -> set[str]:
    found = (match[0].rstrip(".,:") for match in LITERALS.finditer(text))
    return {fact for fact in found if len(fact) > 2}


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _scalars(one)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
