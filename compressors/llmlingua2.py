"""Keep the words that a trained classifier would keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Literal

import numpy as np
import regex
from pydantic import Field

from tersely.compressors.chances import Pool, chances_of
from tersely.compressors.prune import Foreseeing, Wanted, room
from tersely.contracts import Context
from tersely.errors import ModelError, require
from tersely.models import resolve
from tersely.prompt import Prompt, Segment, Span
from tersely.protect import protected
from tersely.select import FORCED, Part
from tersely.units import Bools, Floats, Ints, Units

FIRST = 3
"""The rank of what the settings force: before all else, as far as the budget goes."""

DIGITS = 2
"""The rank of words with digits, where these are to go first."""

LAST = -1
"""The rank of what is said again: only when all else is kept."""


class LLMLingua2(Foreseeing):
    """LLMLingua-2: keeps the words that a trained classifier would keep, in one pass of it.

    `model` is a folder or hub id: a published checkpoint
    (`microsoft/llmlingua-2-xlm-roberta-large-meetingbank`, or the smaller
    `microsoft/llmlingua-2-bert-base-multilingual-cased-meetingbank`) or what `tersely train
    pruner` made. A word's chance is the mean, or with `pool="max"` the highest, of its tokens'
    chances.

    `forced` are words or signs that go before all others, as far as the budget holds them; line
    breaks between kept words stay by themselves. With `drop_consecutive` those that would stand
    several times in a row, with nothing kept between them, stand once. With `digits` words that
    hold a digit go before other facts.

    What differs from the paper: chances are compared over the whole prompt rather than within
    each window, words are cut out of the text itself, facts go last, and the budget is met
    exactly. Long texts are cut into windows of like length, between sentences.
    """

    name = "llmlingua2"
    needs = frozenset({"classifier"})
    paper = "Pan et al. 2024, https://arxiv.org/abs/2403.12968"

    model: str = ""
    unit: Literal["token", "word", "phrase"] = "word"
    pool: Pool = "mean"
    forced: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    digits: bool = False
    drop_consecutive: bool = False

    def ready(self) -> None:
        require("torch", "transformers", extra="local")
        resolve(self._checkpoint())

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        made = super().__call__(prompt, context)
        if made is prompt or not (self.drop_consecutive and _strings(self.forced)):
            return made
        once = made.with_texts({i: self._once(made.segments[i]) for i in made.open})
        return once if context.tokens(once) < context.tokens(made) else made

    def read_for(self, wanted: Sequence[Wanted]) -> None:
        texts = [text for one in wanted for text in one.texts]
        chances_of(texts, self._checkpoint(), wanted[0].context)

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        found = chances_of([one.text for one in units], self._checkpoint(), context)
        return [chances.of(one, self.pool) for chances, one in zip(found, units, strict=True)]

    def ranks(self, units: Units, facts: Sequence[Span]) -> Ints:
        """Forced units before those with digits, if these are to go first, before other facts."""
        ranks = super().ranks(units, facts)
        if self.digits:
            digits = [match.span() for match in regex.finditer(r"\d+", units.text)]
            ranks[units.touching(digits)] = DIGITS
        found = self._found(units.text)
        inside = _touched(found, facts)  # a dot in a number is no full stop, but a word is a word
        own = [
            (start, end)
            for (start, end), hidden in zip(found, inside, strict=True)
            if not hidden or regex.search(r"\w", units.text[start:end])
        ]
        ranks[units.touching(own)] = FIRST
        return ranks

    def marks(self, segment: Segment, facts: Sequence[Span]) -> Sequence[Span]:
        """What is forced is a unit by itself, but for what lies inside of a fact."""
        found = self._found(segment.text)
        taken = _touched(found, [*facts, *segment.spans])
        return [*segment.spans, *(one for one, no in zip(found, taken, strict=True) if not no)]

    def weighed(
        self, segments: Sequence[Segment], prompt: Prompt, context: Context
    ) -> Sequence[Part]:
        """Forced units that would only say again what stands before them go last."""
        parts = super().weighed(segments, prompt, context)
        if not self.drop_consecutive:
            return parts
        share = room(prompt, context)
        return [
            replace(part, ranks=np.where(_again(part, share), LAST, part.ranks)) for part in parts
        ]

    def _checkpoint(self) -> str:
        if not self.model:
            raise ModelError(
                "llmlingua2 needs a trained classifier as `model`: a published one, such as"
                " 'microsoft/llmlingua-2-xlm-roberta-large-meetingbank', or a folder of your own"
                " from `tersely train pruner DATA --out FOLDER`"
            )
        return self.model

    def _found(self, text: str) -> list[Span]:
        """Where the forced words and signs stand."""
        strings = _strings(self.forced)
        return [m.span() for m in _pattern(strings).finditer(text)] if strings else []

    def _once(self, segment: Segment) -> str:
        """The text with forced words and signs that stand several times in a row said once."""
        text, pieces, at = segment.text, [], 0
        runs = sorted(_runs(text, _strings(self.forced)))
        closed = _touched(runs, [*protected(text), *segment.spans])
        for (start, end), shut in zip(runs, closed, strict=True):
            if not shut and at <= start:
                pieces.append(text[at:start])
                at = end
        return "".join(pieces) + text[at:]


def _strings(forced: tuple[str, ...]) -> tuple[str, ...]:
    """The strings to look for: white space is kept by what writes the text again."""
    return tuple(
        sorted({string for string in forced if string.strip()}, key=lambda s: (-len(s), s))
    )


@cache
def _pattern(strings: tuple[str, ...]) -> regex.Pattern[str]:
    return regex.compile("|".join(map(_spelled, strings)))


def _runs(text: str, strings: tuple[str, ...]) -> Iterator[Span]:
    """What follows the first of several equal strings with white space alone between."""
    for string in strings:
        one = _spelled(string)
        for match in regex.finditer(rf"{one}(?:\s*+{one})+", text):
            yield match.start() + len(string), match.end()


def _spelled(string: str) -> str:
    """A pattern for a string; a word is not looked for inside of another."""
    opens = r"(?<!\w)" if regex.match(r"\w", string) else ""
    closes = r"(?!\w)" if regex.search(r"\w$", string) else ""
    return opens + regex.escape(string) + closes


def _touched(spans: Sequence[Span], others: Sequence[Span]) -> Bools:
    """Which spans share a character with one of the others. Shape: (spans,)."""
    bounds = np.asarray(spans, np.int64).reshape(-1, 2)
    return Units("", bounds[:, 0], bounds[:, 1]).touching(others)


def _again(part: Part, share: float) -> Bools:
    """Forced units that repeat the one before, with nothing between that is likely to stay."""
    forced = part.ranks == FIRST
    again = np.zeros(len(part.values), np.bool_)
    places = np.flatnonzero(forced)
    if len(places) < 2:
        return again
    level = np.quantile(part.values, max(0.0, 1 - share))
    kept = ~forced & ((part.values >= level) | (part.ranks >= FORCED))
    between = np.cumsum(kept)[places]
    texts = part.units.texts
    _, codes = np.unique([texts[place] for place in places.tolist()], return_inverse=True)
    again[places[1:]] = (codes[1:] == codes[:-1]) & (between[1:] == between[:-1])
    return again
