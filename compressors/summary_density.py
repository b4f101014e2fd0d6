"""Have a summary rewritten so that it tells more in the same length (Chain of Density).

Adams et al. 2023, https://arxiv.org/abs/2309.04269. There the model names what is missing; here it
is looked up in the text, which costs no tokens, and a round that gained nothing is not taken.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from tersely.compressors.summary_run import Run
from tersely.compressors.summary_words import DENSER
from tersely.facts import Fact, facts_of
from tersely.known import Known
from tersely.lexical import relevance
from tersely.plans import Reply, Step
from tersely.units import split

ADDED = 3
"""What a summary is to tell besides after each round, at most."""

TELLING = frozenset({"name", "date", "number", "id"})
"""The kinds of facts that make a summary denser."""


def denser(run: Run, text: str, rounds: int) -> Generator[Step, Reply, str]:
    """The summary after so many rounds, none longer than the target.

    A round is taken only when what the text bears out of it tells more than before.
    """
    facts = _facts(run) if rounds and text else []
    for _ in range(rounds if facts else 0):
        known = Known.of(text)
        missing = [one for one in facts if not known.holds(one.fact)][:ADDED]
        if not missing:
            break
        values = {
            "text": "\n".join(dict.fromkeys(one.sentence for one in missing)),
            "summary": text,
            "missing": "; ".join(one.fact.text for one in missing),
        }
        (made,) = yield from run.ask(DENSER, [values], [run.target], "denser")
        better = run.checked(made, run.text) if run.tokens(made) < run.size else ""
        if run.tokens(better) > run.target or _told(better, facts) <= _told(text, facts):
            run.tell("a rewriting that told no more in the same length was not taken")
            break
        text = better
    return text


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact of the text, and a sentence that tells it."""

    fact: Fact
    sentence: str


def _facts(run: Run) -> list[Missing]:
    """What a summary may tell, the most telling first: where the question is answered, or often."""
    texts = split(run.text, "sentence").texts
    worth = relevance(texts, run.question) if run.question else np.zeros(0)
    worth = worth if worth.any() else np.ones(len(texts))
    first: dict[tuple[object, ...], tuple[float, Missing]] = {}
    total: dict[tuple[object, ...], float] = {}
    for sentence, value in zip(texts, worth.tolist(), strict=True):
        for fact in _telling(sentence):
            key = (fact.kind, *fact.key)
            total[key] = total.get(key, 0.0) + value
            if key not in first or value > first[key][0]:
                first[key] = (value, Missing(fact, sentence))
    ranked = sorted(total, key=lambda key: -total[key])
    return [first[key][1] for key in ranked if total[key] > 0]


def _telling(sentence: str) -> Iterator[Fact]:
    """Facts worth telling; numbers only in digits, since `two` is one of many words."""
    for fact in facts_of(sentence):
        if fact.kind in TELLING and (fact.kind != "number" or any(map(str.isdigit, fact.text))):
            yield fact


def _told(summary: str, facts: list[Missing]) -> int:
    """How many of these facts a summary tells."""
    known = Known.of(summary)
    return sum(known.holds(one.fact) for one in facts)
