"""A LangChain vector store in a folder: SQLite keeps, faiss and BM25 find."""

from __future__ import annotations

import hashlib
import re
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import repeat
from pathlib import Path
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from tersely.errors import ConfigError, RequestError
from tersely.rag import shelf_writing
from tersely.rag.rows import Chunk, chunk_of
from tersely.rag.shelf import Reading, Scored, Shelf, Stats
from tersely.rag.shelf_writing import BATCH, Progress
from tersely.rag.vector_index import IndexSettings
from tersely.retrieval import Embedder, Passage, Vectors

PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
"""Names of tenants that can be seen in the name of their folder."""


class _Finding(VectorStore):
    """What a store finds; scores are cosines, or BM25 where nothing is embedded."""

    shelf: Shelf

    def dense(self, vector: Any, k: int, filter: Any = None) -> Scored:
        """Ids and cosines of the k passages nearest to a vector, the best first."""
        return self.shelf.dense(vector, k, filter)

    def lexical(self, question: str, k: int, filter: Any = None) -> Scored:
        """Ids and BM25 scores of the k passages that hold the words of a question best.

        Passages that share no word with it are not found.
        """
        return self.shelf.lexical(question, k, filter)

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """The vectors of passages, in the order of their ids. Raises RequestError for unknown."""
        return self.shelf.vectors(ids)

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages of these ids, in their order; unknown ones are left out."""
        return self.shelf.passages(ids)

    def reading(self) -> AbstractContextManager[Reading]:
        """Within this block all that a thread reads is of one generation."""
        return self.shelf.reading()

    @property
    def embedder(self) -> Embedder | None:
        """What embeds questions, sure to be what embedded the texts; None: words alone find.

        Raises ConfigError when the texts were embedded by something else.
        """
        found: Embedder | None = self._embedded()
        return found

    def stats(self) -> Stats:
        """What the store holds: counts, bytes, kinds of index, generation, embedder."""
        return self.shelf.stats()

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [_document(one) for one in self.shelf.passages([str(name) for name in ids])]

    def similarity_search(
        self, query: str, k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        return [one for one, _ in self.similarity_search_with_score(query, k, filter)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k best passages with their cosines (BM25 without an embedder): higher is better."""
        with self.shelf.reading():
            if self._embedded() is None:
                return self._shown(self.shelf.lexical(query, k, filter))
            return self._shown(self.shelf.dense(self._asked(query), k, filter))

    def similarity_search_by_vector(
        self, embedding: Any, k: int = 4, filter: Any = None, **kwargs: Any
    ) -> list[Document]:
        with self.shelf.reading():
            return [one for one, _ in self._shown(self.shelf.dense(embedding, k, filter))]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        return self.max_marginal_relevance_search_by_vector(
            self._asked(query), k, fetch_k, lambda_mult, filter
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Any,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Any = None,
        **kwargs: Any,
    ) -> list[Document]:
        import numpy as np

        from tersely.rag.diversity import mmr

        with self.shelf.reading():
            found = self.shelf.dense(embedding, max(k, fetch_k), filter)
            if not found:
                return []
            vectors = self.shelf.vectors([name for name, _ in found])
            chosen = mmr(vectors, np.array([score for _, score in found]), k, lambda_mult)
            return [one for one, _ in self._shown([found[i] for i in chosen])]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """From 0 to 1, and never less for a better score."""
        return relevance_of_bm25 if self._embedded() is None else relevance_of_cosine

    def _embedded(self) -> Any:
        """The embedder, which is sure to be that of the texts; None where they have none."""
        with self.shelf.reading(index=False) as now:
            shelf_writing.check(self.shelf, now.state, now.connection)
        return self.shelf.embedder

    def _asked(self, query: str) -> Any:
        embedder = self._embedded()
        if embedder is None:
            raise ConfigError(
                "this store has no embedder: give it one, FaissStore(path, embedder=...), or"
                " search by words, lexical(question, k)"
            )
        return embedder.queries([query])[0]

    def _shown(self, scored: Scored) -> list[tuple[Document, float]]:
        found = self.shelf.passages([name for name, _ in scored])
        return [(_document(one), score) for one, (_, score) in zip(found, scored, strict=True)]


class FaissStore(_Finding):
    """A vector store in the folder `path`, of which one `tenant` is seen and no other.

    `embedder` is a name ("static", "onnx", a model), a mapping, a LangChain `Embeddings` or an
    Embedder (see `as_embedder`); without one, passages are found by their words alone. Without a
    `path` the store is gone when the object is. What was added is on the disk when a call
    returns; threads and processes may use one store at once, and each read sees one state of it.

    Metadata must be JSON. `filter` takes equality and the operators of `Filter`, or a function,
    and is applied before the search: k passages come back when there are k. Raises StoreError
    when the folder can't be used, and ConfigError on first use when the texts were embedded by
    something else.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        embedder: Any = None,
        tenant: str = "",
        settings: IndexSettings | Mapping[str, Any] | None = None,
    ) -> None:
        from tersely.rag.embedding import as_embedder

        self.path = _folder(self, path)
        self.tenant = tenant
        self._source = embedder
        known = IndexSettings.model_validate(settings or {})
        self.shelf = Shelf(self.path / _named(tenant), tenant, as_embedder(embedder), known)

    @property
    def embeddings(self) -> Embeddings | None:
        """What was given as embedder, if it is of a LangChain type."""
        return self._source if isinstance(self._source, Embeddings) else None

    def add_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add documents or put them in the place of those with their ids; tells the ids.

        Without an id it is made from text and metadata, so that adding again changes nothing. A
        text that is there is not embedded again. At most `batch_size` documents are held at a
        time, and each such batch is written as a whole; `progress` is told how many are done.
        """
        names = repeat(None) if ids is None else ids
        pairs = zip(documents, names, strict=ids is not None)
        return self._add((_chunk(one, name) for one, name in pairs), batch_size, progress)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = BATCH,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts as `add_documents` does; there is a metadata and an id for each, or none."""
        each: Iterable[Any] = (texts, metadatas or repeat({}), ids or repeat(None))
        chunks = (chunk_of(*one) for one in zip(*each, strict=False))
        _check_lengths(texts=texts, metadatas=metadatas, ids=ids)
        return self._add(chunks, batch_size, progress)

    def delete(self, ids: Sequence[str] | None = None, filter: Any = None, **kwargs: Any) -> bool:
        """Delete by ids, by a filter such as `{"source": "a.md"}`, or by both; neither is all.

        Ids that are not there are no error.
        """
        shelf_writing.remove(self.shelf, ids, filter)
        return True

    def save(self) -> None:
        """Make the best search index for so many passages, and save it for the next start.

        It is done by itself now and then while passages are added. Nothing depends on it but the
        time of the next start, and of searches among very many passages.
        """
        shelf_writing.save(self.shelf)

    def reindex(self, *, batch_size: int = BATCH, progress: Progress | None = None) -> None:
        """Embed all texts again with this store's embedder. All or nothing; readers go on."""
        shelf_writing.reindex(self.shelf, batch_size, progress)

    def close(self) -> None:
        """Close the files. They are opened again when they are needed."""
        self.shelf.database.close()

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Any = None,
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        path: str | Path | None = None,
        tenant: str = "",
        settings: IndexSettings | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store with these texts; `kwargs` go to `add_texts`."""
        store = cls(path, embedder=embedding, tenant=tenant, settings=settings)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    def _add(self, chunks: Iterable[Chunk], batch: int, progress: Progress | None) -> list[str]:
        return shelf_writing.add(self.shelf, chunks, batch, progress)


def relevance_of_cosine(cosine: float) -> float:
    """From 0 (opposite) over 1/2 (nothing in common) to 1 (the same)."""
    return min(1.0, max(0.0, (1 + cosine) / 2))


def relevance_of_bm25(score: float) -> float:
    """From 0 (no word in common) towards 1."""
    return max(score, 0.0) / (1 + max(score, 0.0))


def _chunk(document: Document, name: str | None) -> Chunk:
    return chunk_of(document.page_content, document.metadata, name or document.id)


def _document(passage: Passage) -> Document:
    metadata = dict(passage.metadata)
    return Document(id=passage.id, page_content=passage.text, metadata=metadata)


def _check_lengths(**given: Any) -> None:
    sizes = {name: len(one) for name, one in given.items() if hasattr(one, "__len__") and one}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise RequestError(f"there must be one of each for every text; there were {told}")


def _folder(store: FaissStore, path: str | Path | None) -> Path:
    if path is not None:
        return Path(path).expanduser()
    scratch = tempfile.TemporaryDirectory(prefix="tersely-store-")
    weakref.finalize(store, scratch.cleanup)
    return Path(scratch.name)


def _named(tenant: str) -> str:
    """The folder of a tenant: no two share one, whatever their names."""
    digest = hashlib.sha256(tenant.encode(errors="surrogatepass")).hexdigest()[:16]
    shown = tenant if PLAIN.fullmatch(tenant) else ""
    return "-".join(filter(None, ("tenant", shown, digest)))
