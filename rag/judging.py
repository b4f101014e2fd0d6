"""Yes or no, by how likely a model holds each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import exp

import regex

from tersely.contracts import Completion, Request
from tersely.prompt import Prompt, Segment
from tersely.rag.fence import Fence, harmless

ALTERNATIVES = 20
"""Likeliest tokens that are asked for: what most servers tell at most."""

FLOOR = 1e-6
"""The least chance that a token is given where others are told and it is not."""

SPOKEN = 4
"""Tokens of a judgement where chances can't be had: it may open with a space or a mark."""

LETTERS = regex.compile(r"\p{L}+")
UNSURE = 0.5


def judgement(text: str, *, alternatives: bool, request: Request) -> Request:
    """The request that asks for one word, Yes or No."""
    asked = Segment(text=text, kind="question", locked=True, path=("judgement",))
    return replace(
        request,
        prompt=Prompt((asked,), question=text, turns=1),
        max_tokens=1 if alternatives else SPOKEN,
        temperature=0.0,
        stop=(),
        alternatives=ALTERNATIVES if alternatives else 0,
        logprobs=alternatives,
    )


def fenced(text: str, fence: Fence | None) -> str:
    """Retrieved text as it may stand in a judgement: as data."""
    if fence is None:
        return text
    bare, _ = harmless(text, fence.tokens)
    begin, end = fence.model_copy(update={"notice": ""}).frame([bare])
    return f"{begin}{bare}{end}"


def chance_of_yes(told: Completion) -> float:
    """How likely the answer is Yes, of Yes and No alone: 0 to 1.

    The chances of all spellings (case, spaces) are added up. A word that is not among the
    likeliest tokens is held to be as likely as the least of them, or as what is left. Without
    alternatives the text decides, and 0.5 is the answer to a text that says neither.
    """
    if told.alternatives:
        said = _merged(told.alternatives[0])
        if said.keys() & {"yes", "no"}:
            listed = [exp(min(one, 0.0)) for one in told.alternatives[0].values()]
            floor = max(min(*listed, 1 - sum(listed)), FLOOR)
            yes, no = said.get("yes", floor), said.get("no", floor)
            return yes / (yes + no) if yes + no else UNSURE
    word = LETTERS.search(told.text.lower())
    return {"yes": 1.0, "no": 0.0}.get(word[0] if word else "", UNSURE)


def _merged(alternatives: Mapping[str, float]) -> dict[str, float]:
    """The chance of each word, whatever its case and the marks around it."""
    chances: dict[str, float] = {}
    for token, logprob in alternatives.items():
        word = LETTERS.search(token.lower().lstrip("ġ▁"))
        if word:
            chances[word[0]] = chances.get(word[0], 0.0) + exp(min(logprob, 0.0))
    return chances
