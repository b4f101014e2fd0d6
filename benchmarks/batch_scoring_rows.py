"""Rows of real text for batch jobs that score, and the work of such a job on a block of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import (
    MODEL,
    forget,
    read_lines,
)
from benchmarks.pruning_peers import NAMED
from benchmarks.pruning_sets import holds

BLOCK = 16
"""Rows of a block: fewer than a job takes by itself, so that there are more blocks to compare."""
SHARE = 0.5
SEED = 5

Ways = dict[str, Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A row: a text, and what must survive in it for a question to be answered."""

    text: str
    question: str
    answers: tuple[str, ...]


def passages(data: Path) -> list[Asked]:
    """Passages of Wikipedia that hold the answer to a question, in an order drawn once."""
    rows = list(read_lines(data / "qa" / "nq-open-oracle-dev.jsonl.gz"))
    found = []
    for i in np.random.default_rng(SEED).permutation(len(rows)):
        told = rows[i]["ctxs"][0]
        one = Asked(f"{told['title']}\n{told['text']}", rows[i]["question"], (*rows[i]["answers"],))
        if holds(one.text, one.answers):
            found.append(one)
    return found


def joined(data: Path, count: int) -> list[Asked]:
    """Rows of one to four passages, each with the question that one of them answers."""
    chance = np.random.default_rng(SEED)
    left = iter(passages(data))
    found = []
    for one in (next(left) for _ in range(count)):
        others = [next(left).text for _ in range(int(chance.integers(4)))]
        others.insert(int(chance.integers(len(others) + 1)), one.text)
        found.append(Asked("\n\n".join(others), one.question, one.answers))
    return found


def paragraphs(data: Path, count: int) -> list[Asked]:
    """Paragraphs of XQuAD as the set has them, one after the other, once for each question."""
    articles = json.loads((data / "qa" / "xquad-en-dev.json").read_text(encoding="utf-8"))["data"]
    found = [
        Asked(told["context"], one["question"], tuple(a["text"] for a in one["answers"]))
        for article in articles
        for told in article["paragraphs"]
        for one in told["qas"]
    ]
    return found[:count]


def trained(data: Path, *, quick: bool) -> Path:
    """A classifier that was taught by the language model; trained once, and kept."""
    from tersely.models import home
    from tersely.registry import trainer
    from tersely.training import Training

    place = home() / "benchmarks" / "batch_scoring" / f"{NAMED}{'-quick' if quick else ''}"
    if not (place / "config.json").is_file():
        texts = [{"text": one.text} for one in passages(data)[-(20 if quick else 160) :]]
        teach = trainer("pruner", steps=3 if quick else 80, max_tokens=160)
        teach.train(Training(rows=texts, out=place))
    return place


class Job:
    """The work of a batch job on one block; nothing is remembered from before."""

    def __init__(self, folder: Path, stages: Any, block: Sequence[Asked], **settings: Any) -> None:
        from tersely.middleware.batch import BatchJob
        from tersely.middleware.files import At
        from tersely.middleware.pipeline import Pipeline

        source = folder / "block.jsonl"
        told = [{"text": one.text, "question": one.question} for one in block]
        source.write_text("".join(json.dumps(row) + "\n" for row in told))
        pipeline = Pipeline(stages, **{"budget": SHARE, "model": MODEL} | settings)
        job = BatchJob(
            source=source,
            target=folder / "made.jsonl",
            pipeline=pipeline,
            field="text",
            question_field="question",
        )
        self.work = job.work
        self.block = next(iter(job.files.blocks(At(), len(block))))

    def __call__(self) -> list[str]:
        forget()
        return self.again()

    def again(self) -> list[str]:
        """The same with what is remembered."""
        return _texts(self.work(self.block).target)


def _texts(pieces: Any) -> list[str]:
    return [json.loads(piece)["text"] for piece in pieces]
