"""Other packages that compress tool output, in an environment of their own.

They bring a hundred packages along, so they are asked in a process of the Python that
`TERSELY_PEERS` names: `python -m venv peers && peers/bin/pip install headroom-ai==0.42.0
distil-llm==1.58.0`. This file is what that process runs, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

NAMES = ("headroom-ai", "distil-llm", "distil-llm verbatim")
RUNS = 5

Messages = list[dict[str, Any]]


def python() -> str:
    """The Python that has them; empty where none is named."""
    return os.environ.get("TERSELY_PEERS", "")


def answers(name: str, cases: Sequence[Messages], runs: int = RUNS) -> dict[str, Any]:
    """What a package makes of the last message of each case, and its best CPU time in ms."""
    given = json.dumps({"name": name, "cases": cases, "runs": runs})
    done = subprocess.run(
        [python(), __file__],
        input=given,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HEADROOM_TELEMETRY": "off", "PYTHONPATH": ""},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _worker(name: str) -> Callable[[Messages], Any]:
    if name == "headroom-ai":
        from headroom import compress

        return lambda messages: compress(messages, model="gpt-4o", protect_recent=0).messages
    from distil import compress_messages

    verbatim = name.endswith("verbatim")
    return lambda messages: compress_messages(messages, verbatim=verbatim).messages


def _answer() -> None:
    given = json.load(sys.stdin)
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


if __name__ == "__main__":
    _answer()
