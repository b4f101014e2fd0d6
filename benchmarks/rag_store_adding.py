"""Add chunks to a store and tell, as JSON, what it took: run by `rag_store` as a process."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import RESULTS, Options
from benchmarks.rag_store import Timed, chunks
from tersely.rag.embedding import as_embedder
from tersely.rag.store import FaissStore


def main(name: str, count: int, data: str) -> None:
    given = Options(Path(data) if data else None, RESULTS, False)
    inner = as_embedder("" if name == "none" else name)
    timed = Timed(inner) if inner else None
    stream = chunks(given, count)
    next(stream)
    with tempfile.TemporaryDirectory() as folder:
        store = FaissStore(folder, embedder=timed)
        store.add_texts(["one, so that all is loaded"])
        store.similarity_search("one")
        before, made = _peak(), 0.0

        def timed_stream() -> object:
            nonlocal made
            while True:
                start = time.process_time()
                one = next(stream, None)
                made += time.process_time() - start
                if one is None:
                    return
                yield one

        embedding = timed.seconds if timed else 0.0
        start = time.process_time()
        store.add_texts(timed_stream())  # type: ignore[arg-type]
        whole = time.process_time() - start - made
        embedding = (timed.seconds if timed else 0.0) - embedding
        stats = store.stats()
    row = {
        "embedder": name,
        "chunks": stats.passages,
        "embedding us/chunk": embedding / count * 1e6,
        "rest us/chunk": (whole - embedding) / count * 1e6,
        "rest, share": (whole - embedding) / embedding if embedding else 1.0,
        "MB more at peak": (_peak() - before) / 1024,
        "MB on disk": (stats.bytes + stats.index_bytes) / 2**20,
    }
    print(json.dumps(row))


def _peak() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
