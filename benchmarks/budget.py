"""Over a thousand real texts and budgets: how many go over, and how much of a budget is used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import (
    Options,
    manual,
    mean_interval,
    options,
    read_lines,
    save,
    show,
    speeches,
)

COUNTERS = ("gpt-4o", "smollm2")
MODEL_FREE = ("lexical", "truncate", "random")
WITH_MODEL = ("selective_context", "llmlingua")
LONGEST = 20_000
"""Characters of the longest text."""

SHORT = 4_000
"""Characters up to which recipes with a model are measured as well: they take a second a text."""


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    texts = real_texts(given, 100 if given.quick else 1000)
    short = [text for text in texts if len(text) < SHORT][: 10 if given.quick else None]
    rows = [measured(name, texts) for name in MODEL_FREE]
    rows.append(measured("lexical", texts, {"fill": None}, "lexical, whole sentences"))
    rows += [measured(name, short) for name in WITH_MODEL]
    show("budgets of 5 to 90 % of the text, in the tokens of the target model", rows)
    save("budget", given, {"counters": COUNTERS, "rows": rows})


def measured(
    name: str, texts: Sequence[str], settings: dict[str, Any] | None = None, label: str = ""
) -> dict[str, Any]:
    """How one recipe keeps budgets that were drawn at random, one for each text."""
    from tersely.middleware.pipeline import compress

    draw = np.random.default_rng(1)
    over = 0
    used: list[float] = []
    for i, text in enumerate(texts):
        made = compress(
            text,
            {name: settings or {}},
            budget=float(draw.uniform(0.05, 0.9)),
            question="What was decided, and who said so?" if i % 2 else None,
            model=COUNTERS[i % len(COUNTERS)],
        )
        limit = made.report.limit or 1
        over += made.report.after > limit
        used.append(made.report.after / limit)
    return {
        "recipe": label or name,
        "n": len(texts),
        "over budget": over,
        "used": mean_interval(used),
        "5th percentile": float(np.percentile(used, 5)),
    }


def real_texts(given: Options, count: int) -> list[str]:
    """Texts of many lengths and kinds, shuffled the same way every time."""
    texts = list(_of_data(given.data) if given.data else _stretches(manual(), count))
    draw = np.random.default_rng(0)
    chosen = draw.permutation(len(texts))[:count]
    return [texts[i] for i in chosen]


def _of_data(data: Path) -> Iterator[str]:
    """Meetings, passages, speeches, paragraphs and dialogues."""
    meetings = [
        "\n".join(f"{turn['speaker']}: {turn['content']}" for turn in row["meeting_transcripts"])
        for row in read_lines(data / "summ" / "qmsum_val.jsonl")
    ]
    yield from _stretches(meetings, 300)
    yield from _stretches(speeches(data), 300)
    for row in list(read_lines(data / "qa" / "nq-open-oracle-dev.jsonl.gz"))[:300]:
        yield row["ctxs"][0]["text"]
    squad = json.loads((data / "qa" / "xquad-en-dev.json").read_text(encoding="utf-8"))
    for article in squad["data"]:
        yield from (paragraph["context"] for paragraph in article["paragraphs"])
    for row in list(read_lines(data / "chat" / "mtbench101-dev.jsonl"))[:300]:
        yield "\n\n".join(f"User: {turn['user']}\nBot: {turn['bot']}" for turn in row["history"])


def _stretches(texts: Sequence[str], count: int) -> Iterator[str]:
    """Stretches of random place and length, from whole lines."""
    draw = np.random.default_rng(2)
    for _ in range(count):
        lines = texts[int(draw.integers(0, len(texts)))].splitlines(keepends=True)
        start = int(draw.integers(0, len(lines)))
        size = int(np.exp(draw.uniform(np.log(500), np.log(LONGEST))))
        text = "".join(lines[start:])[:size].strip()
        if len(text) > 200:
            yield text


if __name__ == "__main__":
    main()
