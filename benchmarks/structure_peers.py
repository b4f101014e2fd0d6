"""Other packages that compress what agents send, in an environment of their own.

They bring a hundred packages along, so they are asked in a process of the Python that
`TERSELY_PEERS` names:

    python -m venv peers && peers/bin/pip install headroom-ai==0.42.0 distil-llm==1.58.0 \\
        litellm==1.110.2 contextpress==0.7.8 && peers/bin/pip install --no-deps \\
        bfcl-eval==2026.3.23 mpmath

(the last two are no peers but the simulators of `agents_simulated`). This file is what that
process runs, too. Nothing in it reaches a network: the vocabulary of GPT-4o is the one that
LiteLLM brings along.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

NAMES = ("headroom-ai", "distil-llm", "distil-llm verbatim")
"""Those that compress a single output."""

WHOLE = (*NAMES, "litellm compress", "contextpress", "contextpress high")
"""Those that compress a whole request."""

RUNS = 5
SETTINGS = {
    "HEADROOM_TELEMETRY": "off",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "PYTHONPATH": "",
    "PYTHONWARNINGS": "ignore",
}

Messages = list[dict[str, Any]]


def python() -> str:
    """The Python that has them; empty where none is named."""
    return os.environ.get("TERSELY_PEERS", "")


def answers(name: str, cases: Sequence[Messages], runs: int = RUNS) -> dict[str, Any]:
    """What a package makes of the last message of each case, and its best CPU time in ms."""
    found: dict[str, Any] = _asked({"name": name, "cases": cases, "runs": runs})[-1]
    return found


def requests(
    name: str, cases: Sequence[Messages], *, limit: float = 1800, again: bool = True
) -> list[dict[str, Any]]:
    """What a package makes of whole requests, each asked for once: a row for every case.

    A row has the `messages`, the CPU time in `ms`, whether the input was `mutated`, whether a
    second pass leaves the messages as they are (`stable`, if it is to try `again`), and the
    `error` where there was one.
    After `limit` seconds the rows that there are come back.
    """
    return _asked({"name": name, "cases": cases, "again": again}, limit)


def told_version(name: str) -> str:
    """Which version of a package is asked."""
    return str(_asked({"name": name, "cases": [], "again": False})[-1]["version"])


def _asked(given: Any, limit: float | None = None) -> list[Any]:
    asked = subprocess.Popen(
        [python(), __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **SETTINGS},
    )
    late = False
    try:
        made, said = asked.communicate(json.dumps(given), timeout=limit)
    except subprocess.TimeoutExpired:
        late = True
        asked.kill()
        made, said = asked.communicate()
    if asked.returncode and not late:
        raise RuntimeError(f"{given['name']} failed: {said[-2000:]}")
    whole = made[: made.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines() if line[:1] == "{"]


def _worker(name: str) -> Callable[[Messages], Any]:
    if name == "headroom-ai":
        from headroom import compress

        return lambda messages: compress(messages, model="gpt-4o", protect_recent=0).messages
    if name.startswith("litellm"):
        return _litellm()
    if name.startswith("contextpress"):
        from contextpress import ContextManager

        level = "high" if name.endswith("high") else "medium"
        manager = ContextManager("agent", model="gpt-4o", compression=level)
        return lambda messages: manager.compress(messages)
    from distil import compress_messages

    verbatim = name.endswith("verbatim")
    return lambda messages: compress_messages(messages, verbatim=verbatim).messages


def _litellm() -> Callable[[Messages], Any]:
    """LiteLLM acts on requests of more than 200,000 tokens; here on each, to its usual 70 %."""
    import litellm
    from litellm.compression.compress import compress

    def work(messages: Messages) -> Any:
        size = litellm.token_counter(model="gpt-4o", messages=messages)
        own = any(isinstance(one.get("content"), list) for one in messages)
        form = "anthropic_messages" if own else "completion"
        trigger = max(size - 1, 1)
        made = compress(messages, model="gpt-4o", call_type=form, compression_trigger=trigger)
        return made["messages"]

    return work


def _mended(messages: Messages) -> Messages:
    """Messages that call tools with an empty text instead of none, for those that need one."""
    return [one | {"content": ""} if one.get("content") is None else one for one in messages]


def _answer() -> None:
    given = json.load(sys.stdin)
    found = importlib.util.find_spec("litellm")
    if found and found.origin:
        vocabulary = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
        os.environ["TIKTOKEN_CACHE_DIR"] = str(vocabulary)
    if "runs" not in given:
        _each(given["name"], given["cases"], again=given["again"])
        return
    work = _worker(given["name"])
    texts, times = [], []
    work(given["cases"][0])
    for case in given["cases"]:
        best = float("inf")
        for _ in range(given["runs"]):
            start = time.process_time()
            made = work(json.loads(json.dumps(case)))
            best = min(best, time.process_time() - start)
        content = made[-1]["content"]
        texts.append(content if isinstance(content, str) else json.dumps(content))
        times.append(best * 1000)
    told = version(given["name"].split()[0])
    print(json.dumps({"texts": texts, "ms": times, "version": told}))


def _each(name: str, cases: Sequence[Messages], *, again: bool) -> None:
    """Print a row for every request, as soon as it is there; without any, the version."""
    work = _worker(name)
    rows = [{"id": i, "name": f"number {i}", "on": i % 7 == 0} for i in range(99)]
    asked = {"id": "1", "type": "function", "function": {"name": "rows", "arguments": "{}"}}
    warm: Messages = [
        {"role": "user", "content": "Which are on?"},
        {"role": "assistant", "content": "", "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "1", "content": json.dumps(rows)},
    ]
    _tried(work, warm, again=False)
    if not cases:
        print(json.dumps({"version": version(name.split()[0])}))
    for case in cases:
        row = _tried(work, case, again=again)
        if "error" in row and (mended := _mended(case)) != case:
            row = {**_tried(work, mended, again=again), "error": row["error"]}
        print(json.dumps(row), flush=True)


def _tried(work: Callable[[Messages], Any], case: Messages, *, again: bool) -> dict[str, Any]:
    before = json.dumps(case)
    start = time.process_time()
    try:
        made = work(case)
        ms = (time.process_time() - start) * 1000
        mutated = json.dumps(case) != before
        told = json.loads(json.dumps(made))
    except (Exception, RecursionError) as error:
        ms = (time.process_time() - start) * 1000
        return {"error": f"{type(error).__name__}: {error}"[:300], "messages": case, "ms": ms}
    row = {"messages": told, "ms": ms, "mutated": mutated}
    if not again:
        return row
    try:
        stable = json.dumps(work(made)) == json.dumps(told)
    except (Exception, RecursionError):
        stable = False
    return {**row, "stable": stable}


if __name__ == "__main__":
    _answer()
