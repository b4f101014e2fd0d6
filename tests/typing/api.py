"""Never run, only type-checked: what our public names take and give."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, assert_type

from langchain_core.documents import Document

import tersely
from tersely.backends.scripted import ScriptedBackend
from tersely.middleware.batch import BatchJob, batch
from tersely.middleware.batch_asking import Generation
from tersely.middleware.batch_collect import Collected, collect
from tersely.middleware.batch_sample import Estimate, estimate
from tersely.middleware.batch_summary import BatchSummary
from tersely.middleware.decorator import Optimized
from tersely.middleware.passage import Result
from tersely.middleware.session import Session


@tersely.optimize
def bare(question: str, docs: list[str], *, lines: int = 3) -> str:
    return question


@tersely.optimize()
def parentheses(question: str) -> list[dict[str, str]]:
    return []


@tersely.optimize(
    budget=2000,
    context=("docs", "notes"),
    query="question",
    pipeline="default",
    model="gpt-4o",
    mode="audit",
    strict=True,
)
def settings(question: str, docs: list[Document], notes: str = "") -> dict[str, Any]:
    return {}


@tersely.optimize(budget="50%")
async def coroutine(question: str) -> str:
    return question


@tersely.optimize
def generator(question: str) -> Iterator[str]:
    yield question


@tersely.optimize(budget=0.5)
async def asynchronous_generator(question: str) -> AsyncIterator[str]:
    yield question


class Prompts:
    @tersely.optimize
    def method(self, question: str) -> str:
        return question

    @tersely.optimize(budget=10)
    async def coroutine(self, question: str) -> str:
        return question

    @classmethod
    @tersely.optimize
    def of_class(cls, question: str) -> str:
        return question


def of_function() -> None:
    assert_type(bare("a", ["b"], lines=2), str)
    assert_type(bare.raw("a", ["b"]), str)
    assert_type(bare.report, tersely.Report | None)
    assert_type(parentheses("a"), list[dict[str, str]])
    assert_type(settings("a", []), dict[str, Any])
    assert_type(generator("a"), Iterator[str])
    assert_type(asynchronous_generator("a"), AsyncIterator[str])
    assert_type(tersely.optimize(len)("abc"), int)
    as_function: Callable[[str], list[dict[str, str]]] = parentheses
    as_function("a")
    bare("a")  # type: ignore[call-arg]
    bare("a", "b")  # type: ignore[arg-type]
    bare.raw(1, [])  # type: ignore[arg-type]
    _ = bare.nope  # type: ignore[attr-defined]
    tersely.optimize(budgets=2)  # type: ignore[call-overload]
    tersely.optimize(mode="fast")  # type: ignore[call-overload]


async def of_coroutine() -> None:
    waiting: Coroutine[Any, Any, str] = coroutine("a")
    assert_type(await waiting, str)
    assert_type(await coroutine("a"), str)
    assert_type(await coroutine.raw("a"), str)
    assert_type(await Prompts().coroutine("a"), str)
    async for prompt in asynchronous_generator("a"):
        assert_type(prompt, str)


def of_method() -> None:
    prompts = Prompts()
    assert_type(prompts.method("a"), str)
    assert_type(prompts.method.raw("a"), str)
    assert_type(prompts.method.report, tersely.Report | None)
    assert_type(Prompts.of_class("a"), str)
    assert_type(prompts.of_class("a"), str)
    bound: Optimized[[str], str] = prompts.method
    bound(2)  # type: ignore[arg-type]


def of_scope() -> None:
    with tersely.override(mode="off", budget=0.5):
        assert_type(tersely.last_report(), tersely.Report | None)
    with tersely.session("a") as session:
        assert_type(session, Session)


def of_pipeline() -> None:
    pipeline = tersely.Pipeline(["lexical"], budget=1500)
    assert_type(pipeline.run("text"), Result)
    assert_type(tersely.compress("text", "lexical", budget=0.5), Result)
    assert_type(tersely.compress("text").report, tersely.Report)
    assert_type(pipeline.but(budget=10), tersely.Pipeline)
    assert_type(tersely.Budget.of("50%"), tersely.Budget)


def of_batch() -> None:
    job = BatchJob(source=Path("in"), target=Path("out"), pipeline="lexical", budget=0.5)
    assert_type(job.run(), BatchSummary)
    assert_type(batch("in", "out", field="text"), BatchSummary)
    assert_type(tersely.batch("in", Path("out"), budget=0.5), BatchSummary)
    assert_type(batch("s3://a/in.parquet", "out.parquet", workers=2), BatchSummary)
    assert_type(estimate("in", "out", sample=50), Estimate)
    assert_type(job.run().exit_code, int)
    BatchJob(source=Path("in"))  # type: ignore[call-arg]
    who = Generation(backend=ScriptedBackend(["a"]), max_tokens=9)
    assert_type(BatchJob(source="in", target="out", generate=who).generate, Generation | None)
    assert_type(batch("in", "out", generate=who.backend).answered, int)
    assert_type(collect("in", [Path("results")], "out"), Collected)
