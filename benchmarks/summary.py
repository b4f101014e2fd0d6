"""Summaries of meetings beside their references, and what a small model invents in its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import regex

from benchmarks.harness import Options, Row, mean_interval, options, read_lines, save, show
from tersely.compressors.sentences import vectors
from tersely.compressors.summarise import Summarise
from tersely.contracts import Context, Request
from tersely.faithful import faithful
from tersely.middleware.drive import drive
from tersely.prompt import Prompt, Segment
from tersely.registry import backend, stage
from tersely.summaries import Summary
from tersely.tokens import counter
from tersely.units import split

RATIOS = (0.1, 0.2)
QUESTIONS = 3
"""Of each meeting: so many questions, the last of them about all of it."""

STAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "extractive (default)": ("extractive", {}),
    "extractive, graph": ("extractive", {"centrality": "graph"}),
    "extractive, by words": ("extractive", {"encoder": ""}),
    "query": ("query", {}),
    "truncate (lead)": ("truncate", {"unit": "sentence"}),
    "random": ("random", {"unit": "sentence"}),
    "none": ("none", {}),
}
OURS = "extractive (default)"
LLMLINGUA = "llmlingua recipe"
TEXTRANK = "TextRank (sumy)"
FEW = 2
"""Items for what takes minutes for one."""

MEETINGS = 10
ANSWERS = 8
"""Meetings in all, and those that the model summarises the beginning of."""

STRETCH = 400
"""Words of a meeting that the model summarises."""

NUMBER = regex.compile(r"\d+(?:[.,]\d+)*")
NAME = regex.compile(r"(?<=[\p{Ll},;)]\s)\p{Lu}[\p{L}\p{N}]+")


@dataclass(frozen=True, slots=True)
class Item:
    """A meeting, a question about it, and what people answered."""

    meeting: str
    question: str
    answer: str


def items(data: Path, quick: bool) -> list[Item]:
    """Questions about every second meeting: settings were chosen on the others."""
    rows = list(read_lines(data / "summ" / "qmsum_val.jsonl"))[1::2]
    return [one for row in rows[: 2 if quick else MEETINGS] for one in _asked(row)]


def _asked(row: Mapping[str, Any]) -> Iterator[Item]:
    turns = row["meeting_transcripts"]
    text = "\n".join(f"{turn['speaker']}: {turn['content'].strip()}" for turn in turns)
    asked = [*row["specific_query_list"][: QUESTIONS - 1], *row["general_query_list"][:1]]
    for one in asked:
        yield Item(text, one["query"], one["answer"])


def main(argv: Sequence[str] | None = None) -> None:
    """Print two tables and write `summary.json`."""
    given = options(__doc__ or "", argv)
    if given.data is None:
        print("summary: needs --data, a folder with summ/qmsum_val.jsonl")
        return
    logging.disable(logging.INFO)  # rouge-score's logger wakes others
    chosen = items(given.data, given.quick)
    table, paired = _extracts(chosen)
    show("QMSum: summaries beside the references", table)
    show(f"{OURS}, less the other, item by item", paired)
    invented = _invented(given, chosen)
    show("What SmolLM2 says that the text does not", invented)
    save(
        "summary",
        given,
        {
            "items": len(chosen),
            "meetings": len({one.meeting for one in chosen}),
            "table": table,
            "paired": paired,
            "invented": invented,
        },
    )


def _extracts(chosen: Sequence[Item]) -> tuple[list[Row], list[Row]]:
    table: list[Row] = []
    paired: list[Row] = []
    for ratio in RATIOS:
        measured: dict[str, list[dict[str, float]]] = {}
        for name, make in _methods().items():
            some = chosen[::QUESTIONS][:FEW] if name == LLMLINGUA else chosen
            measured[name] = [_measured(make, one, ratio) for one in some]
            table.append(_row(name, ratio, measured[name]))
            show(f"{ratio:.0%}", table[-1:])
        for name, found in measured.items():
            if name not in (OURS, "none"):
                ours = measured[OURS]
                ours = ours[::QUESTIONS][:FEW] if name == LLMLINGUA else ours
                paired.append(_beside(name, ratio, ours, found))
    return table, paired


Method = Callable[[Item, float], str]


def _methods() -> dict[str, Method]:
    made: dict[str, Method] = {name: _by_stage(*one) for name, one in STAGES.items()}
    return {**made, TEXTRANK: _textrank, LLMLINGUA: _by_stage("llmlingua", {})}


def _by_stage(name: str, settings: Mapping[str, Any]) -> Method:
    one = stage(name, **settings)

    def method(item: Item, ratio: float) -> str:
        prompt = Prompt((Segment(text=item.meeting),), question=item.question)
        context = Context(count=counter("gpt-4o"))
        limit = int(context.tokens(prompt) * ratio)
        return one(prompt, context.within(limit)).text

    return method


def _textrank(item: Item, ratio: float) -> str:
    """The best sentences by sumy's ranking, as many as fit, in their order."""
    texts, ranks = _ranked(item.meeting)
    count = counter("gpt-4o")
    left = int(count(item.meeting) * ratio)
    kept: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: -ranks[i]):
        size = count(texts[i]) + 1
        if size <= left:
            kept.append(i)
            left -= size
    return "\n".join(texts[i] for i in sorted(kept))


@cache
def _ranked(meeting: str) -> tuple[list[str], list[float]]:
    from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
    from sumy.summarizers.text_rank import TextRankSummarizer

    class Words:
        def to_words(self, text: str) -> tuple[str, ...]:
            return tuple(regex.findall(r"\p{L}+", text))

    texts = split(meeting, "sentence").texts
    sentences = [Sentence(text, Words()) for text in texts]
    ranking = TextRankSummarizer()
    ranking.stop_words = ("the", "a", "an", "of", "to", "and", "in", "is", "it", "that", "i", "you")
    found = ranking.rate_sentences(ObjectDocumentModel([Paragraph(sentences)]))
    return texts, [found[one] for one in sentences]


def _measured(make: Method, item: Item, ratio: float) -> dict[str, float]:
    started = perf_counter()
    made = make(item, ratio)
    seconds = perf_counter() - started
    count = counter("gpt-4o")
    scores = _rouge().score(item.answer, made)
    return {
        "rouge1": scores["rouge1"].recall,
        "rouge2": scores["rouge2"].recall,
        "rougeL": scores["rougeL"].recall,
        "rougeL_f": scores["rougeL"].fmeasure,
        "similarity": _similarity(item.answer, made),
        "kept": count(made) / count(item.meeting),
        "seconds": seconds,
    }


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


def _similarity(answer: str, made: str) -> float:
    """How near each sentence of the reference comes to one of the summary: the mean cosine."""
    said = split(answer, "sentence").texts
    kept = split(made, "sentence").texts
    rows = vectors([*said, *kept], "minilm", Context(count=counter("gpt-4o")))
    if not kept:
        return 0.0
    return float((rows[: len(said)] @ rows[len(said) :].T).max(axis=1).mean())


def _row(name: str, ratio: float, found: Sequence[Mapping[str, float]]) -> Row:
    row: dict[str, Any] = {"method": name, "ratio": ratio, "n": len(found)}
    for key in ("rouge1", "rouge2", "rougeL", "rougeL_f", "similarity"):
        row[key] = mean_interval([one[key] for one in found])
    row["kept"] = float(np.mean([one["kept"] for one in found]))
    row["seconds"] = float(np.median([one["seconds"] for one in found]))
    return row


def _beside(
    name: str, ratio: float, ours: Sequence[Mapping[str, float]], theirs: Sequence[Any]
) -> Row:
    row: dict[str, Any] = {"than": name, "ratio": ratio, "n": len(theirs)}
    for key in ("rouge1", "rouge2", "rougeL", "similarity"):
        pairs = zip(ours, theirs, strict=True)
        row[key] = mean_interval([a[key] - b[key] for a, b in pairs])
    return row


def _invented(given: Options, chosen: Sequence[Item]) -> list[Row]:
    """The same answers with the guard off and on, so that nothing but the guard differs."""
    ours = backend("local", model="smollm2")
    plan = Summarise(encoder="", ratio=0.3, retries=0, guard=False)
    context = Context(count=counter("gpt-4o"), backend=ours)
    off: list[tuple[str, str]] = []
    on: list[tuple[str, str]] = []
    model = checks = 0.0
    for item in chosen[::QUESTIONS][:ANSWERS]:
        text = " ".join(item.meeting.split(" ")[:STRETCH])
        request = Request(prompt=Prompt((Segment(text=text),)))
        started = perf_counter()
        made = drive(plan.steps(request, context), ours)
        model += perf_counter() - started
        assert isinstance(made, Summary)
        started = perf_counter()
        kept = faithful(made.text, text).text
        checks += perf_counter() - started
        off.append((made.text, text))
        on.append((kept, text))
    share = checks / model
    return [_foreign("off", off, 0.0), _foreign("on", on, share)]


def _foreign(guard: str, said: Sequence[tuple[str, str]], share: float) -> Row:
    """Numbers and names that the source lacks, by a rule of its own: as plain as can be."""
    stated = foreign = 0
    for text, source in said:
        plain = source.casefold()
        words = set(regex.findall(r"[\p{L}\p{N}]+", plain))
        numbers, names = NUMBER.findall(text), NAME.findall(text)
        stated += len(numbers) + len(names)
        foreign += sum(one not in NUMBER.findall(source) for one in numbers)
        foreign += sum(one.casefold() not in words for one in names)
    return {
        "guard": guard,
        "n": len(said),
        "numbers and names": stated,
        "not in the text": foreign,
        "summaries with one": sum(_any(text, source) for text, source in said),
        "words kept": sum(len(text.split()) for text, _ in said),
        "time beside the model": share,
    }


def _any(text: str, source: str) -> bool:
    words = set(regex.findall(r"[\p{L}\p{N}]+", source.casefold()))
    numbers = set(NUMBER.findall(source))
    return any(one not in numbers for one in NUMBER.findall(text)) or any(
        one.casefold() not in words for one in NAME.findall(text)
    )


if __name__ == "__main__":
    main()
