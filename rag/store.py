"""A LangChain vector store in a folder: SQLite keeps, faiss and BM25 find."""

from __future__ import annotations

import hashlib
import re
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from pydantic import ValidationError

from tersely.errors import ConfigError, RequestError, first_fault
from tersely.rag import shelf_writing
from tersely.rag.rows import Chunk, chunk_of, is_whole
from tersely.rag.shelf import Shelf
from tersely.rag.shelf_writing import BATCH, Progress
from tersely.rag.store_finding import Finding
from tersely.rag.vector_index import IndexSettings

PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
"""Names of tenants that can be seen in the name of their folder."""


class FaissStore(Finding):
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

        if not is_whole(tenant):
            raise ConfigError(f"the tenant's name {tenant!r} holds half a character")
        self.path = _folder(self, path)
        self.tenant = tenant
        self._source = embedder
        self.shelf = Shelf(
            folder_of(self.path, tenant), tenant, as_embedder(embedder), _settings(settings)
        )

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


def _chunk(document: Document, name: str | None) -> Chunk:
    return chunk_of(document.page_content, document.metadata, name or document.id)


def _check_lengths(**given: Any) -> None:
    sizes = {name: len(one) for name, one in given.items() if hasattr(one, "__len__") and one}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise RequestError(f"there must be one of each for every text; there were {told}")


def _settings(given: IndexSettings | Mapping[str, Any] | None) -> IndexSettings:
    try:
        return IndexSettings.model_validate(given or {})
    except ValidationError as error:
        raise ConfigError(f"settings: {first_fault(error)}") from error


def _folder(store: FaissStore, path: str | Path | None) -> Path:
    if path is not None:
        return Path(path).expanduser()
    scratch = tempfile.TemporaryDirectory(prefix="tersely-store-")
    weakref.finalize(store, scratch.cleanup)
    return Path(scratch.name)


def folder_of(path: Path, tenant: str) -> Path:
    """The folder of a tenant in a store's: no two share one, whatever their names."""
    digest = hashlib.sha256(tenant.encode()).hexdigest()[:16]
    shown = tenant if PLAIN.fullmatch(tenant) else ""
    return path / "-".join(filter(None, ("tenant", shown, digest)))
