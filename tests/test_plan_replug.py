"""REPLUG: passages vote, token by token or answer by answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_library import PASSAGES, WORDS, Library, Obeying, asking, run

from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Completion, Request
from tersely.errors import BackendError
from tersely.prompt import messages_of
from tersely.rag.plan_replug import Replug, plain, weighed

QUESTION = "When was the Eiffel Tower completed?"


class Scored(Library):
    """Finds the first passages, with given scores."""

    def __init__(self, *scores: float) -> None:
        super().__init__(
            [replace(one, score=score) for one, score in zip(PASSAGES, scores, strict=False)]
        )

    def search(self, question: str, k: int, /) -> list:  # type: ignore[type-arg]
        return self.passages[:k]


def test_a_backend_that_mixes_gives_one_answer() -> None:
    seen: list[Sequence[float]] = []

    def mixed(requests: Sequence[Request], weights: Sequence[float]) -> str:
        seen.append(weights)
        return "In 1889."

    backend = ScriptedBackend([], mix=mixed)
    answer = run(Replug(k=3), backend, QUESTION, Scored(9, 8, 7))
    assert (answer.text, len(backend.requests)) == ("In 1889.", 3)
    assert sum(seen[0]) == pytest.approx(1)
    assert list(seen[0]) == sorted(seen[0], reverse=True)
    (call,) = answer.account.calls
    prompts = [WORDS(request.prompt.text) for request in backend.requests]
    assert call.prompt == sum(prompts) + 3 * 2
    assert [one.id for one in answer.passages] == ["tower", "founder", "dijon"]


def test_the_prompts_share_all_but_the_passage() -> None:
    backend = ScriptedBackend([], mix=lambda requests, weights: "In 1889.")
    run(Replug(k=2), backend, QUESTION, Scored(9, 8))
    one, two = (messages_of(request.prompt)[0]["content"] for request in backend.requests)
    shared = f"{QUESTION}\n\n{Replug().instruction}\n\n"
    assert one.startswith(shared) and two.startswith(shared)
    assert "[1]" in one and "[2]" in two and "Dijon in 1832" not in one


def test_elsewhere_the_likeliest_answer_wins() -> None:
    answers = ["In 1887.", "1889", "The 1889."]
    backend = Obeying(answers, ("logprobs",), {"1887": 0.6, "1889": 0.9})
    answer = run(Replug(k=3), backend, QUESTION, Scored(8, 8, 8))
    assert answer.text == "1889"
    assert "2 of 3 passages speak for the answer" in answer.account.notes
    assert [call.wasted for call in answer.account.calls] == [2, 0, 2]
    assert all(request.max_tokens == 32 for request in backend.requests)


def test_weights_and_chances_count() -> None:
    backend = Obeying(["1887", "1889"], ("logprobs",), {"1887": 0.9, "1889": 0.2})
    assert run(Replug(k=2), backend, QUESTION, Scored(8, 8)).text == "1887"
    backend = Obeying(["1887", "1889"], ("logprobs",), {"1887": 0.3, "1889": 0.9})
    assert run(Replug(k=2, tau=4), backend, QUESTION, Scored(9, 1)).text == "1889"


def test_long_answers_are_not_voted_on() -> None:
    long = "word " * 20
    backend = Obeying([long, long, "In 1889 [1]."], ("logprobs",))
    answer = run(Replug(k=2), backend, QUESTION, Scored(8, 8))
    assert answer.text == "In 1889 [1]."
    assert "short" in answer.account.notes[0]


def test_a_backend_that_can_do_neither_is_asked_plainly() -> None:
    backend = Obeying(["In 1889 [1]."])
    answer = run(Replug(k=2), backend, QUESTION, Scored(8, 8))
    assert (answer.text, len(backend.requests)) == ("In 1889 [1].", 1)
    assert "neither mixes" in answer.account.notes[0]


def test_one_passage_needs_no_vote() -> None:
    backend = ScriptedBackend(["In 1889."], mix=lambda requests, weights: "mixed")
    answer = run(Replug(k=1), backend, QUESTION)
    assert answer.text == "In 1889."
    assert "no two passages" in answer.account.notes[0]


def test_a_mix_that_fails_is_plain_retrieval() -> None:
    backend = ScriptedBackend(lambda one: "In 1889.", mix=lambda *_: BackendError("no memory"))
    answer = run(Replug(k=2), backend, QUESTION, Scored(8, 8))
    assert answer.text == "In 1889."
    assert answer.account.notes == ("plain retrieval: no memory",)


def test_faint_passages_are_not_asked() -> None:
    backend = ScriptedBackend([], mix=lambda requests, weights: "In 1889.")
    run(Replug(k=4, tau=0.2), backend, QUESTION, Scored(9, 9, 1, 1))
    assert len(backend.requests) == 2


def test_fewer_passages_where_the_budget_is_small() -> None:
    backend = ScriptedBackend([], mix=lambda requests, weights: "In 1889.")
    answer = run(Replug(k=4, tokens=220), backend, asking(QUESTION, max_tokens=8), Scored(*[8] * 4))
    assert 2 <= len(backend.requests) <= 4
    assert answer.account.spent <= 220


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12),
    st.floats(0.05, 10),
)
def test_weights_are_a_distribution_that_follows_the_scores(
    scores: list[float], tau: float
) -> None:
    weights = weighed(scores, tau)
    assert weights.sum() == pytest.approx(1)
    kept = weights[weights > 0]
    assert (kept >= 1 / (4 * len(scores)) - 1e-9).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(weights[order]) >= -1e-9).all()


def test_negative_scores_and_their_scale_change_nothing() -> None:
    assert weighed([-3, -1, 2], 1) == pytest.approx(weighed([7, 9, 12], 1))
    assert weighed([0.3, 0.4, 0.55], 1) == pytest.approx(weighed([3, 4, 5.5], 1))


def test_answers_are_compared_without_their_dress() -> None:
    assert plain("The  Eiffel-Tower!") == plain("eiffel tower")
    assert plain("In 1889.") != plain("In 1887.")


def test_a_mixed_answer_that_can_not_be_paid() -> None:
    backend = ScriptedBackend([], mix=lambda requests, weights: Completion(text="x"))
    answer = run(Replug(tokens=5), backend, QUESTION, Scored(8, 8))
    assert (answer.text, backend.requests) == ("", [])


def test_votes_that_come_to_nothing_are_better_than_no_answer() -> None:
    backend = Obeying(lambda request: "word " * 20, ("logprobs",))
    asked = asking(QUESTION, max_tokens=64)
    answers = {
        limit: run(Replug(k=2, tokens=limit), backend, asked) for limit in range(60, 400, 20)
    }
    assert all(one.account.spent <= limit for limit, one in answers.items())
    assert all(one.text for limit, one in answers.items())
