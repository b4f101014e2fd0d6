"""A LangChain retriever over a store of ours, by words and by meaning."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, SkipValidation, ValidationError

from tersely.errors import ConfigError, first_fault
from tersely.rag.documents import document_of
from tersely.rag.finding import Finding, Found, finding_of

if TYPE_CHECKING:
    from langchain_core.callbacks.manager import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )

STORE = ("lexical", "dense", "vectors", "passages", "embedder")
"""What a store must offer."""


class Retriever(BaseRetriever):
    """Finds the `k` best passages of a store; a LangChain retriever, and a Searcher of ours.

    `store` is a `FaissStore`, or whatever offers what `finding.Tiers` asks for. Settings are
    those of `Finding`, by name or as one value in `finding`; `filter` is the store's. In chains
    it answers with Documents: their metadata has `source`, `start` and `end`, and under
    `tersely` the scores. `search` answers with passages and the reason why there are not more;
    in chains the callbacks are told that reason (`on_text`). `k` and `filter` can be given with
    each call: `retriever.invoke(question, k=3, filter={"year": 2024})`. Raises ConfigError.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    store: SkipValidation[Any]
    k: int = Field(default=5, ge=1)
    filter: SkipValidation[Any] = None
    finding: Finding = Finding()

    def __init__(self, store: Any, **settings: Any) -> None:
        if lacking := [name for name in STORE if not _has(store, name)]:
            raise ConfigError(f"a store of ours is needed, and {store!r} has no {lacking[0]!r}")
        fields = type(self).model_fields
        own = {name: settings.pop(name) for name in list(settings) if name in fields}
        own["store"] = store
        if settings:
            own["finding"] = finding_of(settings, own.get("finding"))
        try:
            super().__init__(**own)
        except ValidationError as error:
            raise ConfigError(f"retriever: {first_fault(error)}") from error

    def search(self, question: str, k: int, /) -> Found:
        """The best k passages, the best first."""
        return self._find(question, k, None)

    async def asearch(self, question: str, k: int, /) -> Found:
        """The same in a thread, so that nothing else waits."""
        return await asyncio.to_thread(self._find, question, k, None)

    def _find(self, question: str, k: int | None, filter: Any) -> Found:
        wanted = self.filter if filter is None else filter
        with getattr(self.store, "reading", nullcontext)():  # one state of it for all look-ups
            return self.finding.find(self.store, question, self.k if k is None else k, wanted)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Any = None,
    ) -> list[Document]:
        found = self._find(query, k, filter)
        if found.reason:
            run_manager.on_text(found.reason)
        return [document_of(passage) for passage in found]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Any = None,
    ) -> list[Document]:
        found = await asyncio.to_thread(self._find, query, k, filter)
        if found.reason:
            await run_manager.on_text(found.reason)
        return [document_of(passage) for passage in found]


def _has(store: Any, name: str) -> bool:
    """Whether an object has that name. It is not looked up in earnest: that may load a model."""
    return getattr_static(store, name, None) is not None or name in getattr(store, "__dict__", {})
