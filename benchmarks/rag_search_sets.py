"""What retrieval is measured on: texts to search, and questions with the places that answer them.

Three public sets: Natural Questions (Kwiatkowski et al. 2019, https://doi.org/10.1162/tacl_a_00276;
the pool are the gold passages of all questions), the corpora of chunking_evaluation (Smith and
Troynikov 2024, https://research.trychroma.com/evaluating-chunking) and the documentation set of
Anthropic's cookbook. Half of the questions are there to choose settings with, the other half is
only measured.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.harness import read_lines

Split = Literal["dev", "test"]
Place = tuple[str, int, int]
"""A source, and characters of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question and the places of the texts that answer it."""

    question: str
    gold: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Texts by their source, and what is asked about them.

    `by` tells what is counted: whole sources found, or characters of the gold places.
    """

    name: str
    by: Literal["source", "characters"]
    texts: Mapping[str, str]
    asked: tuple[Asked, ...]

    def half(self, split: Split, most: int | None = None) -> tuple[Asked, ...]:
        """One half of the questions, in an order drawn once."""
        order = np.random.default_rng(11).permutation(len(self.asked)).tolist()
        cut = len(order) // 2
        chosen = order[:cut] if split == "dev" else order[cut:]
        return tuple(self.asked[i] for i in chosen[:most])


def natural_questions(data: Path) -> Library:
    """One passage of Wikipedia answers each question."""
    texts: dict[str, str] = {}
    known: dict[str, str] = {}
    asked = []
    for row in read_lines(data / "qa" / "nq-open-oracle-dev.jsonl.gz"):
        first = row["ctxs"][0]
        text = f"{first['title']}\n{first['text']}"
        source = known.setdefault(text, f"nq-{len(known)}")
        texts[source] = text
        asked.append(Asked(question=row["question"], gold=((source, 0, len(text)),)))
    return Library(name="nq", by="source", texts=texts, asked=tuple(asked))


def excerpts(data: Path) -> Library:
    """Long texts, in each of which some sentences answer the question."""
    folder = data / "rag" / "chunking_eval"
    paths = sorted((folder / "corpora").glob("*.md"))
    texts = {path.stem: path.read_bytes().decode() for path in paths}
    with (folder / "questions-dev.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    asked = tuple(
        Asked(question=row["question"], gold=tuple(_places(row, texts[row["corpus_id"]])))
        for row in rows
    )
    return Library(name="excerpts", by="characters", texts=texts, asked=asked)


def _places(row: Mapping[str, str], text: str) -> Iterator[Place]:
    for one in json.loads(row["references"]):
        start, end = int(one["start_index"]), int(one["end_index"])
        if text[start:end] != one["content"]:
            raise ValueError(f"the excerpt at {start} of {row['corpus_id']} is not what it says")
        yield row["corpus_id"], start, end


def documentation(data: Path) -> Library:
    """Sections of a product's documentation, from one to a few of which answer each question."""
    folder = data / "rag" / "docs"
    sections = json.loads((folder / "anthropic_docs.json").read_text(encoding="utf-8"))
    texts = {one["chunk_link"]: one["text"] for one in sections}
    rows = json.loads((folder / "docs_evaluation_dataset.json").read_text(encoding="utf-8"))
    asked = [
        Asked(
            question=row["question"],
            gold=tuple((link, 0, len(texts[link])) for link in row["correct_chunks"]),
        )
        for row in rows
    ]
    return Library(name="docs", by="source", texts=texts, asked=tuple(asked))


SETS: Mapping[str, Callable[[Path], Library]] = {
    "nq": natural_questions,
    "excerpts": excerpts,
    "docs": documentation,
}


def sources_found(found: Sequence[Place]) -> list[str]:
    """The sources of what was found, each once, in order."""
    return list(dict.fromkeys(source for source, _, _ in found))


def reciprocal_rank(one: Asked, found: Sequence[Place]) -> float:
    """One over the rank of the first source that answers; 0 when none does."""
    gold = {source for source, _, _ in one.gold}
    ranks = [rank for rank, s in enumerate(sources_found(found), 1) if s in gold]
    return 1 / ranks[0] if ranks else 0.0


def recall_at(k: int, one: Asked, found: Sequence[Place]) -> float:
    """The share of the answering sources among the first k."""
    gold = {source for source, _, _ in one.gold}
    return len(gold & set(sources_found(found)[:k])) / min(len(gold), k)


def covered(one: Asked, found: Sequence[Place]) -> float:
    """The share of the gold characters that lie in what was found."""
    wanted = characters(one.gold)
    return len(wanted & characters(found)) / len(wanted)


def overlap(one: Asked, found: Sequence[Place]) -> float:
    """Gold characters found, of all that are gold or found (intersection over union)."""
    wanted, had = characters(one.gold), characters(found)
    return len(wanted & had) / len(wanted | had)


def characters(places: Sequence[Place]) -> set[tuple[str, int]]:
    """Every character of some places, once."""
    return {(source, at) for source, start, end in places for at in range(start, end)}
