"""What tersely costs where it does nothing: `import tersely`, and a wrapped client in mode off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import tersely
from benchmarks.harness import Options, Row, median_interval, options, save, show

MESSAGES = 40
HEAVY = ("torch", "transformers", "langchain_core", "openai", "anthropic", "numpy", "pydantic")
IMPORTING = """
import json, sys, time
start = time.perf_counter()
{code}
ms = (time.perf_counter() - start) * 1000
print(json.dumps({{"ms": ms, "loaded": sorted({heavy} & set(sys.modules))}}))
"""
LIMITS = {"import tersely": 100.0, "wrapped client, mode off": 0.2}
"""Milliseconds that each may take."""


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    importing, calling = imports(given), calls(given)
    show("in a fresh process (ms)", importing)
    show(f"one call with {MESSAGES} messages (ms)", calling)
    save("overhead", given, {"limits_ms": LIMITS, "import": importing, "call": calling})


def imports(given: Options) -> Sequence[Row]:
    """The time to import, and which heavy packages come along."""
    rows = []
    for asked in (
        "import tersely",
        "import tersely; tersely.wrap",
        "import pydantic",
        "import openai",
        "import langchain_core.runnables.base",
    ):
        code = IMPORTING.format(code=asked, heavy=set(HEAVY))
        runs = [_python(code) for _ in range(5 if given.quick else 20)]
        rows.append(
            {
                "code": asked,
                "n": len(runs),
                "ms (median)": median_interval([run["ms"] for run in runs]),
                "heavy packages loaded": ", ".join(runs[0]["loaded"]) or "none",
            }
        )
    return rows


def calls(given: Options) -> Sequence[Row]:
    """Whole calls of the real SDK, answered in the process: bare and wrapped in turn."""
    bare = _client()
    clients = {
        "bare client": bare,
        "bare client, again": bare.copy(),
        "wrapped client, mode off": tersely.wrap(bare, mode="off"),
        "wrapped client, mode audit": tersely.wrap(bare, mode="audit"),
    }
    messages = [
        {"role": "user" if i % 2 == 0 else "assistant", "content": f"message {i} " * 20}
        for i in range(MESSAGES)
    ]
    times: dict[str, list[float]] = {name: [] for name in clients}
    for turn in range(50 if given.quick else 1500):
        order = list(clients) if turn % 2 else list(clients)[::-1]
        for name in order:
            times[name].append(_timed(partial(_ask, clients[name], messages)))
    warm = {name: found[20:] for name, found in times.items()}
    return [
        {
            "client": name,
            "n": len(found),
            "call (median)": median_interval(found),
            "more than bare (median)": median_interval(
                [a - b for a, b in zip(found, warm["bare client"], strict=True)]
            ),
            "times bare": median_interval(found)[0] / median_interval(warm["bare client"])[0],
        }
        for name, found in warm.items()
    ]


def _client() -> Any:
    """A client whose transport answers at once, without a network."""
    from openai import DefaultHttpxClient, OpenAI

    # openai 3 speaks through httpx2, earlier ones through httpx
    http: Any = import_module("httpx2" if find_spec("httpx2") else "httpx")
    answer = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "ok"},
            }
        ],
    }
    transport = http.MockTransport(lambda request: http.Response(200, json=answer))
    return OpenAI(api_key="-", http_client=DefaultHttpxClient(transport=transport))


def _ask(client: Any, messages: Any) -> None:
    client.chat.completions.create(model="gpt-4o", messages=messages)


def _timed(work: Callable[[], None]) -> float:
    start = perf_counter()
    work()
    return (perf_counter() - start) * 1000


def _python(code: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
