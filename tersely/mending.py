"""Mend a sentence that states what its source does not: by rule, and only by leaving things out."""

from __future__ import annotations

from collections.abc import Iterator

import regex

from tersely.facts import CUE, Fact, overlaps
from tersely.known import Known
from tersely.lexical import terms_of

ROUNDS = 4
"""How often one sentence is mended: each round settles one fact or gives it up."""

BRACKETED = regex.compile(r"\s*+(?:\([^()\n]*+\)|\[[^\[\]\n]*+\])")
OPENING = regex.compile(r"\A[^,;\n]{1,80}+,\s++")
INSERTED = regex.compile(r",\s[^,;\n]{1,120}+(?=,\s)|\s[–—]\s[^–—\n]{1,120}+\s[–—](?=\s)")  # noqa: RUF001
TRAILING = regex.compile(r"(?:[,;]|\s[–—-])\s[^,;\n]{1,160}?(?=[.!?…][\p{Pe}\p{Pf}\"']*+\s*+\Z|\Z)")  # noqa: RUF001

TURNS = regex.compile(
    rf"{CUE.pattern}|(?i)\b(?:but|only|if|though|although|unlike|instead|rather|or|hardly|fail\w*+)\b"
)
"""What must not be left out: the rest would say something else without it."""

LEAST = 3
"""Words that say something, of which a sentence has at least as many when it was mended."""


def mended(sentence: str, known: Known) -> str:
    """The sentence without what its source does not hold, or "" where that can't be had.

    A name that is one letter off the only such name of the source is set right; quotation marks
    go where the words were not said so; then what stands in brackets, between commas or dashes,
    before the first comma or behind the last is left out, unless it turns the sense round.
    """
    for _ in range(ROUNDS):
        lacking = known.lacks(sentence)
        if not lacking:
            return sentence
        better = next(
            (one for one in _ways(sentence, lacking[0], known) if _is_better(one, lacking, known)),
            None,
        )
        if better is None:
            return ""
        sentence = better
    return ""


def _is_better(sentence: str, lacking: list[Fact], known: Known) -> bool:
    enough = len(terms_of(sentence)) >= LEAST
    return enough and len(known.lacks(sentence)) < len(lacking)


def _ways(sentence: str, fact: Fact, known: Known) -> Iterator[str]:
    """The ways to settle one fact, the gentlest first."""
    if fact.kind == "name":
        for word in map(str, fact.key):
            if right := known.nearest_name(word):
                at = sentence.index(word, fact.start)
                yield sentence[:at] + right + sentence[at + len(word) :]
    if fact.kind == "quotation":
        yield sentence[: fact.start] + fact.text[1:-1] + sentence[fact.end :]
    for pattern in (BRACKETED, INSERTED, TRAILING, OPENING):
        for match in pattern.finditer(sentence):
            if overlaps(match.span(), fact) and TURNS.search(match[0]) is None:
                yield _without(sentence, match)


def _without(sentence: str, match: regex.Match[str]) -> str:
    """A sentence without a stretch, with a capital at its head."""
    start, end = match.span()
    if start == 0:
        rest = sentence[end:]
        return rest[:1].upper() + rest[1:]
    if match.re is INSERTED and sentence[start] == ",":
        end += 1
    return sentence[:start] + sentence[end:]
