"""Fill an exact room with passages: whole ones first, then what is left of the best others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tersely.contracts import Context
from tersely.lexical import relevance
from tersely.origins import Origins, composed
from tersely.prompt import Prompt, Segment, Span, traced
from tersely.protect import fences
from tersely.rag.bundle import APART, Bundle, Stretch, label
from tersely.rag.gluing import known
from tersely.render import rendering
from tersely.select import MARK, Part, pack
from tersely.units import split

LEAST = 16
"""Tokens of room that are not worth pruning for."""

TRIES = 8
"""Passages that are pruned at most, and how often one of them."""

SLACK = 8
"""Tokens by which the sum of what passages cost by themselves may be off."""

Shorten = Callable[[Prompt, Context], Prompt]
"""Makes the one text of a prompt fit the limit: any stage."""

Show = Callable[[Sequence[Stretch]], Bundle]
"""Passages, given the best first, as they would be shown."""


@dataclass(slots=True)
class Packing:
    """What is packed so far. It is counted as it will be shown, so it is never over the budget."""

    stretches: Sequence[Stretch]
    show: Show
    tokens: int
    question: str
    context: Context
    best: Bundle = field(default_factory=Bundle)
    chosen: list[Stretch] = field(default_factory=list)
    waiting: list[Stretch] = field(default_factory=list)
    frame: int = 0

    def __post_init__(self) -> None:
        self.frame = self.show([]).tokens
        self.waiting = list(self.stretches)

    def add_whole(self) -> None:
        """Take passages in order, each whole; one that does not fit is passed over.

        Only near the edge of the budget, and where texts overlap, is it counted at each step.
        """
        texts = [f"{label(9, one.passage)}\n{one.passage.text}{APART}" for one in self.stretches]
        taken: list[Stretch] = []
        used, sure = self.frame, True
        for one, cost in zip(self.stretches, self.context.tokens_of(texts), strict=True):
            near = used + cost > self.tokens - SLACK - len(taken)
            if near or _overlaps(one, taken):
                far = used + cost > self.tokens + SLACK + len(taken)
                if far and not _overlaps(one, taken):
                    continue
                if not sure:
                    sure, taken = True, self._verified(taken)
                if self._take([*taken, one]):
                    taken, used = [*taken, one], self.best.tokens
                continue
            taken, used, sure = [*taken, one], used + cost, False
        if not sure:
            self._verified(taken)

    def add_pruned(self, shorten: Shorten, *, most: int = TRIES, least: int = LEAST) -> None:
        """Take what is left of the best passages that wait, as long as there is room."""
        for one in self.waiting[:TRIES]:
            if most and self._pruned_in(one, shorten, least):
                most -= 1

    def _verified(self, taken: list[Stretch]) -> list[Stretch]:
        """As many of these, from the first on, as fit together."""
        while taken and not self._take(taken):
            taken = taken[:-1]
        return taken

    def _take(self, stretches: Sequence[Stretch]) -> bool:
        """Pack these, if they fit."""
        bundle = self.show(stretches)
        if bundle.tokens > self.tokens:
            return False
        self.best, self.chosen = bundle, list(stretches)
        parts = {id(one.whole) for one in self.chosen}
        self.waiting = [one for one in self.stretches if id(one.whole) not in parts]
        return True

    def _pruned_in(self, one: Stretch, shorten: Shorten, least: int) -> bool:
        """Pack what can be made to fit of a passage, if anything can."""
        head = self.context.tokens_of([f"{APART}{label(9, one.passage)}\n"])[0]
        room = self.tokens - max(self.best.tokens, self.frame) - head
        fresh = self._fresh(one)
        for _ in range(TRIES):
            if fresh is None or room < least:
                return False
            made = self._shortened(fresh, shorten, room)
            if made is None:
                return False
            if self._take([*self.chosen, made]):
                return True
            room -= max(self.show([*self.chosen, made]).tokens - self.tokens, 1)
        return False

    def _fresh(self, one: Stretch) -> Stretch | None:
        """The sentences of a passage that are not shown yet."""
        shown = _shown(one, self.chosen)
        if not shown:
            return one
        text = one.passage.text
        units = split(text, "sentence", atoms=fences(text))
        new = ~units.touching(shown)
        if not new.any():
            return None
        left = rendering(units, new)
        return _cut(one, left.text, composed(left.origins, one.origins))

    def _shortened(self, one: Stretch, shorten: Shorten, room: int) -> Stretch | None:
        """What is left of a passage in so much room; None: nothing.

        A recipe that fails takes nothing along, and a note says so.
        """
        text = Segment(text=one.passage.text, path=("passage",))
        prompt = Prompt((text,), question=self.question)
        try:
            made = shorten(prompt, self.context.within(room)).segments[0]
        except Exception as error:  # a recipe of whatever origin: the answer must not hang on it
            self.context.say(f"evidence: a passage was left out, its recipe failed: {error}")
            return None
        if made.text.strip() in ("", MARK):
            return None
        return _cut(one, made.text, composed(traced(text, made) or (), one.origins))


def by_sentence(prompt: Prompt, context: Context) -> Prompt:
    """The sentences of a prompt's one text that are nearest to the question, as many as fit."""
    text = prompt.segments[0].text
    units = split(text, "sentence", atoms=fences(text))
    ranks = np.zeros(len(units), np.int64)
    values = relevance(units.texts, prompt.question)
    return pack(prompt, {0: Part(units=units, values=values, ranks=ranks)}, context)


def _cut(one: Stretch, text: str, origins: Origins) -> Stretch:
    """A passage of which this is left; its range is that of what is left, if that is known."""
    begin = len(text) - len(text.lstrip())
    text = text.strip()
    origins = composed(((0, begin, len(text)),), origins)
    passage = replace(one.passage, text=text)
    if origins:
        start = min(start for _, start, _ in origins)
        end = max(start + length for _, start, length in origins)
        passage = replace(passage, start=start, end=end)
    return replace(one, passage=passage, origins=origins, pruned=True)


def _shown(one: Stretch, chosen: Sequence[Stretch]) -> list[Span]:
    """Which characters of a passage are shown already."""
    if not known(one.passage):
        return []
    start = one.passage.start
    return [
        (max(at - start, 0), at + length - start)
        for other in chosen
        if other.passage.source == one.passage.source and known(other.whole)
        for _, at, length in other.origins
        if at < one.passage.end and at + length > start
    ]


def _overlaps(one: Stretch, chosen: Sequence[Stretch]) -> bool:
    return bool(_shown(one, chosen))
