"""What the tools of BFCL's multi-turn tasks answer: its own simulators are asked.

They come with a hundred other packages, so they run in the Python that `TERSELY_PEERS` names (see
`structure_peers`). This file is what that process runs, too. Where they are not installed there
are no such conversations.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

EVERY = 4
"""One of so many tasks is taken; of those every second one with large files and lists."""

APIS: Mapping[str, str] = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "TwitterAPI": "posting_api",
    "VehicleControlAPI": "vehicle_control",
}
"""Where each class lies, and its description."""

MODULES = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"

Run = tuple[str, list[Any], list[dict[str, Any]]]
"""The name of a task; what the user says, and calls as (name, arguments, answer); the tools."""


def runs(folder: Path) -> Iterator[Run]:
    """The tasks with the calls that solve them, what these answer, and the tools there were."""
    from benchmarks.structure_peers import python

    if not python():
        return
    told = {
        name: list(_lines(folder / "multi_turn_func_doc" / f"{file}.jsonl"))
        for name, file in APIS.items()
    }
    tasks = list(_lines(folder / "BFCL_v4_multi_turn_base.jsonl"))[::EVERY]
    solved = _lines(folder / "possible_answer" / "BFCL_v4_multi_turn_base.jsonl")
    ways = {one["id"]: one["ground_truth"] for one in solved}
    cases = [_case(at, task, ways[task["id"]], told) for at, task in enumerate(tasks)]
    done = subprocess.run(
        [python(), __file__], input=json.dumps(cases), capture_output=True, text=True, check=False
    )
    if done.returncode:
        if "No module named 'bfcl_eval'" in done.stderr:
            return
        raise RuntimeError(f"the simulators failed: {done.stderr[-2000:]}")
    for task, case, answers in zip(tasks, cases, json.loads(done.stdout), strict=True):
        yield task["id"], list(_steps(task, case["calls"], answers)), _tools(task, told)


def _case(at: int, task: Any, way: list[list[str]], told: Mapping[str, Any]) -> dict[str, Any]:
    """What the simulators are told of a task."""
    orders = {
        one["name"]: list(one["parameters"]["properties"])
        for name in task["involved_classes"]
        for one in told[name]
    }
    calls = [[_parsed(call, orders) for call in turn] for turn in way]
    state = task["initial_config"]
    return {"classes": task["involved_classes"], "state": state, "calls": calls, "long": at % 2}


def _parsed(call: str, orders: Mapping[str, list[str]]) -> tuple[str, dict[str, Any]]:
    """A call of Python as a name and named arguments."""
    tree = ast.parse(call, mode="eval").body
    assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name), call
    given = dict(zip(orders[tree.func.id], map(ast.literal_eval, tree.args), strict=False))
    given |= {str(one.arg): ast.literal_eval(one.value) for one in tree.keywords}
    return tree.func.id, given


def _steps(task: Any, calls: Any, answers: Any) -> Iterator[Any]:
    for asked, made, said in zip(task["question"], calls, answers, strict=True):
        yield "\n".join(one["content"] for one in asked)
        for (name, arguments), answer in zip(made, said, strict=True):
            yield name, arguments, answer


def _tools(task: Any, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The descriptions as a provider takes them."""
    found = [one for name in task["involved_classes"] for one in told[name]]
    return [
        {
            "name": one["name"],
            "description": one["description"],
            "parameters": one["parameters"] | {"type": "object"},
        }
        for one in found
        if one["name"] not in task.get("excluded_function", ())
    ]


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _answer() -> None:
    """Run each case that stands in the input; write what its calls gave."""
    made = [list(_played(case)) for case in json.load(sys.stdin)]
    print(json.dumps(made))


def _played(case: Any) -> Iterator[list[str]]:
    tools: dict[str, Any] = {}
    for name in case["classes"]:
        one = getattr(import_module(f"{MODULES}.{APIS[name]}"), name)()
        if hasattr(one, "_load_scenario"):
            one._load_scenario(case["state"].get(name, {}), long_context=bool(case["long"]))
        tools |= {each: getattr(one, each) for each in dir(one) if each[:1] != "_"}
    for turn in case["calls"]:
        yield [_told(tools[name], arguments) for name, arguments in turn]


def _told(tool: Any, arguments: Any) -> str:
    """What a call answers, as BFCL itself writes it."""
    try:
        said = tool(**arguments)
        return said if isinstance(said, str) else json.dumps(said)
    except Exception as error:
        return f"Error during execution: {error}"


if __name__ == "__main__":
    _answer()
