"""LLMLingua's budget controller: shares for each kind, and demonstrations chosen whole."""

from __future__ import annotations

import pydoc_data.topics as topics
from collections import Counter as Tally
from pathlib import Path
from typing import Any

import pytest

from tersely.contracts import Context
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline
from tersely.prompt import Prompt, Segment
from tersely.registry import stage
from tersely.tokens import counter

KINDS = ("instruction", "example", "context", "question")
SHARES = {"instruction": 0.85, "example": 0.3, "context": 0.5, "question": 0.9}
INSTRUCTION = topics.topics["with"][:900]
SHOTS = [topics.topics["while"][:600], topics.topics["if"][:600], topics.topics["lambda"][:600]]
MATERIAL = topics.topics["for"][:1500]
QUESTION = (
    "Which of these statements has a clause that runs when no break was met, and why is it so?"
)


def passed(request: Any, model: Path, **budget: Any) -> Result:
    recipe = stage("llmlingua", kinds=KINDS, model=str(model))
    return Pipeline(recipe, model="gpt-4o", budget=budget, strict=True).run(request)


def shares_of(result: Result) -> dict[str, float]:
    """What is left of the tokens of each kind."""
    assert result.trace is not None
    context = Context(count=counter("gpt-4o"))
    sizes: list[Tally[str]] = []
    for prompt in (result.trace.before, result.trace.after):
        tally: Tally[str] = Tally()
        for segment in prompt.segments:
            tally[segment.kind] += context.tokens_of([segment.text])[0]
        sizes.append(tally)
    return {kind: sizes[1][kind] / sizes[0][kind] for kind in sizes[0]}


CHAT = [
    {"role": "system", "content": INSTRUCTION},
    *({"role": "system", "name": "example_user", "content": shot} for shot in SHOTS),
    {"role": "user", "content": f"{MATERIAL}\n\nQuestion: {QUESTION}"},
]
MAPPING = {
    "instruction": INSTRUCTION,
    "examples": SHOTS,
    "context": MATERIAL,
    "question": QUESTION,
}


@pytest.mark.parametrize("request_", [CHAT, MAPPING], ids=["chat", "mapping"])
def test_each_kind_keeps_its_own_share(request_: Any, tiny_llama: Path) -> None:
    result = passed(request_, tiny_llama, shares=SHARES)
    left = shares_of(result)
    assert set(left) == set(SHARES)
    for kind, share in SHARES.items():
        assert share - 0.15 < left[kind] <= share + 0.01, kind
    assert result.report.met


@pytest.mark.parametrize("request_", [CHAT, MAPPING], ids=["chat", "mapping"])
def test_a_ceiling_holds_beside_the_shares(request_: Any, tiny_llama: Path) -> None:
    tokens = counter("gpt-4o")(INSTRUCTION)
    result = passed(request_, tiny_llama, shares=SHARES, tokens=tokens * 2)
    assert result.report.after <= tokens * 2
    assert all(share <= SHARES[kind] + 0.01 for kind, share in shares_of(result).items())


def test_instruction_and_question_stay_unless_they_are_named(tiny_llama: Path) -> None:
    recipe = stage("llmlingua", model=str(tiny_llama))
    output = Pipeline(recipe, budget=0.3).run(MAPPING).output
    assert output["instruction"] == INSTRUCTION
    assert output["question"] == QUESTION
    assert output["examples"] != SHOTS


def test_demonstrations_are_chosen_whole_before_words(tiny_llama: Path) -> None:
    """Of three texts the best goes first as a whole, though it has a blank line."""
    shots = [f"{shot[:300]}\n\n{shot[300:]}" for shot in SHOTS]
    prompt = Prompt(
        tuple(Segment(text=shot, kind="example", path=(i,)) for i, shot in enumerate(shots))
    )
    context = Context(count=counter("gpt-4o"))
    limit = min(context.tokens_of(shots)) // 2
    recipe = stage("llmlingua", model=str(tiny_llama), coarse=1)
    texts = [segment.text for segment in recipe(prompt, context.within(limit)).segments]
    left = sorted(len(text.split()) for text in texts)
    assert left[-1] > 10
    assert left[:-1] == [1, 1]
    assert "\n\n" in max(texts, key=len)


def test_paragraphs_of_a_single_text_are_its_demonstrations(tiny_llama: Path) -> None:
    prompt = Prompt((Segment(text="\n\n".join(SHOTS), kind="example"),))
    context = Context(count=counter("gpt-4o"), limit=100)
    few = stage("llmlingua", model=str(tiny_llama), coarse=1)(prompt, context)
    many = stage("llmlingua", model=str(tiny_llama), coarse=1000)(prompt, context)
    assert few.text.count("\n\n") < many.text.count("\n\n")
