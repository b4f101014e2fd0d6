"""Plain retrieval, the prompts of all plans, and their accounts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_library import PASSAGES, WORDS, Library, Obeying, asking, run

from tersely import registry
from tersely.account import Call
from tersely.asking import after, before, begun, filled, question_of
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Completion, Context, Request
from tersely.errors import BackendError, ConfigError
from tersely.prompt import Prompt, Segment, messages_of
from tersely.rag.asking import without_context
from tersely.rag.evidence import Evidence
from tersely.rag.plan_rag import Rag
from tersely.rag.purse import Purse
from tersely.registry import PLANS

QUESTION = "When was the Eiffel Tower completed?"

every_plan = pytest.mark.parametrize(
    "name", sorted(PLANS.keys() - {"apar", "history", "sot", "summarise"})
)


def said(request: Request) -> str:
    """What the model reads in the user's last turn."""
    return messages_of(request.prompt)[-1]["content"]


def test_what_was_found_is_in_the_prompt_and_cited() -> None:
    backend = Obeying(["It was completed in 1889 [1]."])
    answer = run(Rag(k=2), backend, QUESTION)
    (request,) = backend.requests
    assert "completed in 1889" in said(request)
    assert said(request).endswith(QUESTION)
    assert answer.text == "It was completed in 1889 [1]."
    assert answer.passages[0].id == "tower"
    assert answer.evidence in said(request)
    (citation,) = answer.citations
    assert citation.numbers == (1,)
    assert citation.supported


def test_an_answer_that_the_passages_do_not_hold_is_not_supported() -> None:
    answer = run(Rag(), Obeying(["It was completed in 1925 [1]."]), QUESTION)
    assert [one.supported for one in answer.citations] == [False]


def test_nothing_is_added_where_nothing_bears_on_the_question() -> None:
    backend = Obeying(["Seven."])
    answer = run(Rag(), backend, "How many dwarfs has Snow White?")
    assert said(backend.requests[0]) == "How many dwarfs has Snow White?"
    assert answer.passages == ()
    assert "nothing added" in answer.account.notes[0]


def test_nothing_is_found() -> None:
    answer = run(Rag(), Obeying(["1889."]), QUESTION, Library([]))
    assert (answer.text, answer.account.notes) == (
        "1889.",
        ("nothing was found, and nothing added",),
    )


def test_the_context_of_the_request_gives_way_to_what_is_found() -> None:
    own = "\n\n".join(one.text for one in PASSAGES)
    rules = Segment(text="Be brief.", role="system", kind="instruction", turn=0, path=("s",))
    context = Segment(text=own, turn=1, path=("c",))
    turn = Segment(text=QUESTION, kind="question", turn=1, path=("q",))
    request = Request(prompt=Prompt((rules, context, turn), QUESTION, turns=2), max_tokens=20)
    backend = Obeying(["In 1889."])
    answer = run(Rag(k=1), backend, request)
    assert "heron" not in backend.requests[0].prompt.text
    system, _ = messages_of(backend.requests[0].prompt)
    assert system == {"role": "system", "content": "Be brief."}
    account = answer.account
    assert account.whole == WORDS(own) + WORDS(QUESTION) + 2 + 2 * 2 + 2
    assert account.saved_of_whole == account.whole - account.spent


def test_locked_context_stays() -> None:
    kept = Segment(text="The heron is grey.", locked=True, path=("c",))
    backend = Obeying(["Yes."])
    answer = run(Rag(), backend, asking(QUESTION, kept))
    assert "The heron is grey." in said(backend.requests[0])
    assert answer.account.whole is None


def test_evidence_keeps_its_own_budget() -> None:
    backend = Obeying(["In 1889."])
    answer = run(Rag(k=5, evidence=Evidence(tokens=40, fence=None)), backend, QUESTION)
    assert 0 < WORDS(answer.evidence) <= 40


def test_the_account_tells_each_call_and_what_it_saved() -> None:
    answer = run(Rag(k=5, evidence=Evidence(tokens=45)), Obeying(["In 1889."]), QUESTION)
    account = answer.account
    (call,) = account.calls
    assert call == Call(purpose="answer", prompt=call.prompt, completion=2)
    assert account.spent == call.tokens == call.prompt + 2
    instruction = WORDS(Rag().instruction)
    everything = sum(WORDS(one.text) for one in PASSAGES)
    assert account.plain == WORDS(QUESTION) + 2 + instruction + everything + 2
    assert account.saved == account.plain - account.spent


def test_no_answer_can_be_paid() -> None:
    backend = Obeying(["In 1889."])
    answer = run(Rag(tokens=5), backend, QUESTION)
    assert (answer.text, answer.finish_reason, backend.requests) == ("", "length", [])
    assert "do not reach" in answer.account.notes[-1]


def test_a_small_budget_goes_to_the_question_and_its_answer() -> None:
    backend = Obeying(["It was completed in the year 1889 as everyone knows well enough by now."])
    answer = run(Rag(tokens=14), backend, QUESTION)
    assert answer.account.spent == 14
    assert answer.finish_reason == "length"


def test_a_backend_that_does_not_end_is_broken_off() -> None:
    class Endless(ScriptedBackend):
        def stream(self, request: Request, /) -> Any:
            from tersely.contracts import Chunk

            while True:
                yield Chunk(text="on and ")

    answer = run(Rag(), Endless([]), asking(QUESTION, max_tokens=8))
    assert answer.finish_reason == "length"


@every_plan
def test_a_request_that_asks_nothing(name: str) -> None:
    context = Context(count=WORDS, backend=Obeying([]))
    request = Request(prompt=Prompt((Segment(text="Be brief.", role="system"),)))
    with pytest.raises(ConfigError, match="asks nothing"):
        next(registry.plan(name).steps(request, context))


@every_plan
def test_settings_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match="tokens"):
        registry.plan(name, tokens=0)
    with pytest.raises(ConfigError, match="nope"):
        registry.plan(name, nope=1)


ANSWERS = st.one_of(
    st.just(""),
    st.just(" \n"),
    st.just("Yes"),
    st.just("word " * 400),
    st.just("It is so. " * 60),
    st.just("In 1889 [?]. It stands in Paris [?]. "),
    st.just("1889"),
    st.text(max_size=60),
    st.lists(
        st.sampled_from(["Eiffel", "1889.", "is", "[1]", "A. B.", "3.5", "?"]), max_size=30
    ).map(" ".join),
)
CAPABILITIES = st.sets(st.sampled_from(["logprobs", "alternatives", "prefill"]))


@every_plan
@given(
    answers=st.lists(ANSWERS, min_size=1, max_size=6),
    can=CAPABILITIES,
    limit=st.one_of(st.none(), st.integers(1, 600)),
    doubt=st.dictionaries(st.sampled_from(["1889", "Eiffel", "word", "so"]), st.just(0.1)),
)
def test_any_backend_comes_to_an_end_within_the_budget(
    name: str,
    answers: list[str],
    can: set[Any],
    limit: int | None,
    doubt: dict[str, float],
) -> None:
    count = iter(range(10**6))

    def answer(request: Request) -> str:
        return answers[next(count) % len(answers)]

    backend = Obeying(answer, tuple(can), doubt)
    told = run(registry.plan(name, tokens=limit), backend, asking(QUESTION, max_tokens=40))
    account = told.account
    assert len(account.calls) == len(backend.requests) < 100
    context = Context(count=WORDS)
    assert account.prompt == sum(context.tokens(one.prompt) for one in backend.requests)
    assert account.spent == sum(call.prompt + call.completion for call in account.calls)
    assert all(0 <= call.wasted <= call.completion for call in account.calls)
    assert limit is None or account.spent <= limit


@every_plan
def test_the_same_run_twice_tells_the_same(name: str) -> None:
    first, second = (
        run(registry.plan(name), Obeying(lambda request: "In 1889. It is tall."), QUESTION)
        for _ in range(2)
    )
    assert first == second


def test_a_failing_backend_is_told_to_the_caller() -> None:
    with pytest.raises(BackendError, match="down"):
        run(Rag(), Obeying([BackendError("down")]), QUESTION)


def test_the_question_is_the_last_that_the_user_said() -> None:
    turns = [Segment(text=text, turn=i) for i, text in enumerate(["Hello.", "Where is it?"])]
    assert question_of(Prompt(tuple(turns))) == "Where is it?"


def test_a_prompt_of_context_alone_asks_its_question() -> None:
    prompt = Prompt((Segment(text="Long.", turn=0),), "Where?", turns=1)
    bare = without_context(prompt)
    assert (bare.text, bare.turns) == ("Where?", 1)


def test_texts_stand_around_what_the_user_asks() -> None:
    prompt = asking("Where?", Segment(text="Rules.", role="system", turn=-1, path=("s",))).prompt
    assert messages_of(before(prompt, "A", "B"))[-1]["content"] == "A\n\nB\n\nWhere?"
    assert messages_of(after(prompt, "A"))[-1]["content"] == "Where?\n\nA"
    assert messages_of(begun(prompt, "In"))[-1] == {"role": "assistant", "content": "In"}


def test_templates_keep_other_braces() -> None:
    assert filled('{a} {"b": {c}} {a}', a="{c}") == '{c} {"b": {c}} {c}'


def test_only_as_many_are_asked_as_can_be_paid() -> None:
    purse = Purse(Context(count=WORDS), 20)
    requests = [asking("one two three four", max_tokens=3) for _ in range(4)]
    steps = purse.ask(requests, "judge")
    assert len(list(next(steps))) == 2  # type: ignore[call-overload]
    with pytest.raises(StopIteration):
        steps.send([Completion(text="a b c", completion_tokens=3)] * 2)
    assert purse.left == 20 - 2 * (4 + 2 + 3)
