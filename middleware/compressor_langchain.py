"""Retrieved documents compressed on their way through a LangChain retriever."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableLambda
from pydantic import ConfigDict

from tersely.budget import BudgetLike
from tersely.middleware import desk
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.retrieved import (
    Compression,
    Kept,
    Retrieved,
    Share,
    pipeline_for,
    seated,
    worth_of,
)
from tersely.order import Order

KEY = "tersely"
"""Where a document's metadata tells what was kept of it."""


class TerselyCompressor(BaseDocumentCompressor):
    """A document compressor for LangChain around any recipe or pipeline.

    All documents together have one exact budget, counted as `model` counts; with `share="each"`
    every document has it by itself. Documents that lost everything are dropped. The others are
    copies with their id and metadata; under `tersely` these tell the share of tokens that is
    kept, the tokens, and the spans of the text that they were copied from.

    With `order` whole documents are moved: `best_first`, `best_last`, or to the `edges`. How good
    one is stands in the metadata under `score` (higher is better); where that is missing, it is
    BM25 with the question.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    pipeline: Pipeline
    share: Share = "all"
    order: Order = "kept"
    score: str = "relevance_score"

    def __init__(
        self,
        pipeline: Any = "query",
        *,
        budget: BudgetLike = None,
        model: str | None = None,
        **settings: Any,
    ) -> None:
        """Take a stage, its name, a list of them, a pipeline or a YAML file; raises ConfigError."""
        settings["pipeline"] = pipeline_for(pipeline, budget, model)
        super().__init__(**settings)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Copies of the documents with fewer tokens, without those that lost everything."""
        work = partial(self._compressed, question=query)
        if callbacks is None:
            return work(documents)
        step = RunnableLambda(work, name=KEY)
        return step.invoke(documents, config={"callbacks": callbacks})

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The same, in a worker thread: the event loop is not blocked."""
        desk.here()  # so that the report reaches this task
        return await super().acompress_documents(documents, query, callbacks)

    def _compressed(self, documents: Sequence[Document], question: str) -> list[Document]:
        texts = [document.page_content for document in documents]
        scores = [_number(document.metadata.get(self.score)) for document in documents]
        worth = partial(worth_of, texts, question, scores)
        retrieved = [Retrieved(text) for text in texts]
        kept = Compression(self.pipeline, "langchain", retrieved, question, worth).go(self.share)
        if kept is None:
            return list(documents)
        return [_copy(documents[one.at], one) for one in seated(kept, worth, self.order)]


def _copy(document: Document, kept: Kept) -> Document:
    metadata = {**document.metadata, KEY: kept.account}
    return document.model_copy(update={"page_content": kept.text, "metadata": metadata})


def _number(value: Any) -> float | None:
    """A score that is a number; not one is as good as none."""
    known = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if known and np.isfinite(value) else None
