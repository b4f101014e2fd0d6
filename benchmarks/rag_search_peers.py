"""How LangChain and LlamaIndex search by default, with the same embedding model as ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.rag_search_sets import Library, Place
from tersely.retrieval import Embedder, Vectors

Search = Callable[[str], list[Place]]
"""The places that a question finds, the best first."""

MANY = 100
"""How many are asked for."""


def langchain_bm25(texts: Sequence[str], places: Sequence[Place]) -> Search:
    """What its BM25Retriever does: `text.split()`, and Okapi with rank_bm25's k1 and b.

    That package is sunset and not installed. bm25s gives the same scores, but for words that
    stand in more than half of all texts: they count nothing here, and next to nothing there.
    """
    import bm25s

    corpus = [text.split() for text in texts]
    known = set().union(*corpus)
    index = bm25s.BM25(k1=1.5, b=0.75, method="atire", idf_method="robertson")
    index.index(corpus, show_progress=False)

    def search(question: str) -> list[Place]:
        asked = [word for word in question.split() if word in known]
        scores = index.get_scores(asked) if asked else np.zeros(len(places))
        order = np.argsort(-np.asarray(scores), kind="stable")[:MANY]
        return [places[i] for i in order.tolist()]

    return search


def langchain_memory(texts: Sequence[str], places: Sequence[Place], embedder: Embedder) -> Search:
    """InMemoryVectorStore over the same pieces."""
    from langchain_core.documents import Document
    from langchain_core.vectorstores import InMemoryVectorStore

    store = InMemoryVectorStore(_theirs(embedder))
    store.add_documents(
        [Document(text, metadata={"at": at}) for at, text in enumerate(texts)],
    )

    def search(question: str) -> list[Place]:
        return [places[one.metadata["at"]] for one in store.similarity_search(question, k=MANY)]

    return search


def llama_index(library: Library, embedder: Embedder) -> Search:
    """VectorStoreIndex over nodes of its SentenceSplitter, as `from_documents` makes them."""
    from llama_index.core import Document, VectorStoreIndex
    from llama_index.core.schema import MetadataMode

    documents = [Document(text=text, id_=source) for source, text in library.texts.items()]
    index = VectorStoreIndex.from_documents(documents, embed_model=_llama(embedder))
    retriever = index.as_retriever(similarity_top_k=MANY)

    def search(question: str) -> list[Place]:
        found = []
        for one in retriever.retrieve(question):
            node: Any = one.node
            start = int(node.start_char_idx or 0)
            size = len(node.get_content(metadata_mode=MetadataMode.NONE))
            found.append((str(node.ref_doc_id), start, start + size))
        return found

    return search


def peers(
    library: Library, texts: Sequence[str], places: Sequence[Place], embedder: Embedder
) -> Mapping[str, Search]:
    """All of them by their names in the table."""
    return {
        "LangChain BM25Retriever": langchain_bm25(texts, places),
        "LangChain InMemoryVectorStore, MiniLM": langchain_memory(texts, places, embedder),
        "LlamaIndex VectorStoreIndex, MiniLM": llama_index(library, embedder),
    }


def _theirs(embedder: Embedder) -> Any:
    """An embedder as LangChain wants it."""
    from langchain_core.embeddings import Embeddings

    class Ours(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return _plain(embedder.documents(texts))

        def embed_query(self, text: str) -> list[float]:
            return _plain(embedder.queries([text]))[0]

    return Ours()


def _llama(embedder: Embedder) -> Any:
    """An embedder as LlamaIndex wants it."""
    from llama_index.core.base.embeddings.base import BaseEmbedding

    class Ours(BaseEmbedding):
        def _get_query_embedding(self, query: str) -> list[float]:
            return _plain(embedder.queries([query]))[0]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

        def _get_text_embedding(self, text: str) -> list[float]:
            return _plain(embedder.documents([text]))[0]

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return _plain(embedder.documents(texts))

    return Ours()


def _plain(vectors: Vectors) -> list[list[float]]:
    rows: list[list[float]] = vectors.tolist()
    return rows
