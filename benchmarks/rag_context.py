"""Retrieval in a prompt's own context: which answers are still there, and what it costs.

python -m benchmarks.rag_context --data DIR [--quick] [--steps FILE.json]

Settings were chosen on the dev parts of Natural Questions (928 items) and HotpotQA (26); only the
test parts are shown. Of questions in several steps with long contexts there is one set, on which
the coarse path was chosen as well: read its rows as what it was made for. `--steps` takes such
questions of several steps with long contexts, as published with CacheBlend (MuSiQue): a list of
{"question", "answers", "ctxs": [{"title", "text"}]}. MiniLM is left out there: the texts are long.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks.harness import (
    RESULTS,
    Cost,
    Options,
    in_turns,
    mean_interval,
    median_interval,
    save,
    show,
    times,
)
from benchmarks.pruning_sets import Item, holds, items
from tersely.contracts import Context
from tersely.lexical import relevance
from tersely.prompt import Prompt, Segment
from tersely.rag.embedding import as_embedder
from tersely.rag.fusion import weighted
from tersely.rag.retrieve import Retrieve
from tersely.registry import stage
from tersely.retrieval import Embedder, Vectors
from tersely.select import Part, pack
from tersely.tokens import counter
from tersely.units import split

READER = "gpt-4o"
"""Whose tokens a budget is in."""

COUNT, QUICK = 400, 6
COSTED = 16
"""Items on which cost is measured, of Natural Questions: with nothing remembered from before."""

RATIOS = {"nq": (0.1, 0.25, 0.5), "hotpot": (0.1, 0.25, 0.4, 0.5), "steps": (0.1, 0.25, 0.4, 0.5)}

Method = Callable[[Item, Context], Prompt]


class Remembering:
    """An embedder that reads each text once: what is kept does not depend on when it was read."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.key, self.width = embedder.key, embedder.width
        self.known: dict[str, Vectors] = {}

    def documents(self, texts: Sequence[str], /) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known.update(zip(new, self.embedder.documents(new), strict=True))
        return np.stack([self.known[text] for text in texts])

    def queries(self, texts: Sequence[str], /) -> Vectors:
        return self.embedder.queries(texts)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of public evaluation sets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--quick", action="store_true", help="a small part, to see that it runs")
    parser.add_argument("--steps", type=Path, help="questions of several steps, as JSON")
    given = parser.parse_args(argv)
    if given.data is None:
        print("rag_context: needs the folder of public evaluation sets: --data DIR")
        return
    asked = Options(given.data, given.out, given.quick)
    count = QUICK if given.quick else COUNT
    sets = {name: items(name, given.data, "test", count) for name in ("nq", "hotpot")}
    if given.steps:
        sets["steps"] = [one for one in in_steps(given.steps) if holds(one.context, one.answers)]
        sets["steps"] = sets["steps"][:count]
    embedders = {name: _embedder(name) for name in ("static", MINILM)}
    quick = methods(embedders)
    fast = {name: make for name, make in quick.items() if "MiniLM" not in name}
    kept = [
        row
        for name, some in sets.items()
        for row in measured(name, some, fast if name == "steps" else quick)
    ]
    gates = {
        "words alone": "",
        "static": embedders["static"],
        "MiniLM": Remembering(embedders[MINILM]),
    }
    gate = [judged(name, source, sets["nq"]) for name, source in gates.items()]
    costs = costed(sets["nq"][: QUICK if given.quick else COSTED], methods(embedders, plain=True))
    show("share of prompts that still hold what the answer needs", [_shown(row) for row in kept])
    show("off-topic context dropped, answerable prompts kept", gate)
    show("what a request costs, at a quarter of 20 passages", costs)
    results = {"counted as": READER, "kept": kept, "gate": gate, "costs": costs}
    save("rag_context", asked, results)


MINILM = "sentence_transformers"


def methods(embedders: Mapping[str, Embedder], *, plain: bool = False) -> dict[str, Method]:
    """What is compared. `plain`: nothing is remembered, for measuring what it costs."""
    static, read = embedders["static"], embedders[MINILM]
    minilm: Any = read if plain else Remembering(read)
    rows: dict[str, Method] = {
        "none": lambda item, context: Prompt(()),
        "truncate": _by(stage("truncate")),
        "random": _by(stage("random")),
        "BM25 documents": _by(stage("lexical", unit="paragraph", document=0, fill=None)),
        "static hybrid documents": _documents(static, 0.5),
        "MiniLM documents": _documents(minilm, 1.0),
    }
    for name, source in (("words alone", ""), ("static", static), ("MiniLM", minilm)):
        rows[f"retrieve, {name}"] = _by(Retrieve(embedder=source))
        rows[f"retrieve, {name}, gate open"] = _by(Retrieve(embedder=source, gate=False))
    return rows


def measured(
    name: str, some: Sequence[Item], rows: Mapping[str, Method]
) -> Iterator[dict[str, Any]]:
    """Each method on each item at each ratio."""
    found: dict[tuple[str, float], list[dict[str, float]]] = {}
    for item in track(some, description=name):
        for ratio in RATIOS[name]:
            for method, make in rows.items():
                found.setdefault((method, ratio), []).append(_tried(make, item, ratio))
    for method in rows:
        for ratio in RATIOS[name]:
            tries = found[method, ratio]
            yield {"set": name, "method": method, "ratio": ratio, "n": len(tries)} | {
                key: mean_interval([one[key] for one in tries]) for key in tries[0]
            }


def _tried(make: Method, item: Item, ratio: float) -> dict[str, float]:
    """What one method keeps of one item; `over` is how often the budget is not kept."""
    context = _context(item, ratio)
    made = make(item, context).text
    told = {"answer": float(holds(made, item.answers))}
    if item.set == "hotpot":
        both = [one for one in item.documents if any(gold in one for gold in item.gold)]
        told["paragraphs"] = float(all(_something_of(one, made) for one in both))
        told["sentences"] = float(all(gold in made for gold in item.gold))
    size, limit = context.count(made), context.limit or 1
    return told | {"used": size / max(limit, 1), "over": float(size > limit)}


def costed(some: Sequence[Item], rows: Mapping[str, Method]) -> list[dict[str, Any]]:
    """CPU milliseconds of a request, and how many times what BM25 over whole documents takes.

    All methods take turns on each item, after one that warms up.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in rows}
    for at, item in enumerate([some[0], *some]):
        work = {name: _work(make, item) for name, make in rows.items()}
        for name, spent in in_turns(work, dict.fromkeys(work, 1)).items():
            costs[name] += spent if at else []
    unit = costs["BM25 documents"]
    return [
        {
            "method": name,
            "n": len(spent),
            "ms": median_interval([cpu * 1000 for cpu, _ in spent]),
            "times BM25": times(spent, unit, 0),
        }
        for name, spent in costs.items()
        if name != "none"
    ]


def _work(make: Method, item: Item) -> Callable[[], object]:
    return lambda: make(item, _context(item, 0.25))


def _context(item: Item, ratio: float) -> Context:
    """A fresh context, that has counted nothing yet, with its limit."""
    count = counter(READER)
    return Context(count=count, limit=int(count(item.context) * ratio))


def judged(name: str, source: Any, some: Sequence[Item]) -> dict[str, Any]:
    """How often the gate drops the context of the question, and that of another question."""
    gate = Retrieve(embedder=source)
    turned = [*some[len(some) // 2 :], *some[: len(some) // 2]]
    own = [_dropped(gate, item) for item in some]
    others = [
        _dropped(gate, replace(item, question=other.question))
        for item, other in zip(some, turned, strict=True)
    ]
    return {
        "embedder": name,
        "n": len(some),
        "kept": mean_interval([1 - one for one in own]),
        "dropped": mean_interval(others),
    }


def in_steps(path: Path) -> Iterator[Item]:
    """Questions of several steps: contexts of long passages, in the order they were found in."""
    for row in json.loads(path.read_text(encoding="utf-8")):
        told = [f"{one['title']}\n{one['text']}".strip() for one in row["ctxs"]]
        yield Item(
            set="steps",
            question=row["question"],
            documents=tuple(told),
            answers=tuple(row["answers"]),
        )


def _dropped(gate: Retrieve, item: Item) -> float:
    context = Context(count=counter(READER))
    return float(gate.explained(_prompt(item), context).verdict.action == "drop")


def _prompt(item: Item) -> Prompt:
    return Prompt((Segment(text=item.context),), question=item.question)


def _by(method: Any) -> Method:
    return lambda item, context: method(_prompt(item), context)


def _documents(embedder: Embedder, dense: float) -> Method:
    """Whole documents by their cosine, and by BM25 beside it, the best that fit."""

    def make(item: Item, context: Context) -> Prompt:
        units = split(item.context, "paragraph")
        near = embedder.documents(units.texts) @ embedder.queries([item.question])[0]
        words = relevance(units.texts, item.question)
        values = weighted([(dense, near.astype(np.float64)), (1 - dense, words)])
        part = Part(units=units, values=values, ranks=np.zeros(len(units), np.int64))
        return pack(_prompt(item), {0: part}, context)

    return make


def _embedder(name: str) -> Embedder:
    found = as_embedder(name)
    if found is None:
        raise ValueError(name)
    return found


def _something_of(document: str, text: str) -> bool:
    """Whether a sentence of the document, beside its title, stands in the text."""
    _, _, rest = document.partition("\n")
    return any(one in text for one in split(rest, "sentence").texts if len(one) > 15)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """What fits on a line of the terminal."""
    told = {key: row[key] for key in ("set", "method", "ratio", "n", "answer")}
    told["paragraphs"] = row["paragraphs"][0] if "paragraphs" in row else ""
    return told | {"used": row["used"][0]}


if __name__ == "__main__":
    main()
