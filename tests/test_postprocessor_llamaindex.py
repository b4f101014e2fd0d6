"""LlamaIndex nodes share one exact budget, as the model is shown them."""

from __future__ import annotations

import pickle
import pydoc_data.topics as topics
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as tuned
from hypothesis import strategies as st

import tersely
from tersely.compressors.baselines import Truncate
from tersely.errors import MissingExtra
from tersely.middleware.pipeline import Pipeline
from tersely.tokens import counter

llama = pytest.importorskip("llama_index.core.schema")

from llama_index.core.schema import (  # noqa: E402
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from strategies import prose  # noqa: E402

from tersely.middleware.postprocessor_llamaindex import TerselyPostprocessor  # noqa: E402

QUESTION = "When is the else clause of a while loop executed?"
NAMES = ("with", "while", "lambda", "if", "for")
TEXT = topics.topics["while"]
SECRET = "not for the model " * 30
count = counter("gpt-4o")


def node(name: str, **settings: Any) -> TextNode:
    fixed: dict[str, Any] = {
        "text": topics.topics[name][:1500],
        "id_": f"id-{name}",
        "metadata": {"title": name, "secret": SECRET},
        "excluded_llm_metadata_keys": ["secret"],
    }
    return TextNode(**fixed | settings)


def found(*nodes: Any) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=one, score=1 - i / 10) for i, one in enumerate(nodes or map(node, NAMES))
    ]


def postprocessor(pipeline: Any = "lexical", **settings: Any) -> TerselyPostprocessor:
    return TerselyPostprocessor(pipeline, **{"budget": 130, "model": "gpt-4o"} | settings)


def shown(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [one.node.get_content(MetadataMode.LLM) for one in nodes]


def size(nodes: Sequence[NodeWithScore]) -> int:
    return sum(count.many(shown(nodes)))


def state(nodes: Sequence[NodeWithScore]) -> list[dict[str, Any]]:
    return [one.model_dump() for one in nodes]


def test_nodes_share_one_exact_budget_with_the_metadata_that_is_shown() -> None:
    made = postprocessor().postprocess_nodes(found(), query_str=QUESTION)
    assert 110 < size(made) <= 130
    assert "id-while" in [one.node_id for one in made]
    assert len(made) < len(NAMES)
    report = tersely.last_report()
    assert report is not None and report.met and report.limit == 130
    assert (report.surface, report.before, report.after) == (
        "llamaindex",
        size(found()),
        size(made),
    )


def test_everything_but_the_text_stays() -> None:
    given = found()
    before = state(given)
    by_id = {one.node_id: one for one in given}
    for one in postprocessor().postprocess_nodes(given, QueryBundle(QUESTION)):
        source = by_id[one.node_id]
        told = one.node.metadata["tersely"]
        assert one.score == source.score
        assert {k: v for k, v in one.node.metadata.items() if k != "tersely"} == source.metadata
        assert one.node.relationships == source.node.relationships
        assert told["tokens"] == count(one.text)
        copied = "".join(source.text[start:end] for start, end in told["spans"])
        assert "".join(copied.split()) == "".join(one.text.split())
    assert state(given) == before


def test_the_model_is_not_shown_what_was_kept() -> None:
    for one in postprocessor().postprocess_nodes(found(), query_str=QUESTION):
        for mode in (MetadataMode.LLM, MetadataMode.EMBED):
            assert "tersely" not in one.node.get_content(mode)
        assert SECRET.strip() not in one.node.get_content(MetadataMode.LLM)


def test_room_that_dropped_metadata_took_goes_to_the_text() -> None:
    many = [
        node("lambda", id_=str(i), text=f"Nothing of note, number {i}. " * 9) for i in range(40)
    ]
    many[30] = node("while")
    # the metadata of all would take more than the whole budget
    made = postprocessor(budget=100).postprocess_nodes(found(*many), query_str=QUESTION)
    assert 80 < size(made) <= 100
    report = tersely.last_report()
    assert report is not None and report.met


def test_the_best_nodes_are_kept_when_metadata_fills_the_budget() -> None:
    many = [node("while", id_=str(i)) for i in range(40)]
    scored = [NodeWithScore(node=one, score=float(i % 7)) for i, one in enumerate(many)]
    made = postprocessor(budget=60).postprocess_nodes(scored, query_str=QUESTION)
    assert made
    assert all(one.score is not None and one.score >= 5 for one in made)
    assert size(made) <= 60


def test_a_ratio_is_of_the_text() -> None:
    made = postprocessor(budget=0.3).postprocess_nodes(found(), query_str=QUESTION)
    texts = sum(count.many([one.text for one in made]))
    whole = sum(count.many([one.text for one in found()]))
    assert 0.25 * whole < texts <= 0.3 * whole + len(made)  # a token may span text and metadata


def test_nodes_with_pictures_pass_and_take_their_room() -> None:
    picture = ImageNode(image="abcd", text="A caption of a picture.")
    both = Node(
        text_resource=MediaResource(text=TEXT[:200]), image_resource=MediaResource(data=b"abcd")
    )
    given = found(picture, node("while"), both)
    made = postprocessor().postprocess_nodes(given, query_str=QUESTION)
    assert made[0] is given[0]
    assert made[-1] is given[2]
    assert len(made) == 3
    assert size(made) <= 130


def test_a_node_of_the_new_kind_keeps_its_resource() -> None:
    resource = MediaResource(text=TEXT, mimetype="text/markdown")
    (made,) = postprocessor().postprocess_nodes(
        found(Node(text_resource=resource)), query_str=QUESTION
    )
    assert isinstance(made.node, Node)
    assert made.node.text_resource is not None
    assert made.node.text_resource.mimetype == "text/markdown"
    assert resource.text == TEXT
    assert size([made]) <= 130


def test_a_subclass_stays_one() -> None:
    (made,) = postprocessor().postprocess_nodes(
        found(IndexNode(text=TEXT, index_id="7")), query_str=QUESTION
    )
    assert isinstance(made.node, IndexNode)
    assert made.node.index_id == "7"


@pytest.mark.parametrize(
    "template", ["{metadata_str}", "{content} {content}", "<{metadata_str}>\n{content}\n</doc>"]
)
def test_any_template(template: str) -> None:
    given = found(node("while", text_template=template), node("with"))
    made = postprocessor(budget=100).postprocess_nodes(given, query_str=QUESTION)
    first = made[0].node
    assert isinstance(first, TextNode)
    report = tersely.last_report()
    assert report is not None
    assert report.after == size(made)
    if template.count("{content}") == 1:
        assert report.met and size(made) <= 100
        assert first.text != topics.topics["while"][:1500]
    else:  # the text can't be told from the rest
        assert first.text == topics.topics["while"][:1500]


def test_whole_nodes_are_moved_by_their_scores() -> None:
    scored = [
        NodeWithScore(node=node("while", id_=str(score)), score=score) for score in (2, 9, 5, 7)
    ]
    for order, wanted in {"best_first": [9, 7, 5, 2], "edges": [9, 5, 2, 7]}.items():
        made = postprocessor(order=order, budget=0.5).postprocess_nodes(scored, query_str=QUESTION)
        assert [one.score for one in made] == wanted


def test_each_node_by_itself() -> None:
    made = postprocessor(share="each", budget=60).postprocess_nodes(found(), query_str=QUESTION)
    assert len(made) == len(NAMES)
    assert all(size([one]) <= 60 for one in made)


def test_without_a_question_or_nodes() -> None:
    assert 110 < size(postprocessor().postprocess_nodes(found())) <= 130
    assert postprocessor().postprocess_nodes([], query_str=QUESTION) == []


def test_audit_changes_nothing() -> None:
    given = found()
    with tersely.override(mode="audit"):
        made = postprocessor().postprocess_nodes(given, query_str=QUESTION)
    assert all(one is source for one, source in zip(made, given, strict=True))


@tuned(max_examples=40)
@given(
    texts=st.lists(prose() | prose().map(lambda text: f"{text}\n\n"), min_size=1, max_size=5),
    notes=st.dictionaries(st.sampled_from(("a", "b")), prose(3), max_size=2),
    budget=st.integers(1, 80),
)
def test_whatever_comes_the_budget_holds_and_nothing_is_mutated(
    texts: list[str], notes: dict[str, str], budget: int
) -> None:
    given = found(*(TextNode(text=text, metadata=dict(notes)) for text in texts))
    before = state(given)
    made = postprocessor(Truncate(), budget=budget).postprocess_nodes(given, query_str=QUESTION)
    report = tersely.last_report()
    assert state(given) == before
    assert report is not None
    assert size(made) <= budget or not report.met
    assert {one.node_id for one in made} <= {one.node_id for one in given}


async def test_in_a_query_engine() -> None:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine

    class Shelf(BaseRetriever):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return found()

    engine = RetrieverQueryEngine.from_args(
        Shelf(), llm=MockLLM(), node_postprocessors=[postprocessor()]
    )
    for answer in (engine.query(QUESTION), await engine.aquery(QUESTION)):
        assert 110 < size(answer.source_nodes) <= 130
        for text in shown(answer.source_nodes):
            assert text in str(answer)
        assert topics.topics["while"][:1500] not in str(answer)


async def test_the_report_reaches_the_task_that_asked() -> None:
    made = await postprocessor().apostprocess_nodes(found(), query_str=QUESTION)
    report = tersely.last_report()
    assert report is not None
    assert report.after == size(made)


def test_it_is_a_value() -> None:
    whole = Pipeline("truncate", budget=0.5)
    assert TerselyPostprocessor(whole).pipeline is whole
    assert pickle.loads(pickle.dumps(postprocessor())).pipeline == postprocessor().pipeline
    assert postprocessor().to_dict()["class_name"] == "TerselyPostprocessor"


def test_a_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "tersely.middleware.postprocessor_llamaindex"
    monkeypatch.delitem(sys.modules, ours)
    monkeypatch.setitem(sys.modules, "llama_index.core.postprocessor.types", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tersely\[llamaindex\]'"):
        import_module(ours)


def test_the_ends_that_a_template_strips_are_not_counted() -> None:
    given = found(node("while", text=f"\n {TEXT}\n\n"), node("if", text=f"{TEXT[:200]}\n\n"))
    made = postprocessor(budget=150, share="each").postprocess_nodes(given, query_str=QUESTION)
    report = tersely.last_report()
    assert report is not None
    assert report.after == size(made)
    assert made[1].text == f"{TEXT[:200]}\n\n"
    start, end = made[0].node.metadata["tersely"]["spans"][0]
    assert given[0].text[start:end] in made[0].text
