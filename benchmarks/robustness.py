"""Hostile input through every stage: a result or a clear error, in linear time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import forget, options, save, show

PIECES = {
    "words on one line": "word ",
    "one word": "a",
    "emoji": "👨‍👩‍👧‍👦👍🏽🇩🇪 ",
    "combining characters": "e\u0301\u0323",
    "right to left": "שלום עולם. ",
    "ideographs": "日本語のテキスト。",
    "NUL": "a\x00 ",
    "lone surrogates": "\ud800 x ",
    "white space": " \n",
    "brackets": "[{",
    "dots": ". ",
    "quotes": '"a ',
    "code fences": "```\n",
    "digits": "1,234.5 ",
    "addresses": "a@b.c http://x/y ",
    "special tokens": "<|im_end|> ",
}
SMALL = {"empty": "", "one character": "x", "3,000 brackets": "[" * 3000 + "]" * 3000}
SLOW = 0.05
"""Seconds below which a growth is noise."""

WITHIN, MISSED = "within budget", "passed on, budget missed"
TRAINED = ("llmlingua2", "pcrl")
"""Stages that can do nothing before something is trained for them: left out."""

READS = frozenset({"causal_lm", "encoder", "syntax"})
"""Needs for which a text is read by a model: such stages get shorter texts."""


def main(argv: Sequence[str] | None = None) -> None:
    from tersely.registry import STAGES, stage_type

    given = options(__doc__ or "", argv)
    slow = {name for name in STAGES if READS & stage_type(name).needs} | {"query"}
    sizes = {name: 1_000 if name in slow else 250_000 for name in sorted(set(STAGES) - {*TRAINED})}
    if given.quick:
        sizes = {name: size // 10 for name, size in sizes.items()}
    rows = [grown(name, label, size) for name, size in sizes.items() for label in PIECES]
    rows += [once(name, label, text) for name in sizes for label, text in SMALL.items()]
    rows += [once(name, "only locked text", _locked()) for name in sizes]
    if not given.quick:
        free = [name for name in sizes if name not in slow]
        rows += [once(name, "1 MB on one line", "word " * 200_000) for name in free]
    show("hostile input; growth is time for double the size", [told(name, rows) for name in sizes])
    save("robustness", given, {"rows": rows})


def told(stage: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All that befell one stage, in one line."""
    own = [row for row in rows if row["stage"] == stage]
    slow = [row for row in own if row["seconds"] > SLOW]
    return {
        "stage": stage,
        "inputs": len(own),
        "within budget": sum(row["outcome"] == WITHIN for row in own),
        "passed on": sum(row["outcome"] == MISSED for row in own),
        "other": "; ".join(sorted({row["outcome"] for row in own} - {WITHIN, MISSED})),
        "worst growth": max((row["growth"] for row in slow if row["growth"]), default=0.0),
        "slowest, s": max(row["seconds"] for row in own),
    }


def grown(stage: str, label: str, size: int) -> dict[str, Any]:
    """One stage on one kind of text and on twice as much of it."""
    piece = PIECES[label]
    text = piece * (size // len(piece))
    outcome, half = _run(stage, text)
    outcome, whole = _run(stage, text * 2)
    return _row(stage, label, 2 * len(text), outcome, whole) | {
        "growth": round(whole / max(half, 1e-3), 2)
    }


def once(stage: str, label: str, request: Any) -> dict[str, Any]:
    """One stage on one request."""
    size = len(request) if isinstance(request, str) else len(str(request))
    return _row(stage, label, size, *_run(stage, request)) | {"growth": ""}


def _row(stage: str, label: str, size: int, outcome: str, seconds: float) -> dict[str, Any]:
    return {
        "stage": stage,
        "input": label,
        "characters": size,
        "outcome": outcome,
        "seconds": round(seconds, 3),
    }


def _run(stage: str, request: Any) -> tuple[str, float]:
    """What came of it, and the seconds it took (the better of two)."""
    from tersely.errors import TerselyError
    from tersely.middleware.pipeline import compress

    seconds = []
    outcome = ""
    for _ in range(2):
        forget()
        start = time.perf_counter()
        try:
            report = compress(request, stage, budget=0.3).report
            failed = next((note for note in report.notes if "failed" in note), "")
            outcome = failed or (WITHIN if report.met else MISSED)
        except TerselyError as error:
            outcome = f"error: {error}"
        seconds.append(time.perf_counter() - start)
    return outcome, min(seconds)


def _locked() -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "system", "content": "Be brief. " * 100}]}


if __name__ == "__main__":
    main()
