"""How much of a reference a summary holds: ROUGE, and how near it comes by meaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from tersely.compressors.sentences import vectors
from tersely.contracts import Context
from tersely.tokens import counter
from tersely.units import split

SCORES = ("rouge1", "rouge1_f", "rouge2", "rouge2_f", "rougeL", "rougeL_f", "similarity")
"""Recall, and the harmonic mean with precision."""


def scores(answer: str, made: str) -> dict[str, float]:
    """What a summary holds of a reference, each from 0 to 1; `similarity` is a cosine."""
    return rouge(answer, made) | {"similarity": _similarity(answer, made)}


def rouge(answer: str, made: str) -> dict[str, float]:
    """ROUGE as the package rouge-score reckons it with its stemmer, many times as fast."""
    wanted, said = _words(answer), _words(made)
    found: dict[str, float] = {}
    for size in (1, 2):
        common = (_runs(wanted, size) & _runs(said, size)).total()
        found |= _both(f"rouge{size}", common, len(wanted) - size + 1, len(said) - size + 1)
    return found | _both("rougeL", _in_order(wanted, said), len(wanted), len(said))


def check(answer: str, made: str) -> None:
    """Raise ValueError where the package comes to another score."""
    from rouge_score.rouge_scorer import RougeScorer

    ours = rouge(answer, made)
    names = ["rouge1", "rouge2", "rougeL"]
    for name, found in RougeScorer(names, use_stemmer=True).score(answer, made).items():
        if max(abs(found.recall - ours[name]), abs(found.fmeasure - ours[f"{name}_f"])) > 1e-9:
            raise ValueError(f"{name} is {found}, here {ours[name]}")


def _both(name: str, common: int, wanted: int, said: int) -> dict[str, float]:
    recall, precision = common / max(wanted, 1), common / max(said, 1)
    total = recall + precision
    return {name: recall, f"{name}_f": 2 * recall * precision / total if total else 0.0}


def _words(text: str) -> list[str]:
    from rouge_score.tokenize import tokenize

    found: list[str] = tokenize(text, _stemmer())
    return found


@cache
def _stemmer() -> Any:
    """The package's stemmer, which stems each word once."""
    from nltk.stem.porter import PorterStemmer

    stem = cache(PorterStemmer().stem)
    return type("Stemmer", (), {"stem": staticmethod(stem)})()


def _runs(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(size)), strict=False))


def _in_order(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, a whole row of the table as one number.

    Hyyro 2004, https://doi.org/10.1016/j.ipl.2003.09.014.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(one):
        places[word] = places.get(word, 0) | (1 << i)
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        here = row & places.get(word, 0)
        row = ((row + here) | (row - here)) & full
    return len(one) - row.bit_count()


def _similarity(answer: str, made: str) -> float:
    """How near each sentence of the reference comes to one of the summary: the mean cosine."""
    said, kept = split(answer, "sentence").texts, split(made, "sentence").texts
    if not kept:
        return 0.0
    rows = vectors([*said, *kept], "minilm", Context(count=counter("gpt-4o")))
    return float((rows[: len(said)] @ rows[len(said) :].T).max(axis=1).mean())
