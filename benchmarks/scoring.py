"""What pruning costs beside one bare forward pass, and which answers survive it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import (
    MODEL,
    THREADS,
    Options,
    cut_to,
    forget,
    in_turns,
    long_texts,
    mean_interval,
    options,
    read_lines,
    save,
    show,
    times,
)

RECIPES = ("selective_context", "llmlingua", "lexical", "truncate", "random", "none")
QUESTION = "What should be done about taxes, and when?"


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    results: dict[str, Any] = {"threads": THREADS, "speed": speed(given)}
    show("compress() at half the tokens, beside one bare forward pass", results["speed"])
    if given.data:
        results["quality"] = quality(given, given.data)
        show("share of prompts that still hold the answer", results["quality"])
    save("scoring", given, results)


def speed(given: Options) -> list[dict[str, Any]]:
    """The time of the whole of compress() over that of one pass, paired, in one process."""
    import torch

    from tersely.weights import causal_lm

    torch.set_num_threads(THREADS)
    lm = causal_lm(MODEL)
    rows = []
    for size in (500, 1000) if given.quick else (2000, 8000):
        text, ids = cut_to(size, "\n\n".join(long_texts(given)), lm)

        def bare(ids: Any = ids) -> None:
            with torch.no_grad():
                lm.model(ids)

        bare()
        works = {"bare": bare} | {name: _compressing(name, text) for name in RECIPES}
        turns = 2 if given.quick else 6 if size < 4000 else 4
        costs = in_turns(works, dict.fromkeys(works, turns))
        for name in RECIPES:
            rows.append(
                {
                    "tokens": size,
                    "recipe": name,
                    "n": turns,
                    "times one pass (CPU)": times(costs[name], costs["bare"], 0),
                    "times one pass (wall)": times(costs[name], costs["bare"], 1),
                    "seconds (CPU)": float(np.median([cpu for cpu, _ in costs[name]])),
                }
            )
    return rows


def quality(given: Options, data: Path) -> list[dict[str, Any]]:
    """How often the answer's words outlive pruning: one gold passage among hard distractors."""
    from tersely.middleware.pipeline import compress

    items = _multi_document(data, count=12 if given.quick else 100)
    rows = []
    for name in RECIPES:
        kept: dict[float, list[float]] = {0.5: [], 0.25: []}
        for question, answers, context in items:
            for ratio in kept:
                made = compress(context, name, budget=ratio, question=question, model=MODEL)
                kept[ratio].append(float(_holds(made.output, answers)))
        rows.append(
            {"recipe": name, "n": len(items)}
            | {f"kept at {ratio:.0%}": mean_interval(values) for ratio, values in kept.items()}
        )
    return rows


def _compressing(name: str, text: str) -> Callable[[], None]:
    """The whole of compress(), with nothing remembered from before."""
    from tersely.middleware.pipeline import compress

    def work() -> None:
        forget()
        compress(text, name, budget=0.5, question=QUESTION, model=MODEL)

    return work


def _multi_document(data: Path, count: int) -> list[tuple[str, list[str], str]]:
    """Question, answers and eight passages: the gold one and the seven nearest by words."""
    import bm25s

    from tersely.lexical import terms_of

    rows = list(read_lines(data / "qa" / "nq-open-oracle-dev.jsonl.gz"))
    passages = {
        row["ctxs"][0]["text"]: f"{row['ctxs'][0]['title']}\n{row['ctxs'][0]['text']}"
        for row in rows
    }
    texts = list(passages)
    index = bm25s.BM25()
    index.index([terms_of(text) for text in texts], show_progress=False)
    draw = np.random.default_rng(0)
    items: list[tuple[str, list[str], str]] = []
    for row in rows:
        gold = row["ctxs"][0]["text"]
        if len(items) == count or not _holds(gold, row["answers"]):
            continue
        order = np.argsort(-index.get_scores(terms_of(row["question"])), kind="stable")
        others = [texts[i] for i in order[:60] if not _holds(passages[texts[i]], row["answers"])]
        chosen = [passages[text] for text in others[:7]]
        chosen.insert(int(draw.integers(0, 8)), passages[gold])
        items.append((row["question"], row["answers"], "\n\n".join(chosen)))
    return items


def _holds(text: str, answers: Sequence[str]) -> bool:
    plain = " ".join(text.lower().split())
    return any(" ".join(answer.lower().split()) in plain for answer in answers)


if __name__ == "__main__":
    main()
