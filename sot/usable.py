"""Whether a skeleton is of use: what keeps a line out of it, and what is wrong with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import regex

from tersely.lexical import terms_of
from tersely.retrieval import Embedder, Vectors

if TYPE_CHECKING:
    from tersely.sot.skeleton import Point, Skeleton

FRESH = 0.5
"""The part of the lines that must say something new: a model that repeats itself more is lost."""

LONG = 16
"""Words of a line above which it is no heading but a piece of the answer."""

FEWEST_OWN, FEWEST_ASKED = 3, 6
"""Words in a row from which on a line is copied: from the plan's own words, and from the user's,
whose aspects may be points by right."""

WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")


@dataclass(eq=False, slots=True)
class Sieve:
    """Keeps out what is said already: by an earlier line, or by the prompt.

    Two lines say the same when they have as large a part of their words in common as `merge`, or
    when an `embedder` is given and the cosine of their vectors is as high. `own` is what the plan
    says to the model, `asked` what the user does. An embedder that fails is not asked again, and
    `failed` tells why.
    """

    merge: float = 1.0
    embedder: Embedder | None = None
    own: str = ""
    asked: str = ""
    failed: str = ""
    _vectors: dict[str, Vectors] = field(default_factory=dict)

    def fault(self, text: str, points: Sequence[Point]) -> tuple[str, int]:
        """Why a line is kept out, and the number of the point that says the same.

        "" and 0 where it isn't; 0 also where the line is copied from the prompt.
        """
        for point in points:
            if told := self._alike(text, point.text):
                return f"it says the same as point {point.number} ({told})", point.number
        return self._copied(text), 0

    def _alike(self, text: str, other: str) -> str:
        """How two lines say the same; empty where they don't."""
        part = _common(_key(text), _key(other))
        if part >= self.merge:
            return "by its words" if part == 1 else f"{part:.2f} of the words"
        if self.embedder is None or self.failed:
            return ""
        try:
            cosine = float(self._vector(text) @ self._vector(other))
        except Exception as error:  # an embedder is anybody's: words are left to go by
            self.failed = f"{type(error).__name__}: {error}"
            return ""
        return f"{cosine:.2f} by its meaning" if cosine >= self.merge else ""

    def _vector(self, text: str) -> Vectors:
        if text not in self._vectors and self.embedder is not None:
            self._vectors[text] = self.embedder.documents([text])[0]
        return self._vectors[text]

    def _copied(self, text: str) -> str:
        for source, fewest, whose in (
            (self.own, FEWEST_OWN, "the instruction"),
            (self.asked, FEWEST_ASKED, "the question"),
        ):
            words = WORD.findall(text.casefold())
            if len(words) >= fewest and _within(words, WORD.findall(source.casefold())):
                return f"it is copied from {whose}"
        return ""


def verdict(skeleton: Skeleton) -> str:
    """What is wrong with the lines that are closed by now; empty where they are of use."""
    kept, out = skeleton.points, skeleton.left_out
    if len(kept) < FRESH * (len(kept) + len(out)):
        copied = sum("copied" in reason for reason in out.values())
        what = "are copied from the prompt" if 2 * copied > len(out) else "say the same as others"
        return f"{len(out)} of its {len(kept) + len(out)} lines {what}"
    long = sum(len(WORD.findall(point.text)) > LONG for point in kept)
    if 2 * long > len(kept):
        return f"{long} of its {len(kept)} lines are longer than {LONG} words"
    return ""


def _key(text: str) -> frozenset[str]:
    """What two lines that say the same have in common."""
    return frozenset(terms_of(text)) or frozenset(text.casefold().split())


def _common(left: frozenset[str], right: frozenset[str]) -> float:
    """The part of the words of two lines that both have: 0 to 1."""
    return len(left & right) / max(len(left | right), 1)


def _within(words: Sequence[str], source: Sequence[str]) -> bool:
    """Whether words stand in a row in others."""
    return f" {' '.join(words)} " in f" {' '.join(source)} "
