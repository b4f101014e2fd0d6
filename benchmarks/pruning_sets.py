"""The questions that pruning is measured with: four public sets, each with what must survive.

Every set has a `dev` part, on which settings are chosen, and a `test` part that is only measured.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.harness import read_lines

Split = Literal["dev", "test"]

PASSAGES = 20
"""Passages in one prompt of Natural Questions and XQuAD: the gold one among hard ones."""

POSITIONS = (0, 5, 10, 15, 19)
"""Where the gold passage stands, in turn."""

DEMONSTRATIONS = 8
MEETING = 6_000
"""Characters of a meeting: a stretch of turns around those that are asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question, the documents it comes with, and what a good compression still holds.

    `gold` are the passages of the context that an answer rests on, word for word.
    """

    set: str
    question: str
    documents: tuple[str, ...]
    answers: tuple[str, ...]
    gold: tuple[str, ...] = ()

    @property
    def context(self) -> str:
        return "\n\n".join(self.documents)


def items(name: str, data: Path, split: Split, count: int) -> list[Item]:
    """The first items of a part, in an order drawn once."""
    found = list(SETS[name](data))
    order = np.random.default_rng(7).permutation(len(found))
    held = HELD_OUT[name]
    chosen = order[:held] if split == "test" else order[held:]
    return [found[i] for i in chosen[:count]]


def holds(text: str, words: Sequence[str]) -> bool:
    """Whether one of some phrases stands in a text, whatever the case and white space."""
    plain = _plain(text)
    return any(_plain(one) in plain for one in words)


def natural_questions(data: Path) -> Iterator[Item]:
    """One gold passage of Wikipedia among the nineteen nearest that do not hold the answer."""
    rows = list(read_lines(data / "qa" / "nq-open-oracle-dev.jsonl.gz"))
    golds = [f"{row['ctxs'][0]['title']}\n{row['ctxs'][0]['text']}" for row in rows]
    near = _nearest(tuple(row["question"] for row in rows), tuple(golds))
    for i, row in enumerate(rows):
        answers = tuple(row["answers"])
        if holds(golds[i], answers):
            yield _among(i, row["question"], answers, golds, near[i])


def xquad(data: Path) -> Iterator[Item]:
    """One paragraph of SQuAD among the nineteen nearest that do not hold the answer."""
    articles = json.loads((data / "qa" / "xquad-en-dev.json").read_text(encoding="utf-8"))["data"]
    asked = [
        (f"{article['title'].replace('_', ' ')}\n{paragraph['context']}", one)
        for article in articles
        for paragraph in article["paragraphs"]
        for one in paragraph["qas"]
    ]
    paragraphs = list(dict.fromkeys(paragraph for paragraph, _ in asked))
    near = _nearest(tuple(one["question"] for _, one in asked), tuple(paragraphs))
    for i, (paragraph, one) in enumerate(asked):
        answers = tuple(answer["text"] for answer in one["answers"])
        gold = paragraphs.index(paragraph)
        yield _among(gold, one["question"], answers, paragraphs, near[i], place=i)


def hotpot(data: Path) -> Iterator[Item]:
    """Ten paragraphs, two of which together answer the question."""
    for row in read_lines(data / "qa" / "hotpotqa-dev.jsonl"):
        told = dict(row["context"])
        gold = [told[title][at] for title, at in row["supporting_facts"] if at < len(told[title])]
        yield Item(
            set="hotpot",
            question=row["question"],
            documents=tuple(f"{title}\n{''.join(told[title])}" for title in told),
            answers=(row["answer"],),
            gold=tuple(sentence.strip() for sentence in gold),
        )


def gsm8k(data: Path) -> Iterator[Item]:
    """Eight solved problems in front of one that is to be solved."""
    rows = list(read_lines(data / "reasoning" / "gsm8k-dev.jsonl"))
    solved = [f"Question: {row['question']}\nAnswer: {_worked(row['answer'])}" for row in rows]
    for i, row in enumerate(rows):
        others = np.random.default_rng(i).permutation(len(rows))
        shown = [solved[k] for k in others[: DEMONSTRATIONS + 1] if k != i][:DEMONSTRATIONS]
        yield Item(
            set="gsm8k",
            question=row["question"],
            documents=tuple(shown),
            answers=(_worked(row["answer"]),),
        )


def qmsum(data: Path) -> Iterator[Item]:
    """A stretch of a meeting, and a question about some of its turns."""
    for row in read_lines(data / "summ" / "qmsum_val.jsonl"):
        turns = [_turn(turn) for turn in row["meeting_transcripts"]]
        for asked in row["specific_query_list"]:
            spans = [(int(a), int(b)) for a, b in asked["relevant_text_span"]]
            chosen = _stretch(turns, spans[0] if spans else (0, 0), asked["query"])
            gold = [k for a, b in spans for k in range(a, b + 1) if k in chosen]
            yield Item(
                set="qmsum",
                question=asked["query"],
                documents=("\n".join(turns[k] for k in chosen),),
                answers=(asked["answer"],),
                gold=tuple(turns[k] for k in gold),
            )


SETS = {
    "nq": natural_questions,
    "hotpot": hotpot,
    "gsm8k": gsm8k,
    "qmsum": qmsum,
    "xquad": xquad,
}
HELD_OUT = {"nq": 400, "hotpot": 100, "gsm8k": 400, "qmsum": 200, "xquad": 0}
"""How many items of each set settings are never chosen on."""


def _among(
    gold: int,
    question: str,
    answers: tuple[str, ...],
    passages: Sequence[str],
    near: Any,
    place: int | None = None,
) -> Item:
    """The gold passage among the nearest others."""
    others = [k for k in near[:400] if k != gold and not holds(passages[k], answers)]
    chosen = [passages[k] for k in others[: PASSAGES - 1]]
    chosen.insert(POSITIONS[(gold if place is None else place) % len(POSITIONS)], passages[gold])
    sentences = re.split(r"(?<=[.!?])\s+|\n", passages[gold])
    return Item(
        set="nq" if place is None else "xquad",
        question=question,
        documents=tuple(chosen),
        answers=answers,
        gold=tuple(one for one in sentences if holds(one, answers))[:1],
    )


@cache
def _nearest(questions: tuple[str, ...], passages: tuple[str, ...]) -> Any:
    """For each question the passages, the nearest first, by all-MiniLM-L6-v2."""
    from sentence_transformers import SentenceTransformer

    from tersely.models import home, resolve

    key = zlib.crc32("\0".join((*questions, *passages)).encode())
    kept = home() / "benchmarks" / f"nearest-{key:08x}.npy"
    if kept.is_file():
        return np.load(kept)
    encoder = SentenceTransformer(str(resolve("minilm")), device="cpu")
    asked, told = (
        encoder.encode(list(texts), batch_size=32, normalize_embeddings=True)
        for texts in (questions, passages)
    )
    order = np.argsort(-(asked @ told.T), axis=1, kind="stable")[:, :400].astype(np.int32)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.save(kept, order)
    return order


def _worked(answer: str) -> str:
    """A solution without the calculator's marks, and its result as the last line."""
    told = re.sub(r"<<[^>]*>>", "", answer)
    return re.sub(r"\n#### (.*)$", r"\nThe answer is \1.", told)


def _turn(turn: Any) -> str:
    said = re.sub(r"\s*\{\w+\}", "", turn["content"])
    return f"{turn['speaker']}: {' '.join(said.split())}"


def _stretch(turns: Sequence[str], around: tuple[int, int], seed: str) -> range:
    """Neighbouring turns that hold those asked about, at a place drawn from the question."""
    first = last = min(around[0], len(turns) - 1)
    size = len(turns[first])
    draw = np.random.default_rng(zlib.crc32(seed.encode()))
    while size < MEETING and (first > 0 or last + 1 < len(turns)):
        onward = last + 1 < len(turns) and (first == 0 or last < around[1] or draw.random() < 0.5)
        first, last = (first, last + 1) if onward else (first - 1, last)
        size += len(turns[last if onward else first]) + 1
    return range(first, last + 1)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
