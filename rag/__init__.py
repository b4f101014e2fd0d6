"""Bring along only what a question needs: find it, pack it, and ask with it."""

from typing import TYPE_CHECKING

__all__ = [
    "Bundle",
    "CachedEmbedder",
    "Evidence",
    "FaissStore",
    "Fence",
    "Finding",
    "InMemorySearcher",
    "Reranker",
    "Retriever",
    "as_embedder",
    "as_searcher",
    "check",
    "pieces",
    "with_evidence",
]

if TYPE_CHECKING:
    from tersely.rag.bundle import Bundle
    from tersely.rag.citations import check
    from tersely.rag.documents import pieces
    from tersely.rag.embedding import as_embedder
    from tersely.rag.embedding_cache import CachedEmbedder
    from tersely.rag.evidence import Evidence
    from tersely.rag.fence import Fence
    from tersely.rag.finding import Finding
    from tersely.rag.placing import with_evidence
    from tersely.rag.rerank import Reranker
    from tersely.rag.retriever import Retriever
    from tersely.rag.searchers import InMemorySearcher, as_searcher
    from tersely.rag.store import FaissStore
else:  # hidden from type checkers, which would otherwise believe every name
    _HOME = {
        "Bundle": "tersely.rag.bundle",
        "CachedEmbedder": "tersely.rag.embedding_cache",
        "Evidence": "tersely.rag.evidence",
        "FaissStore": "tersely.rag.store",
        "Fence": "tersely.rag.fence",
        "Finding": "tersely.rag.finding",
        "InMemorySearcher": "tersely.rag.searchers",
        "Reranker": "tersely.rag.rerank",
        "Retriever": "tersely.rag.retriever",
        "as_embedder": "tersely.rag.embedding",
        "as_searcher": "tersely.rag.searchers",
        "check": "tersely.rag.citations",
        "pieces": "tersely.rag.documents",
        "with_evidence": "tersely.rag.placing",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
