"""Whole conversations of agents, as OpenAI chats with tools, from five public sources.

tau-bench and SWE-agent are recorded runs. Of ToolBench's trees of attempts each branch is a
conversation. Over tau2-bench's shop the conversations are made by rule: its tools answer from its
database. BFCL gives what users ask and which calls solve it; what its tools answered is what its
own simulators say, which `bfcl-eval` brings (see `agents_simulated`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import agents_shop, agents_simulated

Message = dict[str, Any]

MODEL = "gpt-4o"


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation, and the tools that its agent had.

    Every call has an id of its own, and its result right behind it. `held_out` tells the half
    that nobody looked at while the stages were made better.
    """

    source: str
    name: str
    messages: tuple[Message, ...]
    tools: tuple[Message, ...]
    held_out: bool

    @property
    def turns(self) -> list[int]:
        """The places of the assistant's messages: each answers all that stands before it."""
        return [at for at, one in enumerate(self.messages) if one["role"] == "assistant" and at]

    def request(self, at: int) -> dict[str, Any]:
        """What was sent to get the message at a place; new objects in each request."""
        body = {"model": MODEL, "messages": list(self.messages[:at]), "tools": list(self.tools)}
        return copy.deepcopy(body)

    def handed(self, start: int) -> list[str]:
        """The arguments of all calls from a message on, as they were written."""
        calls = (call for one in self.messages[start:] for call in one.get("tool_calls") or ())
        return [call["function"]["arguments"] for call in calls]


def talks(data: Path, sources: Sequence[str] = ()) -> Iterator[Talk]:
    """The conversations of these sources (all: `SOURCES`) in a folder of public data.

    BFCL has none where `agents_simulated` finds no simulators.
    """
    for name in sources or SOURCES:
        yield from SOURCES[name](data / "agents")


def _tau_bench(folder: Path) -> Iterator[Talk]:
    for at, run in enumerate(_read(folder / "tau-bench-airline-dev.json")):
        said = tuple(_numbered(run["traj"]))
        task = run["task_id"]
        yield Talk("tau-bench", f"airline {task}.{at}", said, called(said), bool(task % 2))


def _swe_agent(folder: Path) -> Iterator[Talk]:
    for path in sorted((folder / "swe_agent").glob("*.json")):
        said = tuple(_numbered(_observed(_read(path)["history"])))
        yield Talk("SWE-agent", path.name.split(".")[0], said, called(said), "ctf" in path.name)


def _observed(history: Sequence[Message]) -> Iterator[Message]:
    """A run of SWE-agent with calls of `bash` where its actions stood in the text."""
    for at, one in enumerate(history):
        role, text = one["role"], one["content"]
        if role == "assistant" and one.get("tool_calls"):
            yield {"role": role, "content": text, "tool_calls": one["tool_calls"]}
        elif role == "assistant":
            yield _call("bash", {"command": one["action"]}, one["thought"])
        elif role == "tool" or (role == "user" and at > 1):
            yield {"role": "tool", "content": text}
        else:
            yield {"role": role, "content": text}


def _tool_bench(folder: Path) -> Iterator[Talk]:
    for path in sorted(folder.glob("toolbench_*.json")):
        run = _read(path)
        asked = run["answer_generation"]
        tools = tuple({"type": "function", "function": one} for one in asked["function"])
        begun = asked["train_messages"][0][:2]
        name = path.name.split("_")[1]
        for at, branch in enumerate(_branches(run["tree"]["tree"])):
            said = tuple(_numbered([*begun, *_attempts(branch)]))
            yield Talk("ToolBench", f"{name} {at}", said, tools, name == "G3")


def _branches(node: Message, above: Sequence[Message] = ()) -> Iterator[list[Message]]:
    """The ways from the root of a tree to each of its leaves."""
    way = [*above, node]
    if not node["children"]:
        yield way
    for child in node["children"]:
        yield from _branches(child, way)


def _attempts(branch: Sequence[Message]) -> Iterator[Message]:
    """The thoughts, calls and answers on a way through a tree."""
    thought, name = None, ""
    for node in branch:
        match node["node_type"]:
            case "Thought":
                thought = node["description"]
            case "Action":
                name = node["description"]
            case "Action Input" if name:
                yield _call(name, node["description"], thought)
                yield {"role": "tool", "content": node["observation"]}
                thought, name = None, ""
    if thought:
        yield {"role": "assistant", "content": thought}


def _shop(folder: Path) -> Iterator[Talk]:
    tables = _read(folder / "tau2_retail_db.json")
    policy = (folder / "tau_bench_retail_policy.md").read_text(encoding="utf-8")
    for at, (name, steps) in enumerate(agents_shop.visits(tables)):
        said = tuple(_numbered([{"role": "system", "content": policy}, *_played(steps)]))
        yield Talk("tau2", name, said, called(said), bool(at // 2 % 2))


def _bfcl(folder: Path) -> Iterator[Talk]:
    for at, (asked, answered, described) in enumerate(agents_simulated.runs(folder / "bfcl")):
        tools = tuple({"type": "function", "function": one} for one in described)
        yield Talk("BFCL", asked, tuple(_numbered(_played(answered))), tools, bool(at % 2))


def _played(steps: Sequence[Any]) -> Iterator[Message]:
    """The messages of steps: what the user says, or (name, arguments, answer) of a call."""
    for step in steps:
        if isinstance(step, str):
            yield {"role": "user", "content": step}
        else:
            name, arguments, answer = step
            yield _call(name, arguments)
            yield {"role": "tool", "content": answer}


def _call(name: str, arguments: Any, text: str | None = None) -> Message:
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"type": "function", "function": {"name": name, "arguments": written}}
    return {"role": "assistant", "content": text, "tool_calls": [call]}


def _numbered(messages: Sequence[Message] | Iterator[Message]) -> Iterator[Message]:
    """The messages with ids that are told apart: recordings and demonstrations repeat theirs."""
    waiting: list[str] = []
    count = 0
    for one in messages:
        made = {name: value for name, value in one.items() if name != "tool_call_ids"}
        if made.get("tool_calls"):
            calls = made["tool_calls"]
            waiting = [f"call_{count + i}" for i in range(len(calls))]
            count += len(calls)
            made["tool_calls"] = [call | {"id": i} for call, i in zip(calls, waiting, strict=True)]
        elif made["role"] == "tool":
            made["tool_call_id"] = waiting.pop(0)
        yield made


TYPES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", list: "array"}


def called(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The tools that a conversation calls, as far as its calls show them."""
    shown: dict[str, dict[str, Message]] = {}
    for one in messages:
        for call in one.get("tool_calls") or ():
            told = shown.setdefault(call["function"]["name"], {})
            for name, value in _arguments(call["function"]["arguments"]).items():
                told[name] = {"type": TYPES.get(type(value), "string")}
    return tuple(
        {
            "type": "function",
            "function": {"name": name, "parameters": {"type": "object", "properties": told}},
        }
        for name, told in shown.items()
    )


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


SOURCES: Mapping[str, Callable[[Path], Iterator[Talk]]] = {
    "tau-bench": _tau_bench,
    "SWE-agent": _swe_agent,
    "ToolBench": _tool_bench,
    "tau2": _shop,
    "BFCL": _bfcl,
}
"""Where conversations come from, by name."""
