"""Retrieved nodes compressed on their way through a LlamaIndex query engine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import ConfigDict

from tersely.budget import BudgetLike
from tersely.errors import MissingExtra
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

try:
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import (
        BaseNode,
        ImageNode,
        MetadataMode,
        Node,
        NodeWithScore,
        QueryBundle,
        TextNode,
    )
except ImportError as error:
    raise MissingExtra("llama-index-core", "llamaindex") from error

KEY = "tersely"
"""Where a node's metadata tells what was kept of it; the model is not shown it."""

HERE = "\x00tersely\x00"
"""Stands for a node's text while its surroundings are looked at."""


class TerselyPostprocessor(BaseNodePostprocessor):
    """A node postprocessor for LlamaIndex around any recipe or pipeline.

    All nodes together have one exact budget, counted as `model` counts, with the metadata that
    LlamaIndex shows to the model; with `share="each"` every node has it by itself. Nodes that
    lost everything are dropped, and nodes with images, sound or film pass. The others are copies
    with their id, score and metadata; under `tersely`, which no model is shown, these tell the
    share of tokens that is kept, the tokens, and the spans of the text that they were copied
    from.

    With `order` whole nodes are moved: `best_first`, `best_last`, or to the `edges`. How good
    one is tells its score; where one has none, it is BM25 with the question.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)  # engines set callbacks

    pipeline: Pipeline
    share: Share = "all"
    order: Order = "kept"

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

    @classmethod
    def class_name(cls) -> str:
        return "TerselyPostprocessor"

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        desk.here()  # so that the report reaches this task
        return await super()._apostprocess_nodes(nodes, query_bundle)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        question = query_bundle.query_str if query_bundle else ""
        retrieved = [_retrieved(found.node) for found in nodes]
        worth = partial(worth_of, [one.text for one in retrieved], question, _scores(nodes))
        kept = Compression(self.pipeline, "llamaindex", retrieved, question, worth).go(self.share)
        if kept is None:
            return list(nodes)
        return [_copy(nodes[one.at], one) for one in seated(kept, worth, self.order)]


def _scores(nodes: Sequence[NodeWithScore]) -> list[float | None]:
    return [found.score for found in nodes]


def _retrieved(node: BaseNode) -> Retrieved:
    """A node as the model is shown it: its text, and what the template puts around that."""
    shown = node.get_content(MetadataMode.LLM)
    text = _text(node)
    if not text.strip():
        return Retrieved("", before=shown)
    before, _, after = _filled(node, HERE).get_content(MetadataMode.LLM).partition(HERE)
    seen = shown[len(before) : len(shown) - len(after)]  # the ends of it all are stripped
    if before + seen + after != shown or seen.strip() != text.strip():
        return Retrieved("", before=shown)  # a template that leaves the text out, or has it twice
    return Retrieved(seen, before, after, start=text.index(seen))


def _text(node: BaseNode) -> str:
    """The text of a node of text alone; '' for any other."""
    if isinstance(node, ImageNode):
        return ""
    if isinstance(node, TextNode):
        return node.text
    if isinstance(node, Node) and not (
        node.image_resource or node.audio_resource or node.video_resource
    ):
        return (node.text_resource.text or "") if node.text_resource else ""
    return ""


def _filled(node: BaseNode, text: str) -> BaseNode:
    """A copy of a node with another text."""
    if isinstance(node, Node) and node.text_resource:
        resource = node.text_resource.model_copy(update={"text": text})
        return node.model_copy(update={"text_resource": resource})
    return node.model_copy(update={"text": text})


def _copy(found: NodeWithScore, kept: Kept) -> NodeWithScore:
    """The node with what is left of it; one without a text of its own is as it was."""
    node, seen = found.node, _retrieved(found.node).text
    if not seen:
        return found
    told = (node if kept.text == seen else _filled(node, kept.text)).model_copy(
        update={
            "metadata": {**node.metadata, KEY: kept.account},
            "excluded_llm_metadata_keys": _with_key(node.excluded_llm_metadata_keys),
            "excluded_embed_metadata_keys": _with_key(node.excluded_embed_metadata_keys),
        }
    )
    return found.model_copy(update={"node": told})


def _with_key(keys: Sequence[str]) -> list[str]:
    return [*keys, *({KEY} - set(keys))]
