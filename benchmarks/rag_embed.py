"""What it costs to embed, and what the vectors find: one model run in several ways, and none.

Each way embeds the same passages and the same single questions, in turns, on one thread. Then
all questions look for their passage among all passages, by cosine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from benchmarks.harness import (
    THREADS,
    Cost,
    Options,
    Row,
    in_turns,
    manual,
    mean_interval,
    median_interval,
    options,
    read_lines,
    save,
    show,
    times,
)
from tersely.rag.embed_onnx import Onnx
from tersely.rag.embed_sentence_transformers import SentenceTransformers
from tersely.rag.embed_static import Static
from tersely.retrieval import Embedder, Vectors

PASSAGES, QUESTIONS = 48, 40
TURNS = 7
BASE = "torch fp32, batch 32"
"""As sentence-transformers does it by itself."""

AGAIN = "torch fp32"
"""The same vectors in smaller batches: they find the same."""

Pairs = Sequence[tuple[str, str]]
"""Questions, each with the passage that answers it."""


def embedders() -> dict[str, Embedder]:
    """The ways to embed; the first is what the others are compared with."""
    return {
        BASE: SentenceTransformers(precision="float32", batch=32),
        AGAIN: SentenceTransformers(precision="float32"),
        "torch bf16": SentenceTransformers(precision="bfloat16"),
        "onnx fp32": Onnx(precision="fp32", threads=THREADS),
        "onnx int8": Onnx(threads=THREADS),
        "static": Static(),
    }


def pairs(given: Options) -> Pairs:
    """Natural Questions; without data the topics of the language reference by their first line."""
    if given.data is None:
        return [(text.strip().splitlines()[0], text[:1000]) for text in manual()]
    rows = read_lines(given.data / "qa" / "nq-open-oracle-dev.jsonl.gz")
    gold = [(row["question"], next(one for one in row["ctxs"] if one["isgold"])) for row in rows]
    return [(question, f"{one['title']}\n{one['text']}") for question, one in gold]


def cost(ways: Mapping[str, Embedder], some: Pairs, turns: int) -> list[Row]:
    """Passages a second and milliseconds a question, with how many times the first way's."""
    passages = [passage for _, passage in some[:PASSAGES]]
    questions = [question for question, _ in some[:QUESTIONS]]
    works: dict[str, Callable[[], object]] = {}
    for name, one in ways.items():
        works[f"{name}|all"] = partial(one.documents, passages)
        works[f"{name}|each"] = partial(_one_by_one, one, questions)
    in_turns(works, dict.fromkeys(works, 1))  # loads, exports, learns words
    costs = in_turns(works, dict.fromkeys(works, turns))
    return [_row(name, costs, len(passages), len(questions)) for name in ways]


def _one_by_one(embedder: Embedder, questions: Sequence[str]) -> None:
    for text in questions:
        embedder.queries([text])


def _row(name: str, costs: Mapping[str, Sequence[Cost]], passages: int, questions: int) -> Row:
    all_of, each = costs[f"{name}|all"], costs[f"{name}|each"]
    base_all, base_each = costs[f"{BASE}|all"], costs[f"{BASE}|each"]
    return {
        "way": name,
        "passages/CPU s": passages / median_interval([cpu for cpu, _ in all_of])[0],
        "times, CPU": times(base_all, all_of, 0),
        "times, wall": times(base_all, all_of, 1),
        "ms CPU/question": median_interval([cpu for cpu, _ in each])[0] / questions * 1e3,
        "less, CPU": times(base_each, each, 0),
        "less, wall": times(base_each, each, 1),
    }


def quality(ways: Mapping[str, Embedder], some: Pairs) -> list[Row]:
    """How often the passage is found first, or among ten; each question against the first way."""
    passages = list(dict.fromkeys(passage for _, passage in some))
    gold = np.array([passages.index(passage) for _, passage in some])
    questions = [question for question, _ in some]
    ranks: dict[str, np.ndarray] = {}
    rows: dict[str, Vectors] = {}
    for name, one in ways.items():
        rows[name] = one.documents(passages)
        scores = one.queries(questions) @ rows[name].T
        mine = scores[np.arange(len(gold)), gold][:, None]
        ranks[name] = (scores > mine).sum(axis=1)
    return [
        {
            "way": name,
            "R@1": mean_interval((rank < 1).tolist()),
            "R@10": mean_interval((rank < 10).tolist()),
            "R@1, difference": mean_interval(((rank < 1) * 1.0 - (ranks[BASE] < 1)).tolist()),
            "R@10, difference": mean_interval(((rank < 10) * 1.0 - (ranks[BASE] < 10)).tolist()),
            "cosine": _alike(rows[name], rows[BASE]),
        }
        for name, rank in ranks.items()
    ]


def _alike(rows: Vectors, others: Vectors) -> float | str:
    if rows.shape != others.shape:
        return "-"
    return float((rows * others).sum(axis=1).mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the cost, then what is found."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(THREADS)
    given = options(__doc__ or "", argv)
    some = pairs(given)[: 60 if given.quick else None]
    ways = embedders()
    costs = cost(ways, some, 2 if given.quick else TURNS)
    show("Cost of embedding", costs)
    found = quality({name: one for name, one in ways.items() if name != AGAIN}, some)
    show(f"{len(some)} questions", found)
    data = "nq-open-oracle-dev" if given.data else "language reference"
    save("rag_embed", given, {"threads": THREADS, "data": data, "cost": costs, "quality": found})


if __name__ == "__main__":
    main()
