"""Retrieval: what is found among the first, beside words alone, meaning alone, and peers.

All rows search the same texts with the same embedding model; rows of ours and of LangChain the
same pieces as well. Fusion and weights were chosen on one half of the questions, and this is the
other half. The first named number of a set decides; the differences are paired.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Options, mean_interval, options, save, show
from benchmarks.rag_search_peers import MANY, Search, peers
from benchmarks.rag_search_sets import (
    SETS,
    Asked,
    Library,
    Place,
    Split,
    covered,
    overlap,
    recall_at,
    reciprocal_rank,
)
from tersely.rag import FaissStore, Retriever
from tersely.rag.documents import pieces
from tersely.rag.embedding_cache import CachedEmbedder
from tersely.registry import embedder
from tersely.retrieval import Embedder
from tersely.tokens import counter

SIZE = 128
ROOM = (1000, 2000, 4000)
"""Characters that are looked at where what counts is characters: some 220, 440, 880 tokens."""

PACKAGES = ("langchain-core", "llama-index-core", "faiss-cpu", "sentence-transformers", "wordllama")

OURS = {"static": "ours, static", "minilm": "ours, MiniLM"}
Measure = Callable[[Asked, Sequence[Place]], float]

MEASURES: Mapping[str, Mapping[str, Measure]] = {
    "source": {
        "MRR": reciprocal_rank,
        "R@1": lambda one, found: recall_at(1, one, found),
        "R@5": lambda one, found: recall_at(5, one, found),
        "R@10": lambda one, found: recall_at(10, one, found),
    },
    "characters": {
        "held in 2000": lambda one, found: covered(one, within(found, ROOM[1])),
        "held in 1000": lambda one, found: covered(one, within(found, ROOM[0])),
        "held in 4000": lambda one, found: covered(one, within(found, ROOM[2])),
        "IoU of 5": lambda one, found: overlap(one, found[:5]),
    },
}


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    if given.data is None:
        show("retrieval", [{"left out": "it takes --data DIR"}])
        return
    results = run(given, given.data, "test")
    for name, rows in results["sets"].items():
        show(name, rows)
    show("ours minus each, on the number that decides", results["differences"])
    save("rag_search", given, results)


def run(given: Options, data: Path, split: Split) -> dict[str, Any]:
    """Every set by every row."""
    models = embedders()
    sets: dict[str, Any] = {}
    deciding: dict[str, dict[str, list[float]]] = {}
    for name, opened in SETS.items():
        library = opened(data)
        asked = library.half(split, 20 if given.quick else None)
        found = searched(library, asked, models)
        measures = MEASURES[library.by]
        sets[name] = [row_of(method, asked, found[method], measures) for method in found]
        first = next(iter(measures.values()))
        deciding[name] = {
            method: [first(one, places) for one, places in zip(asked, rows, strict=True)]
            for method, rows in found.items()
        }
    about = {
        "split": split,
        "pieces": SIZE,
        "embedders": {name: model.key for name, model in models.items()},
        "peers": {name: version(name) for name in PACKAGES},
    }
    return {"about": about, "sets": sets, "differences": differences(deciding)}


def embedders() -> dict[str, Embedder]:
    """Both models; vectors are kept, so that a second run costs nothing."""
    from tersely.models import home

    path = home() / "benchmarks" / "vectors.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {"static": embedder("static"), "minilm": embedder("sentence_transformers")}
    return {name: CachedEmbedder(one, path, exact=True) for name, one in made.items()}


def searched(
    library: Library, asked: Sequence[Asked], models: Mapping[str, Embedder]
) -> dict[str, list[list[Place]]]:
    """What each row finds for each question."""
    from langchain_core.documents import Document

    documents = [Document(text, metadata={"source": s}) for s, text in library.texts.items()]
    made = list(pieces(documents, size=SIZE, count=counter("gpt-4o")))
    places = [(p.metadata["source"], p.metadata["start"], p.metadata["end"]) for p in made]
    texts = [piece.page_content for piece in made]
    for model in models.values():
        model.queries([one.question for one in asked])
    with tempfile.TemporaryDirectory() as folder:
        methods = {"random": _random(places)}
        for name, model in models.items():
            store = FaissStore(Path(folder) / name, embedder=model)
            store.add_documents(made)
            methods |= _ours(store, name)
        methods |= peers(library, texts, places, models["minilm"])
        return {name: [search(one.question) for one in asked] for name, search in methods.items()}


def _ours(store: FaissStore, name: str) -> dict[str, Search]:
    """Our rows over one store."""
    shown = {"static": "static", "minilm": "MiniLM"}[name]

    def placed(ids: Sequence[str]) -> list[Place]:
        return [(one.source, one.start, one.end) for one in store.passages(ids)]

    def words(question: str) -> list[Place]:
        return placed([i for i, _ in store.lexical(question, MANY)])

    def dense(question: str) -> list[Place]:
        model: Any = store.embedder
        return placed([i for i, _ in store.dense(model.queries([question])[0], MANY)])

    def by(retriever: Retriever) -> Search:
        return lambda question: [
            (one.source, one.start, one.end) for one in retriever.search(question, MANY // 2)
        ]

    return {
        "BM25": words,
        f"{shown} alone": dense,
        OURS[name]: by(Retriever(store)),
        f"ours, {shown}, by ranks": by(Retriever(store, fusion="rrf")),
    }


def _random(places: Sequence[Place]) -> Search:
    draw = np.random.default_rng(5)
    return lambda _: [places[i] for i in draw.permutation(len(places))[:MANY].tolist()]


def row_of(
    method: str,
    asked: Sequence[Asked],
    found: Sequence[Sequence[Place]],
    measures: Mapping[str, Measure],
) -> dict[str, Any]:
    """One line of a set's table."""
    pairs = list(zip(asked, found, strict=True))
    shown = {name: mean_interval([m(*pair) for pair in pairs]) for name, m in measures.items()}
    return {"row": method, "n": len(pairs), **shown}


def differences(deciding: Mapping[str, Mapping[str, Sequence[float]]]) -> list[dict[str, Any]]:
    """Ours minus every other row, for each set and for their mean."""
    others = [name for name in next(iter(deciding.values())) if name not in OURS.values()]
    return [
        {
            "ours": ours,
            "minus": other,
            **{name: _minus(deciding[name], ours, other) for name in deciding},
            "mean of sets": _mean_minus(deciding, ours, other),
        }
        for ours in OURS.values()
        for other in others
    ]


def _minus(
    rows: Mapping[str, Sequence[float]], ours: str, other: str
) -> tuple[float, float, float]:
    return mean_interval([a - b for a, b in zip(rows[ours], rows[other], strict=True)])


def _mean_minus(
    deciding: Mapping[str, Mapping[str, Sequence[float]]], ours: str, other: str
) -> tuple[float, float, float]:
    """The mean over the sets, each with the same weight; questions are drawn within sets."""
    drawn = []
    for rows in deciding.values():
        gaps = np.array(rows[ours]) - np.array(rows[other])
        picks = np.random.default_rng(0).integers(0, len(gaps), (2000, len(gaps)))
        drawn.append(np.append(gaps.mean(), gaps[picks].mean(axis=1)))
    means = np.mean(drawn, axis=0)
    low, high = np.percentile(means[1:], [2.5, 97.5])
    return float(means[0]), float(low), float(high)


def within(found: Sequence[Place], room: int) -> list[Place]:
    """The first characters of what was found, each counted once."""
    kept: list[Place] = []
    for source, start, end in found:
        if room <= 0:
            break
        kept.append((source, start, min(end, start + room)))
        room -= end - start
    return kept


if __name__ == "__main__":
    main()
