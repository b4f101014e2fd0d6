"""Keep of a summary what its source holds, and tell of each sentence what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tersely.facts import BULLET, Fact, roots_of
from tersely.known import Known
from tersely.mending import mended
from tersely.prompt import Span
from tersely.retrieval import Vectors
from tersely.units import split

Fate = Literal["kept", "mended", "dropped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A sentence of a summary: what it `was`, what became of it, and why.

    `sources` are the characters of the source that say the same, the best first, and `support` is
    the share of the sentence's words that stand there, 0 to 1. A dropped one has no `text`.
    """

    text: str
    was: str
    fate: Fate = "kept"
    reason: str = ""
    sources: tuple[Span, ...] = ()
    support: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithful:
    """A summary of which every sentence rests on its source.

    `coverage` is the share of the question's words, of those that the source has, that the summary
    has too, and `uncovered` are the others. `refused` tells why there is no text.
    """

    text: str = ""
    sentences: tuple[Told, ...] = ()
    coverage: float = 1.0
    uncovered: tuple[str, ...] = ()
    refused: str = ""

    @property
    def dropped(self) -> tuple[Told, ...]:
        """The sentences that are not in the text."""
        return tuple(one for one in self.sentences if one.fate == "dropped")


@dataclass(frozen=True, slots=True)
class Entailment:
    """Whether a source says what a sentence says, by their meaning.

    `vectors` gives texts as vectors of length 1. A sentence must be as near as `least` (a cosine)
    to what it rests on.
    """

    vectors: Callable[[Sequence[str]], Vectors]
    least: float = 0.5

    def __call__(self, sentence: str, source: str, /) -> bool:
        said, known = self.vectors([sentence, source])
        return float(np.dot(said, known)) >= self.least


def faithful(
    summary: str,
    source: str | Known,
    *,
    question: str = "",
    size: Callable[[str], int] = len,
    entails: Callable[[str, str], bool] | None = None,
) -> Faithful:
    """What is left of a summary when all that its source does not hold is mended or dropped.

    Looked up are every number, date, name, id, link, quotation and negation, and whether the
    source negates what is stated. A sentence that copies one of the source, or lacks nothing,
    stays byte for byte; another is mended by rule (`tersely.mending`) or dropped. `entails` is
    asked about each sentence with what it rests on, as a last word. A summary that is not shorter
    than its source by `size` is refused.

    What is not said with such a fact is not looked up: that `Ann pays Bob` became `Bob pays Ann`
    is not noticed, unless `entails` does.
    """
    known = Known.of(source) if isinstance(source, str) else source
    if summary.strip() and size(summary) >= size(known.text):
        return Faithful(
            refused=f"{size(summary)} is no less than the {size(known.text)} there were"
        )
    units = split(summary, "sentence")
    told = tuple(_told(one, known, entails) for one in units.texts)
    spans = zip(units.starts.tolist(), units.ends.tolist(), strict=True)
    text = "".join(_joined(summary, list(spans), told))
    asked = list(dict.fromkeys(one for one in roots_of(question) if one in known.holders))
    said = set(roots_of(text))
    uncovered = tuple(one for one in asked if one not in said)
    return Faithful(
        text=text,
        sentences=told,
        coverage=1 - len(uncovered) / len(asked) if asked else 1.0,
        uncovered=uncovered,
    )


def _told(sentence: str, known: Known, entails: Callable[[str, str], bool] | None) -> Told:
    """What becomes of a sentence."""
    lacking = known.lacks(sentence)
    text = mended(sentence, known) if lacking else sentence
    if lacking and not text:
        return Told(text="", was=sentence, fate="dropped", reason=_named(lacking))
    sources, support = known.sources(text)
    if turned := known.turned(text):
        reason = f"the source negates {turned!r}"
        return Told(text="", was=sentence, fate="dropped", reason=reason, sources=sources)
    if entails is not None and not _rests(text, known, sources, entails):
        reason = "the source says something else"
        return Told(text="", was=sentence, fate="dropped", reason=reason, sources=sources)
    return Told(
        text=text,
        was=sentence,
        fate="mended" if lacking else "kept",
        reason=_named(lacking),
        sources=sources,
        support=support,
    )


def _rests(
    text: str, known: Known, sources: Sequence[Span], entails: Callable[[str, str], bool]
) -> bool:
    """Whether what a sentence rests on says it, in the order of the source."""
    bare = text[found.end() :] if (found := BULLET.match(text)) else text
    there = " ".join(known.text[start:end] for start, end in sorted(sources))
    return not roots_of(bare) or (bool(there) and entails(bare, there))


def _named(lacking: Sequence[Fact]) -> str:
    """What is not in the source."""
    if not lacking:
        return ""
    return "not in the source: " + ", ".join(f"{one.kind} {one.text!r}" for one in lacking)


def _joined(summary: str, spans: Sequence[Span], told: Sequence[Told]) -> Iterator[str]:
    """The sentences that are left, with what stood before each of them."""
    begun = False
    for i, one in enumerate(told):
        if one.text:
            if begun:
                yield summary[spans[i - 1][1] : spans[i][0]]
            yield one.text
            begun = True
