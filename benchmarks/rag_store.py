"""What a store costs beside embedding: adding, memory, and search among very many passages.

python -m benchmarks.rag_store [--data DIR] [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Options, in_turns, long_texts, options, save, show, times
from tersely.models import at_hand
from tersely.rag.store import FaissStore
from tersely.retrieval import Embedder, Vectors
from tersely.units import split

CHUNKS, CHUNKS_QUICK = 100_000, 4_000
CHARACTERS = 560
"""About 128 tokens of English."""

ROWS, ROWS_QUICK = 1_000_000, 20_000
WIDTH = 256
TOPICS = 2_000
FEWER_ROWS = 200_001
"""Without topics no index can leave much out: what real texts are like lies between."""

SPECTRUM = -0.6
"""Variances fall with the number of the dimension to this power, as those of real ones do."""

QUESTIONS = 200
BEST = 10


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    adding = [added_apart(given, name) for name in ("none", "static")]
    if at_hand("minilm"):
        adding.append(with_minilm(given, adding[1]))
    show("Adding chunks of about 128 tokens; the rest is all but embedding", adding)
    asking = asked(given)
    show("One question among the chunks; the rest is all but embedding and search", asking)
    searching = []
    for rows, topics in ((ROWS, TOPICS), (FEWER_ROWS, 1)):
        found, about = searched(given, ROWS_QUICK if given.quick else rows, topics)
        show(f"Search among {about['rows']:,} synthetic vectors, {topics:,} topics", found)
        searching.append({"synthetic": about, "rows": found})
    save("rag_store", given, {"adding": adding, "asking": asking, "searching": searching})


@dataclass
class Timed:
    """An embedder that notes the CPU seconds it takes."""

    inner: Embedder
    seconds: float = 0.0
    key: str = field(init=False)
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.key, self.width = self.inner.key, self.inner.width

    def documents(self, texts: Sequence[str], /) -> Vectors:
        return self._timed(self.inner.documents, texts)

    def queries(self, texts: Sequence[str], /) -> Vectors:
        return self._timed(self.inner.queries, texts)

    def _timed(self, work: Any, texts: Sequence[str]) -> Vectors:
        start = time.process_time()
        try:
            return work(texts)  # type: ignore[no-any-return]
        finally:
            self.seconds += time.process_time() - start


def chunks(given: Options, count: int) -> Iterator[str]:
    """So many different chunks of real sentences, made one by one."""
    texts = long_texts(given)
    sentences = [one for text in texts for one in _sentences(text)]
    random = np.random.default_rng(0)
    for number in range(count):
        made = f"{number}:"
        while len(made) < CHARACTERS:
            made += " " + sentences[int(random.integers(len(sentences)))]
        yield made[:CHARACTERS]


def _sentences(text: str) -> list[str]:
    units = split(text, "sentence")
    return [text[a:b] for a, b in zip(units.starts, units.ends, strict=True)]


def added_apart(given: Options, name: str) -> dict[str, Any]:
    """Adding in a process of its own, so that its memory can be told."""
    command = [sys.executable, "-m", "benchmarks.rag_store_adding", name]
    command += [str(CHUNKS_QUICK if given.quick else CHUNKS), str(given.data or "")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def with_minilm(given: Options, other: dict[str, Any]) -> dict[str, Any]:
    """What adding costs with a model that takes its time: of that only a part is embedded."""
    from tersely.rag.embedding import as_embedder

    minilm, some = as_embedder("minilm"), list(chunks(given, 64))
    assert minilm is not None
    minilm.documents(some[:2])
    taken = _seconds(lambda: minilm.documents(some)) / len(some) * 1e6
    rest = other["rest us/chunk"]
    row = {"embedder": "minilm", "embedding us/chunk": taken, "rest, share": rest / taken}
    return {**other, **row}


def asked(given: Options) -> list[dict[str, Any]]:
    """Milliseconds of CPU of one question, apart by what they are spent on."""
    from tersely.rag.embedding import as_embedder

    count = CHUNKS_QUICK if given.quick else CHUNKS
    questions = list(chunks(given, 50))
    inner = as_embedder("static")
    if inner is None:
        return []
    timed = Timed(inner)
    store = FaissStore(embedder=timed)
    store.add_texts(chunks(given, count))
    store.similarity_search("once, to make the index")
    timed.seconds = 0.0
    whole = _seconds(lambda: [store.similarity_search(one, BEST) for one in questions])
    embedding = timed.seconds
    vectors = inner.queries(questions)
    with store.reading() as now:
        assert now.view is not None
        index = now.view.segments
        search = _seconds(lambda: [one.search(v, BEST) for v in vectors for one in index])
    rest = whole - embedding - search
    each = 1000 / len(questions)
    rows = [_question(store, "static", embedding * each, search * each, rest * each)]
    if at_hand("minilm"):
        minilm = as_embedder("minilm")
        assert minilm is not None
        short = [one[:60] for one in questions]
        minilm.queries(short[:1])
        taken = _seconds(lambda: [minilm.queries([one]) for one in short])
        rows.append(_question(store, "minilm", taken * each, search * each, rest * each))
    return rows


def _question(
    store: FaissStore, name: str, embedding: float, search: float, rest: float
) -> dict[str, Any]:
    return {
        "embedder": name,
        "chunks": store.stats().passages,
        "embedding ms": embedding,
        "search ms": search,
        "rest ms": rest,
        "rest, share": rest / (embedding + search),
    }


def _seconds(work: Any) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@dataclass(frozen=True)
class Synthetic:
    """Vectors by number: half of the variance lies between topics, half within them."""

    topics: int
    key: str = "synthetic"
    width: int = WIDTH

    def documents(self, texts: Sequence[str], /) -> Vectors:
        return self.drawn([int(text) for text in texts])

    def queries(self, texts: Sequence[str], /) -> Vectors:
        return self.documents(texts)

    def drawn(self, numbers: Sequence[int]) -> Vectors:
        scales = np.arange(1, WIDTH + 1) ** (SPECTRUM / 2)
        topics = np.random.default_rng(0).standard_normal((self.topics, WIDTH))
        random = np.random.default_rng(numbers[0] + 1)
        places = random.integers(self.topics, size=len(numbers))
        rows = (topics[places] + random.standard_normal((len(numbers), WIDTH))) * scales
        made: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return made


def searched(
    given: Options, count: int, topics: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A store of very many passages beside faiss's Flat: time by turns, recall of the best 10."""
    made = Synthetic(topics)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"save_every": 0, **({"kind": "ivf"} if given.quick else {})}
        store = FaissStore(folder, embedder=made, settings=settings)
        start = time.process_time()
        store.add_texts((str(i) for i in range(count)), batch_size=4096)
        added = time.process_time() - start
        exact = FaissStore(folder, embedder=made, settings={"kind": "flat"})
        queries = made.drawn(range(count + 1, count + 1 + QUESTIONS))
        exact.dense(queries[0], BEST)
        start = time.process_time()
        store.save()
        built = time.process_time() - start
        store.dense(queries[0], BEST)
        rows = compared(store, exact, queries, count)
        view = store.shelf._view
        assert view is not None
        about = {
            "rows": count,
            "width": WIDTH,
            "topics": topics,
            "spectrum": SPECTRUM,
            "added s": added,
            "index made s": built,
            "kind": view.segments[0].kind,
            "lists": view.segments[0].index.nlist,
            "looked at": view.segments[0].effort,
        }
    return rows, about


def compared(
    store: FaissStore, exact: FaissStore, queries: NDArray[np.float32], count: int
) -> list[dict[str, Any]]:
    import faiss

    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(WIDTH)
    ids: list[str] = []
    with store.reading() as now:
        for name, data in now.connection.execute(
            "SELECT id, data FROM chunks JOIN vectors USING (row) ORDER BY row"
        ):
            ids.append(name)
            if len(ids) % 50_000 == 1:
                block = []
            block.append(np.frombuffer(data, np.float16))
            if len(ids) % 50_000 == 0 or len(ids) == count:
                flat.add(np.array(block, np.float32))
    _, true = flat.search(queries, BEST)
    right = [{ids[i] for i in row} for row in true]
    done: dict[str, int] = {}

    def next_one(name: str) -> NDArray[np.float32]:
        done[name] = done.get(name, -1) + 1
        query: NDArray[np.float32] = queries[done[name] % QUESTIONS]
        return query

    works = {
        "faiss Flat, float32": lambda: flat.search(next_one("flat")[None], BEST),
        "store, exact": lambda: exact.dense(next_one("exact"), BEST),
        "store": lambda: store.dense(next_one("store"), BEST),
    }
    costs = in_turns(works, dict.fromkeys(works, 60))
    unit = costs["faiss Flat, float32"]
    found = {"store, exact": exact, "store": store}
    return [
        {
            "index": name,
            "CPU ms (median)": float(np.median([cpu for cpu, _ in costs[name]]) * 1000),
            "CPU, Flat = 1": times(costs[name], unit, 0),
            "recall@10": _recall(found[name], queries, right) if name in found else 1.0,
        }
        for name in works
    ]


def _recall(store: FaissStore, queries: NDArray[np.float32], right: list[set[str]]) -> float:
    found = [{name for name, _ in store.dense(query, BEST)} for query in queries]
    return float(np.mean([len(a & b) / BEST for a, b in zip(found, right, strict=True)]))


if __name__ == "__main__":
    main()
