"""Answers of tools that are hard to read: huge single lines, deep nesting, JSON that is none."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from math import log2
from typing import Any

import numpy as np

from benchmarks import structure_peers as peers
from benchmarks.agents_facts import broken_pairs
from benchmarks.agents_methods import untimed
from benchmarks.agents_sets import MODEL, Message
from benchmarks.harness import Row, cost_of

OURS = ("default", "bold")
OTHERS = ("headroom-ai", "distil-llm", "litellm compress", "contextpress")

LARGEST = 5_000_000
DEEPEST = 24_000
DOUBLINGS = 2

LIMIT = 240.0
"""Seconds of wall time for all sizes of one kind of text, on a machine that may be busy."""

Make = Callable[[int], str]


def request(text: str) -> dict[str, Any]:
    """An agent's request after a tool gave this text."""
    call = {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    said: list[Message] = [
        {"role": "user", "content": "What of ORD-1234 and of job 77?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": text},
    ]
    return {"model": MODEL, "messages": said}


def rows(size: int) -> str:
    """JSON of many like objects, on one line."""
    chance = random.Random(1)
    return json.dumps(
        list(
            _upto(
                size,
                lambda _: {
                    "id": f"ORD-{chance.randrange(10**6)}",
                    "name": chance.choice(("Ann Lee", "Bob Ray")),
                    "total": round(chance.random() * 1000, 2),
                },
            )
        )
    )


def line(size: int) -> str:
    """A log whose line breaks were lost."""
    chance = random.Random(2)
    return " ".join(
        _upto(
            size,
            lambda i: (
                f"2026-11-23 10:{i // 60 % 60:02d}:{i % 60:02d} INFO worker-{chance.randrange(8)} "
                f"did job {chance.randrange(10**6):x} in {chance.randrange(900)} ms"
            ),
        )
    )


def script(size: int) -> str:
    """A program without a line break."""
    chance = random.Random(3)
    return ";".join(
        _upto(
            size,
            lambda i: f"function f{i}(a,b){{return a*{chance.randrange(99)}+b[{i % 9}]}}",
        )
    )


def word(size: int) -> str:
    """One word."""
    return base64.b64encode(random.Random(4).randbytes(size * 3 // 4)).decode()


def _upto(size: int, make: Callable[[int], Any]) -> Iterator[Any]:
    """As many things as come to about so many characters."""
    left = size
    for i in count():
        one = make(i)
        left -= len(one if isinstance(one, str) else json.dumps(one)) + 2
        if left < 0:
            return
        yield one


LINES: Mapping[str, Make] = {
    "JSON": rows,
    "JSON cut off": lambda size: rows(size * 10 // 9)[:size],
    "a string in JSON": lambda size: json.dumps({"text": line(size)}),
    "log": line,
    "minified script": script,
    "one word": word,
}
NESTED: Mapping[str, Make] = {
    "arrays in arrays": lambda depth: "[" * depth + "]" * depth,
    "objects in objects": lambda depth: '{"a":' * depth + "1" + "}" * depth,
    "arrays never closed": lambda depth: "[" * depth,
}
MALFORMED: Mapping[str, str] = {
    "cut off": rows(3000)[:2500],
    "cut off in a string": '{"a": "' + "word " * 300,
    "two values": rows(1500) + rows(1500),
    "a comma too many": "[1, 2, 3,]" * 60,
    "single quotes": str(json.loads(rows(3000))),
    "comments": "// the orders\n" + rows(3000),
    "no quotes": "{id: 1, name: Ann}" * 80,
    "NaN": '{"rows": [' + ", ".join(["NaN, 1.10, -0, 1e400"] * 60) + "]}",
    "equal keys": '{"a": 1, "a": 2, "b": ' + rows(2000) + "}",
    "lone surrogates": json.dumps({"a": "\ud800 " * 200}),
    "control characters": '{"a": "\x00\x1f' + "x " * 500 + '"}',
    "a mark of the byte order": "\ufeff" + rows(3000),
    "white space alone": " \n\t" * 500,
}
"""What services and programs give that says it is JSON."""


def hostile(*, quick: bool = False) -> dict[str, list[Row]]:
    """How long huge and deep answers take as they double, and what comes of malformed ones."""
    shrink = 16 if quick else 1
    names = (*OURS, *(OTHERS[: 1 if quick else None] if peers.python() else ()))
    sizes = [LARGEST // shrink >> by for by in range(DOUBLINGS, -1, -1)]
    depths = [DEEPEST // shrink >> by for by in range(DOUBLINGS, -1, -1)]
    growing = [
        _grown(name, kind, [make(size) for size in steps], steps)
        for kinds, steps in ((LINES, sizes), (NESTED, depths))
        for kind, make in kinds.items()
        for name in names
    ]
    return {"growing": growing, "malformed": [_malformed(name) for name in names]}


def _grown(name: str, kind: str, texts: Sequence[str], sizes: Sequence[int]) -> Row:
    """Seconds for the largest, and the power of the size with which the time grows."""
    made = asked(name, [request(text)["messages"] for text in texts])
    told = [row["ms"] / 1000 for row in made if "error" not in row]
    error = next((row["error"] for row in made if "error" in row), "")
    if len(made) < len(texts):
        error = error or f"not done in {LIMIT:g} s"
    return {
        "method": name,
        "text": kind,
        "largest": sizes[-1],
        "seconds": told[-1] if len(told) == len(texts) else "-",
        "power": power(sizes[: len(told)], told) if len(told) > 2 else "-",
        "error": error[:60],
    }


def power(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of the times over the sizes, both by their logarithms: 1 is linear time."""
    steps = [log2(size) for size in sizes]
    slope, _ = np.polyfit(steps, [log2(max(one, 1e-6)) for one in seconds], 1)
    return float(slope)


def _malformed(name: str) -> Row:
    """What fails, and what is written anew of texts that no parser reads."""
    before = [request(text)["messages"] for text in MALFORMED.values()]
    made = asked(name, before)
    pairs = list(zip(MALFORMED, before, made, strict=True))
    return {
        "method": name,
        "texts": len(pairs),
        "failed": ", ".join(kind for kind, _, row in pairs if "error" in row) or "-",
        "written anew": ", ".join(kind for kind, old, row in pairs if row["messages"] != old)
        or "-",
        "broken pairs": sum(broken_pairs(row["messages"]) for row in made),
        "mutated": sum(row.get("mutated", False) for row in made),
    }


def asked(name: str, cases: Sequence[list[Message]]) -> list[dict[str, Any]]:
    """What a method makes of each, until its time is over."""
    if name not in OURS:
        return peers.requests(name, cases, limit=LIMIT, again=False)
    made: list[dict[str, Any]] = []
    untimed(name).run(request(rows(50_000)))
    for case in cases:
        if sum(row["ms"] for row in made) > LIMIT * 1000:
            break
        made.append(_ours(name, case))
    return made


def _ours(name: str, case: list[Message]) -> dict[str, Any]:
    kept = json.dumps(case)
    results: list[Any] = []
    given = {"model": MODEL, "messages": case}
    cpu, _ = cost_of(lambda: results.append(untimed(name).run(given)))
    said = results[0].output["messages"]
    failed = next((one for one in results[0].report.notes if "failed" in one), "")
    row = {"messages": said, "ms": cpu * 1000, "mutated": json.dumps(case) != kept}
    return row | ({"error": failed} if failed else {})
