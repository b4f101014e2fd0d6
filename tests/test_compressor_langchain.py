"""LangChain documents share one exact budget; nothing else of them moves."""

from __future__ import annotations

import copy
import pickle
import pydoc_data.topics as topics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as tuned
from hypothesis import strategies as st
from langchain_core.callbacks import (
    BaseCallbackHandler,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from little_stages import Rewrite
from strategies import documents as any_documents

import tersely
from tersely.compressors.baselines import Truncate
from tersely.errors import BudgetError, ConfigError, UnknownName
from tersely.middleware.compressor_langchain import TerselyCompressor
from tersely.middleware.pipeline import Pipeline
from tersely.tokens import counter

QUESTION = "When is the else clause of a while loop executed?"
NAMES = ("with", "while", "lambda", "if", "for")
count = counter("gpt-4o")


def found(**more: Any) -> list[Document]:
    return [
        Document(topics.topics[name][:1500], metadata={"name": name, **more}, id=f"id-{name}")
        for name in NAMES
    ]


def compressor(pipeline: Any = "lexical", **settings: Any) -> TerselyCompressor:
    return TerselyCompressor(pipeline, **{"budget": 120, "model": "gpt-4o"} | settings)


def size(documents: Any) -> int:
    return sum(count.many([one.page_content for one in documents]))


def names(documents: Any) -> list[str]:
    return [one.metadata["name"] for one in documents]


class Shelf(BaseRetriever):
    """A retriever whose documents go through a compressor."""

    documents: list[Document]
    compressor: BaseDocumentCompressor

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        child = run_manager.get_child()
        return list(self.compressor.compress_documents(self.documents, query, callbacks=child))

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        child = run_manager.get_child()
        return list(
            await self.compressor.acompress_documents(self.documents, query, callbacks=child)
        )


def test_documents_share_one_exact_budget() -> None:
    made = compressor().compress_documents(found(), QUESTION)
    assert 100 < size(made) <= 120
    assert "while" in names(made)
    assert "lambda" not in names(made)
    report = tersely.last_report()
    assert report is not None and report.met and report.limit == 120
    assert report.surface == "langchain"
    assert (report.before, report.after) == (size(found()), size(made))
    assert {decision.path for decision in report.decisions} == {f"[{i}]" for i in range(5)}


def test_the_room_of_lost_documents_goes_to_the_others() -> None:
    """Marks of lost documents would take more than half of this budget."""
    many = [Document(f"Nothing of note, number {i}. " * 9) for i in range(40)]
    many[7] = Document(f"{topics.topics['while'][:900]}")
    made = compressor(budget=60).compress_documents(many, QUESTION)
    assert len(made) < 40
    assert 45 < size(made) <= 60


def test_a_ratio_is_of_all_documents() -> None:
    made = compressor(budget=0.25).compress_documents(found(), QUESTION)
    assert 0.2 * size(found()) < size(made) <= 0.25 * size(found())


def test_each_document_by_itself() -> None:
    made = compressor(share="each", budget=60).compress_documents(found(), QUESTION)
    assert names(made) == list(NAMES)
    assert all(30 < size([one]) <= 60 for one in made)
    report = tersely.last_report()
    assert report is not None and report.met and report.limit == 300
    assert report.after == size(made)


def test_ids_and_metadata_stay_and_tell_what_was_kept() -> None:
    given = found(page=3)
    before = copy.deepcopy(given)
    by_id = {one.id: one for one in given}
    for one in compressor().compress_documents(given, QUESTION):
        source = by_id[one.id]
        told = one.metadata["tersely"]
        assert {k: v for k, v in one.metadata.items() if k != "tersely"} == source.metadata
        assert told["tokens"] == count(one.page_content)
        assert told["kept"] == pytest.approx(told["tokens"] / count(source.page_content), abs=1e-3)
        assert told["spans"]
        for start, end in told["spans"]:
            assert source.page_content[start:end] in one.page_content
        copied = "".join(source.page_content[start:end] for start, end in told["spans"])
        assert "".join(copied.split()) == "".join(one.page_content.split())
    assert given == before


def test_a_subclass_stays_one() -> None:
    class Page(Document):
        number: int = 0

    made = compressor().compress_documents([Page(page_content=TEXT, number=7)], QUESTION)
    assert isinstance(made[0], Page)
    assert made[0].number == 7


TEXT = topics.topics["while"]


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("kept", [2, 9, 5, 7]),
        ("best_first", [9, 7, 5, 2]),
        ("best_last", [2, 5, 7, 9]),
        ("edges", [9, 5, 2, 7]),
    ],
)
def test_whole_documents_are_moved(order: Any, wanted: list[int]) -> None:
    given = [Document(TEXT, metadata={"score": score}) for score in (2, 9, 5, 7)]
    made = compressor(order=order, score="score", budget=0.5).compress_documents(given, QUESTION)
    assert [one.metadata["score"] for one in made] == wanted
    assert all(one.page_content in TEXT or one.metadata["tersely"]["kept"] < 1 for one in made)


def test_without_scores_words_tell_which_is_best() -> None:
    made = compressor(order="best_first", budget=0.9).compress_documents(found(), QUESTION)
    assert names(made)[0] == "while"
    mixed = found()
    mixed[2].metadata["relevance_score"] = 99
    again = compressor(order="best_first", budget=0.9).compress_documents(mixed, QUESTION)
    assert names(again)[0] == "while"


def test_what_fits_comes_back_whole() -> None:
    made = compressor(budget=10_000).compress_documents(found(), QUESTION)
    assert [one.page_content for one in made] == [one.page_content for one in found()]
    assert all(one.metadata["tersely"]["kept"] == 1.0 for one in made)
    assert made[0].metadata["tersely"]["spans"] == [[0, 1500]]


def test_documents_without_text_are_no_loss() -> None:
    given = [Document(""), Document(" \n"), Document(TEXT), Document("…")]
    made = compressor(budget=40).compress_documents(given, QUESTION)
    assert [one.page_content for one in made if len(one.page_content) < 3] == ["", " \n", "…"]
    assert compressor().compress_documents([], QUESTION) == []


def test_audit_and_off_change_nothing() -> None:
    given = found()
    for mode in ("audit", "off"):
        with tersely.override(mode=mode):  # type: ignore[arg-type]
            assert compressor().compress_documents(given, QUESTION) == given
    with tersely.override(mode="audit"):
        compressor().compress_documents(given, QUESTION)
        report = tersely.last_report()
    assert report is not None and report.saved > 0


def test_surrounding_wishes_go_first() -> None:
    with tersely.override(budget=40):
        made = compressor().compress_documents(found(), QUESTION)
    assert size(made) <= 40


def test_a_document_that_came_before_is_compressed_anew_for_another_question() -> None:
    with tersely.session("shelf") as session:
        first, second = (
            compressor().compress_documents(found(), question)
            for question in (QUESTION, "What does the lambda expression do?")
        )
    assert "lambda" in names(second)
    assert first != second
    assert session.requests == 2
    assert session.report == tersely.last_report()


def test_the_same_document_twice_keeps_the_budget() -> None:
    made = compressor(budget=100).compress_documents([*found(), *found()], QUESTION)
    assert size(made) <= 100


def test_marked_passages_outlive_the_rest() -> None:
    given = [Document(f"{TEXT} <keep>Never drop this.</keep> {TEXT}"), *found()]
    made = compressor(budget=60).compress_documents(given, QUESTION)
    assert "Never drop this." in made[0].page_content
    assert "<keep>" not in made[0].page_content


def test_a_failing_stage_lets_everything_through() -> None:
    def fail(text: str) -> str:
        raise ValueError(text[:5])

    given = found()
    made = compressor(Pipeline([Rewrite(how=fail)])).compress_documents(given, QUESTION)
    assert [one.page_content for one in made] == [one.page_content for one in given]
    report = tersely.last_report()
    assert report is not None and not report.met
    assert any("failed" in note for note in report.notes)


def test_strict_raises_when_the_budget_cannot_be_met() -> None:
    given = [Document(f"<keep>{TEXT}</keep>")]
    with pytest.raises(BudgetError):
        compressor(Pipeline("lexical", strict=True)).compress_documents(given, QUESTION)


@tuned(max_examples=40)
@given(documents=any_documents(), budget=st.integers(1, 60))
def test_whatever_comes_the_budget_holds_and_nothing_is_mutated(
    documents: list[Document], budget: int
) -> None:
    before = copy.deepcopy(documents)
    made = compressor(Truncate(), budget=budget).compress_documents(documents, QUESTION)
    assert documents == before
    report = tersely.last_report()
    assert report is not None
    assert size(made) == report.after <= report.before
    assert size(made) <= budget or not report.met
    for one in made:
        rest = {k: v for k, v in one.metadata.items() if k != "tersely"}
        assert any(rest == source.metadata for source in documents)


class Watcher(BaseCallbackHandler):
    def __init__(self) -> None:
        self.names: list[str] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.names.append(kwargs["name"])


async def test_in_a_chain_with_its_callbacks() -> None:
    watcher = Watcher()
    shelf = Shelf(documents=found(), compressor=compressor())
    chain = shelf | RunnableLambda(size)
    assert 100 < chain.invoke(QUESTION, config={"callbacks": [watcher]}) <= 120
    assert watcher.names.count("tersely") == 1
    assert 100 < await chain.ainvoke(QUESTION) <= 120


async def test_the_report_reaches_the_task_that_asked() -> None:
    made = await compressor().acompress_documents(found(), QUESTION)
    report = tersely.last_report()
    assert report is not None
    assert report.after == size(made)


def test_it_takes_whatever_a_pipeline_can_be_made_of() -> None:
    whole = Pipeline("truncate", budget=0.5)
    assert TerselyCompressor(whole).pipeline is whole
    assert TerselyCompressor(whole, budget=99).pipeline.budget.tokens == 99
    assert compressor(["lexical", "truncate"]).pipeline.stages[1] == Truncate()
    assert pickle.loads(pickle.dumps(compressor())) == compressor()
    with pytest.raises(UnknownName):
        TerselyCompressor("nope")
    with pytest.raises(ConfigError):
        TerselyCompressor(budget=-1)
