"""A decorated prompt function: what comes out of it, and what it still is."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage

import tersely
from tersely.contracts import Context, StageModel
from tersely.errors import BudgetError, ConfigError, StageError, UnknownName
from tersely.prompt import KINDS, Kind, Prompt
from tersely.tokens import counter

LONG = " ".join(f"word{i}" for i in range(400))
QUESTION = "Which one?"
COUNT = counter("gpt-4o")


class Clip(StageModel):
    """Takes words from the end of the longest open text until the prompt fits."""

    name = "clip"
    kinds: tuple[Kind, ...] = KINDS

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        while context.limit is not None and context.tokens(prompt) > context.limit:
            longest = max(prompt.open, key=lambda i: len(prompt.segments[i].text))
            words = prompt.segments[longest].text.split(" ")
            if len(words) == 1:
                break
            prompt = prompt.with_texts({longest: " ".join(words[: len(words) * 19 // 20])})
        return prompt


class Noting(Clip):
    """Puts the question at the head of what it leaves."""

    name = "noting"

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        made = super().__call__(prompt, context)
        return made.with_texts({made.open[0]: f"{prompt.question} {made.text[:30]}"})


class Broken(Clip):
    name = "broken"

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        raise RuntimeError("out of order")


CLIP = tersely.Pipeline(Clip(), model="gpt-4o")
optimize = functools.partial(tersely.optimize, pipeline=CLIP)
"""With a stage that needs no model."""


@optimize(budget=50)
def at_module_level(text: str, *, upper: bool = False) -> str:
    """Says the text."""
    return text.upper() if upper else text


class Prompts:
    @optimize(budget=50)
    def method(self, text: str) -> str:
        return f"{type(self).__name__} {text}"

    @optimize(budget=50)
    @classmethod
    def of_class(cls, text: str) -> str:
        return f"{cls.__name__} {text}"

    @optimize(budget=50)
    @staticmethod
    def static(text: str) -> str:
        return text

    @classmethod
    @optimize(budget=50)
    def of_class_outside(cls, text: str) -> str:
        return f"{cls.__name__} {text}"

    @staticmethod
    @optimize(budget=50)
    def static_outside(text: str) -> str:
        return text

    @optimize(budget=50)
    async def coroutine(self, text: str) -> str:
        return f"{type(self).__name__} {text}"


class MorePrompts(Prompts):
    pass


def size(text: str) -> int:
    return COUNT(text)


def test_the_return_value_fits_the_budget() -> None:
    made = at_module_level(LONG)
    assert LONG.startswith(made)
    assert 40 <= size(made) <= 50
    assert at_module_level.report is not None
    assert (at_module_level.report.before, at_module_level.report.after) == (size(LONG), size(made))


def test_raw_calls_the_function_as_it_was() -> None:
    assert at_module_level.raw(LONG, upper=True) == LONG.upper()


def test_without_parentheses_and_with_empty_ones() -> None:
    def prompt(text: str) -> str:
        return text

    with tersely.override(pipeline=CLIP, budget=30):
        assert size(optimize(prompt)(LONG)) <= 30
        assert size(optimize()(prompt)(LONG)) <= 30


def test_signature_and_names_are_kept() -> None:
    assert (
        str(inspect.signature(at_module_level))
        == "(text: 'str', *, upper: 'bool' = False) -> 'str'"
    )
    assert at_module_level.__name__ == "at_module_level"
    assert at_module_level.__doc__ == "Says the text."
    assert at_module_level.__annotations__["upper"] == "bool"
    assert at_module_level.__wrapped__ is inspect.unwrap(at_module_level)


def test_a_wrong_argument_is_told_as_python_tells_it() -> None:
    @optimize(budget=50, context="text")
    def prompt(text: str) -> str:
        return text

    with pytest.raises(TypeError, match=r"prompt\(\) got an unexpected keyword argument 'txt'"):
        prompt(txt="a")  # type: ignore[call-arg]


def test_pickled_and_copied_by_name() -> None:
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
    assert copy.deepcopy(at_module_level) is at_module_level
    assert pickle.loads(pickle.dumps(Prompts.of_class))("a") == "Prompts a"


@pytest.mark.parametrize("cls", [Prompts, MorePrompts])
def test_methods_of_every_kind(cls: type[Prompts]) -> None:
    made = cls()
    for method in (made.method, made.of_class, cls.of_class, made.of_class_outside):
        assert method(LONG).startswith(f"{cls.__name__} word0 word1")
        assert size(method(LONG)) <= 50
    for method in (made.static, cls.static, made.static_outside, cls.static_outside):
        assert LONG.startswith(method(LONG))
        assert size(method(LONG)) <= 50


def test_raw_and_signature_of_methods_are_bound() -> None:
    assert MorePrompts().method.raw("a") == "MorePrompts a"
    assert MorePrompts.of_class.raw("a") == "MorePrompts a"
    assert MorePrompts().of_class.raw("a") == "MorePrompts a"
    assert Prompts.static.raw("a") == "a"
    assert str(inspect.signature(Prompts().method)) == "(text: 'str') -> 'str'"
    assert Prompts.method(Prompts(), "a") == "Prompts a"


def test_methods_share_their_report() -> None:
    Prompts().method(LONG)
    assert Prompts().method.report == Prompts.method.report is not None


def test_lambdas_and_partials() -> None:
    assert size(optimize(budget=50)(lambda text: text)(LONG)) <= 50
    assert size(optimize(budget=50)(functools.partial(at_module_level.raw, LONG))()) <= 50


@pytest.mark.parametrize(
    ("made", "text_of"),
    [
        (LONG, lambda made: made),
        ([{"role": "user", "content": LONG}], lambda made: made[0]["content"]),
        ([HumanMessage(LONG)], lambda made: made[0].content),
        (
            {"model": "gpt-4o", "messages": [{"role": "user", "content": LONG}]},
            lambda made: made["messages"][0]["content"],
        ),
        ({"model": "gpt-4o", "input": LONG}, lambda made: made["input"]),
    ],
    ids=["text", "messages", "langchain", "chat request", "responses request"],
)
def test_prompts_of_every_shape(made: Any, text_of: Callable[[Any], str]) -> None:
    before = copy.deepcopy(made)
    prompt = optimize(budget=60)(lambda: made)
    text = text_of(prompt())
    assert text.startswith("word0")
    assert size(text) <= 60
    assert made == before


@pytest.mark.parametrize("made", [None, 7, object(), {"no": "request"}])
def test_what_is_no_prompt_passes_through_with_the_reason(made: object) -> None:
    prompt = optimize(budget=60)(lambda: made)
    assert prompt() is made
    assert prompt.report is not None
    assert f"no adapter knows this request ({type(made).__name__})" in prompt.report.notes


def test_kinds_of_functions_are_kept() -> None:
    async def coroutine(text: str) -> str:
        return text

    def generator(text: str) -> Iterator[str]:
        yield text

    async def asynchronous_generator(text: str) -> AsyncIterator[str]:
        yield text

    assert inspect.iscoroutinefunction(optimize(coroutine))
    assert inspect.iscoroutinefunction(Prompts().coroutine)
    assert inspect.isgeneratorfunction(optimize(generator))
    assert inspect.isasyncgenfunction(optimize(asynchronous_generator))
    assert not inspect.iscoroutinefunction(at_module_level)
    assert not inspect.isgeneratorfunction(at_module_level)


async def test_a_coroutine_function() -> None:
    seen = []
    asked: ContextVar[str] = ContextVar("asked")
    asked.set("before")

    @optimize(budget=50, context="text")
    async def prompt(text: str) -> str:
        seen.append((asked.get(), asyncio.current_task(), threading.current_thread(), size(text)))
        asked.set("inside")
        return text

    made = await prompt(LONG)
    assert size(made) <= 50
    ((value, task, thread, arrived),) = seen
    assert (value, task, thread) == ("before", asyncio.current_task(), threading.main_thread())
    assert arrived <= 50
    assert asked.get() == "inside"
    assert await prompt.raw(LONG) == LONG
    assert prompt.report == tersely.last_report() is not None
    assert (await Prompts().coroutine(LONG)).startswith("Prompts word0")


async def test_the_event_loop_goes_on_while_a_prompt_is_compressed() -> None:
    free = threading.Event()

    class Waiting(Clip):
        name = "waiting"

        def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
            assert free.wait(10)
            return super().__call__(prompt, context)

    @tersely.optimize(pipeline=tersely.Pipeline(Waiting(), strict=True), budget=50)
    async def prompt() -> str:
        return LONG

    async def release() -> None:
        free.set()

    made, _ = await asyncio.gather(prompt(), release())
    assert size(made) <= 50


async def test_a_cancelled_coroutine_stops() -> None:
    reached = asyncio.Event()

    @optimize(budget=50)
    async def prompt() -> str:
        reached.set()
        await asyncio.Event().wait()
        return LONG

    task = asyncio.create_task(prompt())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def conversation(log: list[Any]) -> Generator[str, Any, str]:
    """Notes everything that is done to it."""
    reply = None
    try:
        while reply != "enough":
            try:
                reply = yield LONG
                log.append(reply)
            except ValueError as error:
                log.append(error)
        return "done"
    finally:
        log.append("closed")


def test_a_generator_function() -> None:
    log: list[Any] = []
    made = optimize(budget=50)(conversation)(log)
    assert log == []
    error = ValueError("a")
    for item in (next(made), made.send(1), made.throw(error)):
        assert size(item) <= 50
    with pytest.raises(StopIteration) as end:
        made.send("enough")
    assert end.value.value == "done"
    assert log == [1, error, "enough", "closed"]


def test_closing_a_generator_closes_the_function() -> None:
    log: list[Any] = []
    made = optimize(budget=50)(conversation)(log)
    next(made)
    made.close()
    assert log == ["closed"]


async def test_an_asynchronous_generator_function() -> None:
    log: list[Any] = []

    @optimize(budget=50)
    async def prompts() -> Any:
        try:
            for _ in range(3):
                try:
                    log.append((yield LONG))
                except ValueError as error:
                    log.append(error)
        finally:
            log.append("closed")

    made = prompts()
    error = ValueError("a")
    for item in (await anext(made), await made.asend(1), await made.athrow(error)):
        assert size(item) <= 50
    with pytest.raises(StopAsyncIteration):
        await anext(made)
    assert log == [1, error, None, "closed"]
    other = prompts()
    await anext(other)
    await other.aclose()
    assert log[-1] == "closed"
    assert prompts.report == tersely.last_report() is not None


def test_a_report_belongs_to_its_thread_and_function() -> None:
    barrier = threading.Barrier(4, timeout=30)

    @optimize(budget=50)
    def mine(text: str) -> str:
        return text

    def work(words: int) -> bool:
        assert mine.report is None
        text = " ".join(["word"] * words)
        barrier.wait()
        mine(text)
        barrier.wait()
        return mine.report is not None and mine.report.before == size(text)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, [100, 200, 300, 400])) == [True] * 4
    at_module_level(LONG)
    assert mine.report is None
    assert tersely.last_report() == at_module_level.report


async def test_a_report_belongs_to_its_task() -> None:
    barrier = asyncio.Barrier(4)

    @optimize(budget=50)
    async def prompt(text: str) -> str:
        return text

    async def work(words: int) -> bool:
        text = " ".join(["word"] * words)
        await prompt(text)
        await barrier.wait()
        return prompt.report is not None and prompt.report.before == size(text)

    assert await asyncio.gather(*map(work, [100, 200, 300, 400])) == [True] * 4


def test_the_surrounding_override_goes_first() -> None:
    with tersely.override(mode="off"):
        assert at_module_level(LONG) == LONG
    with tersely.override(budget=20):
        assert size(at_module_level(LONG)) <= 20
    with tersely.override(mode="audit"):
        assert at_module_level(LONG) == LONG
    assert at_module_level.report is not None
    assert at_module_level.report.saved > 300


async def test_the_override_holds_in_the_worker_thread() -> None:
    @optimize(budget=50)
    async def prompt() -> str:
        return LONG

    with tersely.override(mode="off"):
        assert await prompt() == LONG


def test_a_failing_stage_leaves_the_prompt_unless_strict() -> None:
    assert tersely.optimize(pipeline=Broken(), budget=50)(lambda: LONG)() == LONG
    with pytest.raises(StageError, match="out of order"):
        tersely.optimize(pipeline=Broken(), budget=50, strict=True)(lambda: LONG)()


def test_an_error_of_the_function_is_the_callers() -> None:
    def prompt() -> str:
        raise KeyError("a")

    with pytest.raises(KeyError):
        optimize(budget=50)(prompt)()


@pytest.mark.parametrize(
    "docs",
    [
        LONG,
        [LONG, LONG],
        (LONG, "short"),
        [Document(page_content=LONG, metadata={"page": 1}), Document(page_content=LONG)],
        [{"title": "a", "text": LONG}],
    ],
    ids=["text", "list", "tuple", "documents", "mappings"],
)
def test_a_context_argument_is_compressed_before_the_call(docs: Any) -> None:
    before, arrived = copy.deepcopy(docs), []

    @optimize(budget=0.5, context="docs")
    def prompt(question: str, docs: Any) -> str:
        arrived.append(docs)
        return f"{docs}\n{question}"

    made = prompt(QUESTION, docs)
    (given,) = arrived
    assert made == f"{given}\n{QUESTION}"  # a ratio is spent once
    assert type(given) is type(docs)
    assert size(str(given)) < 0.6 * size(str(docs))
    assert docs == before
    assert prompt.report is not None
    assert prompt.report.decisions[0].path.startswith("docs")


def test_documents_keep_their_metadata() -> None:
    @optimize(budget=0.5, context="docs")
    def prompt(docs: list[Document]) -> list[Document]:
        return docs

    made = prompt([Document(page_content=LONG, metadata={"page": 1}, id="x")])
    assert (made[0].metadata, made[0].id) == ({"page": 1}, "x")


def test_several_context_arguments_share_the_budget() -> None:
    @optimize(budget=100, context=("docs", "notes"))
    def prompt(docs: list[str], notes: str = LONG) -> str:
        return "\n".join([*docs, notes])

    assert 80 <= size(prompt([LONG])) <= 100


@pytest.mark.parametrize("shape", ["text", "messages"])
def test_the_whole_prompt_fits_and_what_is_around_the_context_stays(shape: str) -> None:
    rules = "Answer in one short sentence. " * 4

    @optimize(budget=150, context="docs", query="question")
    def prompt(question: str, docs: list[str]) -> Any:
        text = "\n\n".join([rules, *docs, question])
        return text if shape == "text" else [{"role": "user", "content": text}]

    made = prompt(QUESTION, [LONG, LONG])
    text = made if shape == "text" else made[0]["content"]
    assert text.startswith(f"{rules}\n\nword0")
    assert text.endswith(f"\n\n{QUESTION}")
    report = prompt.report
    assert report is not None
    assert report.met
    assert 130 <= report.after <= 150
    assert report.before > 2 * size(LONG)
    assert {one.path.split("[")[0] for one in report.decisions} >= {"docs"}
    assert tersely.last_report() == report


def test_the_floor_is_for_what_was_given_not_for_what_is_left() -> None:
    note = "A short note that is below the floor."

    @tersely.optimize(pipeline=CLIP.but(floor=100), budget=150, context="docs")
    def prompt(docs: list[str]) -> str:
        return "\n\n".join([*docs, "a rule " * 50])

    made = prompt([note, LONG])
    assert size(made) <= 150
    assert f"{note}\n\nword0" in made
    assert made.endswith("a rule " * 50)


def test_a_prompt_without_the_arguments_in_it_shrinks_as_a_whole() -> None:
    @optimize(budget=100, context="docs")
    def prompt(docs: list[str]) -> str:
        return LONG.upper()

    assert size(prompt([LONG])) <= 100


def test_what_is_marked_stays_in_the_argument_and_in_the_prompt() -> None:
    @optimize(budget=60, context="docs")
    def prompt(docs: str) -> str:
        return f"{docs}\n\n" + "rule " * 30

    class KeepsTheTail(Clip):
        name = "keeps_the_tail"

        def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
            (i,) = prompt.open[:1]
            segment = prompt.segments[i]
            spans = [segment.text[a:b] for a, b in segment.spans]
            words = segment.text.split(" ")
            return prompt.with_texts({i: " ".join([*words[:25], *spans])})

    with tersely.override(pipeline=tersely.Pipeline(KeepsTheTail(), model="gpt-4o"), budget=60):
        made = prompt(f"{LONG} <keep>the code is 4711</keep> end")
    assert "the code is 4711" in made
    assert "keep>" not in made


def test_the_question_comes_from_the_argument() -> None:
    @tersely.optimize(pipeline=Noting(), budget=0.5, context="docs", query="question")
    def prompt(question: str, docs: str) -> str:
        return docs

    assert prompt("Where?", LONG).startswith("Where? word0")
    assert prompt("When?", LONG).startswith("When? word0")  # not frozen by the first question
    assert prompt(docs=LONG, question="Who?").startswith("Who? word0")


def test_the_question_serves_the_return_value_too() -> None:
    @tersely.optimize(pipeline=Noting(), budget=0.5, query="question")
    def prompt(question: str) -> str:
        return LONG

    assert prompt("Where?").startswith("Where? word0")


def test_a_question_that_is_no_text_is_none() -> None:
    @tersely.optimize(pipeline=Noting(), budget=0.5, context="docs", query="question")
    def prompt(docs: str, question: object = None) -> str:
        return docs

    assert prompt(LONG).startswith(" word0")
    assert prompt(LONG, 7).startswith(" word0")


def test_an_argument_without_text_passes_with_the_reason() -> None:
    @optimize(budget=0.5, context="docs")
    def prompt(docs: object) -> object:
        return docs

    assert prompt(12) == 12
    assert prompt.report is not None
    assert "docs holds no text (int)" in prompt.report.notes


async def test_context_of_generators_and_coroutines() -> None:
    @optimize(budget=50, context="docs")
    def generator(docs: str) -> Iterator[str]:
        yield docs

    @optimize(budget=50, context="docs")
    async def asynchronous(docs: str) -> AsyncIterator[str]:
        yield docs

    assert all(size(item) <= 50 for item in generator(LONG))
    assert [size(item) <= 50 async for item in asynchronous(LONG)] == [True]


def test_names_that_are_no_parameters() -> None:
    def prompt(question: str, docs: str) -> str:
        return docs

    with pytest.raises(UnknownName, match=r"no parameter of .*prompt named 'doc'; nearest: docs"):
        optimize(context="doc")(prompt)
    with pytest.raises(ConfigError, match="nearest: question"):
        optimize(context="docs", query="quesion")(prompt)
    with pytest.raises(ConfigError, match="nearest: question"):
        optimize(context=("docs", "questions"))(prompt)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"budgt": 5}, "nearest: budget"),
        ({"budget": 0}, "must be above 0, was 0"),
        ({"budget": 1.5}, "at most 1, was 1.5"),
        ({"mode": "fast"}, "'fast'"),
        ({"pipeline": "lexicl"}, "nearest: lexical"),
    ],
)
def test_settings_that_can_not_work(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        tersely.optimize(**{"pipeline": CLIP} | settings)


def test_only_functions_are_decorated() -> None:
    with pytest.raises(ConfigError, match="takes a function, was given 7"):
        tersely.optimize(7)  # type: ignore[call-overload]


def test_an_impossible_budget_raises_when_strict() -> None:
    @optimize(budget=30, context="docs", strict=True)
    def prompt(docs: str) -> str:
        return docs + "\n" + "a rule that stays " * 20

    with pytest.raises(BudgetError):
        prompt(LONG)


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=4),
    st.text(),
    st.integers(min_value=1, max_value=60),
)
def test_any_text_around_any_context(docs: list[str], around: str, budget: int) -> None:
    """What is around the arguments is untouched, or all of the prompt may shrink."""

    @optimize(budget=budget, context="docs")
    def prompt(docs: list[str]) -> str:
        return around + "|".join(docs) + around

    made, report = prompt([doc * 8 for doc in docs]), prompt.report
    assert report is not None
    assert report.after <= report.before
    assert report.after == size(made) or not made
    if report.met:
        assert size(made) <= budget
