"""Asking with what a search finds: in one go, piece by piece, blocking and not."""

from __future__ import annotations

import asyncio

import pytest
from little_library import Library, Obeying

from tersely.account import Account, RagAnswer
from tersely.contracts import Completion, Context, Request
from tersely.errors import ConfigError, UnknownName
from tersely.middleware.answer import aanswer, answer, astream_answer, stream_answer
from tersely.plans import Steps
from tersely.prompt import Prompt, Segment
from tersely.rag.plan_rag import Rag
from tersely.tokens import counter

QUESTION = "When was the Eiffel Tower completed?"
SAID = "It was completed in 1889 [1]."


def test_an_answer_with_its_sources_and_its_account() -> None:
    told = answer(QUESTION, searcher=Library(), backend=Obeying([SAID]), model="gpt-4o", k=2)
    assert (told.text, told.finish_reason) == (SAID, "stop")
    assert told.passages[told.citations[0].numbers[0] - 1].id == "tower"
    assert told.account.prompt == told.prompt_tokens
    assert told.account.exact == counter("gpt-4o").exact


def test_all_four_ways_tell_the_same() -> None:
    given = {"searcher": Library(), "plan": "flare", "max_tokens": 20, "model": "gpt-4o"}
    said = f"{SAID} It stands in Paris."

    def backend() -> Obeying:
        return Obeying(lambda request: said[len(_begun(request)) :], ("logprobs", "prefill"))

    async def heard() -> tuple[list[str], RagAnswer]:
        telling = astream_answer(QUESTION, backend=backend(), **given)
        return [text async for text in telling], telling.answer

    at_once = answer(QUESTION, backend=backend(), **given)
    assert asyncio.run(aanswer(QUESTION, backend=backend(), **given)) == at_once
    telling = stream_answer(QUESTION, backend=backend(), **given)
    pieces = list(telling)
    assert (len(pieces), "".join(pieces), telling.answer) == (2, said, at_once)
    assert asyncio.run(heard()) == (pieces, at_once)


def _begun(request: Request) -> str:
    last = request.prompt.segments[-1]
    return last.text if last.role == "assistant" else ""


def test_the_answer_is_not_there_before_its_end() -> None:
    telling = stream_answer(QUESTION, searcher=Library(), backend=Obeying([SAID]))
    assert next(iter(telling)) == "It"
    with pytest.raises(ConfigError, match="has not ended"):
        _ = telling.answer


def test_a_prompt_and_a_plan_of_ones_own() -> None:
    rules = Segment(text="Be brief.", role="system", kind="instruction", path=("s",))
    asked = Segment(text=QUESTION, kind="question", turn=1, path=("q",))
    backend = Obeying([SAID])
    prompt = Prompt((rules, asked), QUESTION, turns=2)
    told = answer(prompt, searcher=Library(), backend=backend, plan=Rag(k=1))
    assert told.text == SAID
    assert backend.requests[0].prompt.segments[0] == rules


def test_a_plan_that_tells_no_more_than_its_text() -> None:
    class Known:
        def steps(self, request: Request, context: Context, /) -> Steps:
            return Completion(text="known")
            yield []

    told = answer(QUESTION, searcher=Library(), backend=Obeying([]), plan=Known())
    assert (told.text, told.account) == ("known", Account())


def test_what_can_not_work_is_told() -> None:
    given = {"searcher": Library(), "backend": Obeying([])}
    with pytest.raises(UnknownName, match="flare"):
        answer(QUESTION, plan="flair", **given)
    with pytest.raises(ConfigError, match="no question"):
        answer("  ", **given)
    with pytest.raises(ConfigError, match="settings go with a plan's name"):
        answer(QUESTION, plan=Rag(), k=3, **given)


@pytest.mark.model
@pytest.mark.parametrize("plan", ["flare", "self_rag", "replug"])
def test_a_plan_with_a_real_model(plan: str, smollm2: object) -> None:
    from tersely.registry import backend

    told = answer(
        QUESTION,
        searcher=Library(),
        backend=backend("local"),
        plan=plan,
        max_tokens=8,
        tokens=2_000,
        k=2,
        evidence={"tokens": 120},
    )
    account = told.account
    assert told.text.strip() and account.exact
    assert 0 < account.spent <= 2_000
    assert "1889" in told.evidence
