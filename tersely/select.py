"""Choose the units that are worth most and fit the budget exactly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tersely.contracts import Context
from tersely.part import FORCED as FORCED
from tersely.part import NEVER as NEVER
from tersely.part import Part as Part
from tersely.part import opened
from tersely.prompt import Prompt, Segment
from tersely.render import Rendering, rendering
from tersely.units import Bools, Floats, Ints, Unit, Units

MARK = "…"
"""What a text becomes that lost everything: an empty text is no text."""

ENOUGH = 0.99
"""The share of the budget at which it counts as used up."""

TRIES = 12
"""How often one search counts the whole prompt at most."""


def pack(
    prompt: Prompt, parts: Mapping[int, Part], context: Context, *, finer: Unit | None = None
) -> Prompt:
    """Keep the best units of some segments, as many as fit `context.limit`.

    `parts` are the texts by their position in the prompt. Units are taken by rank and value;
    one that does not fit is passed over for later ones that do. With `finer`, what is left of
    the budget then holds the beginning of the best unit that was passed over. The result is
    never over the limit, unless the forced units alone are. Where there is room for all, only
    units of rank NEVER are dropped.
    """
    barred = any((part.ranks == NEVER).any() for part in parts.values())
    limit = sys.maxsize if context.limit is None else context.limit
    if not parts or (not barred and context.tokens(prompt) <= limit):
        return prompt
    packing = _Packing(prompt, dict(parts), context, limit)
    whole = None if barred else packing.full
    kept = packing.filled(packing.added(packing.forced, packing.order, whole))
    if finer and not packing.used_up(kept):
        packing, kept = packing.opened(kept, finer)
    return packing.packed(kept)


def keep(prompt: Prompt, units: Mapping[int, tuple[Units, Bools]], context: Context) -> Prompt:
    """Keep these units of some segments, whatever the budget says.

    `units` are the texts by their position in the prompt, each with what is kept of it. A text
    that would grow stays as it was.
    """
    made = {i: rendering(one, kept) for i, (one, kept) in units.items()}
    return _written(prompt, made, context)


@dataclass(slots=True)
class _Packing:
    """All parts as one row of units, and which of them would make which prompt."""

    prompt: Prompt
    parts: dict[int, Part]
    context: Context
    limit: int
    costs: Floats = field(init=False)
    forced: Bools = field(init=False)
    order: Ints = field(init=False)
    leads: Ints = field(init=False)

    def __post_init__(self) -> None:
        parts = self.parts.values()
        ranks = np.concatenate([part.ranks for part in parts])
        values = np.nan_to_num(np.concatenate([part.values for part in parts]))
        self.forced = ranks >= FORCED
        best = np.lexsort((-values, -ranks))
        self.order = best[(ranks[best] != NEVER) & ~self.forced[best]]
        leads = [np.arange(len(p.units)) if p.leads is None else p.leads for p in parts]
        self.leads = np.concatenate(
            [row + at for row, at in zip(leads, self._bounds, strict=False)]
        )
        self.costs = np.asarray(self.context.tokens_of(self._spelled()), np.float64)

    @property
    def _bounds(self) -> Ints:
        """The number of the first unit of each part, and of all units."""
        return np.cumsum([0, *(len(part.units) for part in self.parts.values())])

    @property
    def full(self) -> int:
        """Tokens of the prompt with everything kept."""
        return self.context.tokens(self.prompt)

    def packed(self, kept: Bools) -> Prompt:
        """The prompt with these units only, which tells where each character came from."""
        return _written(self.prompt, dict(self._renderings(kept)), self.context)

    def size(self, kept: Bools) -> int:
        """Tokens of the prompt with these units only."""
        made = self.prompt.with_texts({i: one.text for i, one in self._renderings(kept)})
        return self.context.tokens(settled(self.prompt, made, self.context))

    def used_up(self, kept: Bools) -> bool:
        return self.size(kept) >= self.limit * ENOUGH

    def added(self, kept: Bools, queue: Ints, full: int | None = None) -> Bools:
        """These units, and as many from the head of the queue as fit.

        `full` is the size with the whole queue, when it is known.
        """
        base = self.size(kept)
        if base > self.limit or not len(queue):
            return kept
        if full is None:
            full = self.size(self._with(kept, queue))
            if full <= self.limit:
                return self._with(kept, queue)
        costs = np.concatenate(([0.0], np.cumsum(self._costs(kept, queue))))
        measure = lambda n: self.size(self._with(kept, queue[:n]))  # noqa: E731
        return self._with(kept, queue[: _longest(costs, measure, (base, full), self.limit)])

    def filled(self, kept: Bools) -> Bools:
        """These units, and later ones that are small enough for what is left."""
        for _ in range(3):
            left = self.limit - self.size(kept)
            queue = self._small(kept, left)
            more = self.added(kept, queue) if len(queue) and not self.used_up(kept) else kept
            if more.sum() == kept.sum():
                break
            kept = more
        return kept

    def opened(self, kept: Bools, finer: Unit) -> tuple[_Packing, Bools]:
        """The best unit that was passed over, split more finely, and its beginning kept."""
        rest = self.order[~kept[self.order]]
        bounds = self._bounds
        for unit in rest[:TRIES].tolist():
            which = int(np.searchsorted(bounds, unit, "right")) - 1
            i, at = list(self.parts)[which], unit - int(bounds[which])
            part = opened(self.parts[i], at, finer)
            extra = len(part.units) - len(self.parts[i].units)
            if extra:
                again = replace(self, parts={**self.parts, i: part})
                more = np.insert(kept, [unit] * extra, False)
                return again, again.added(more, np.arange(unit, unit + extra + 1))
        return self, kept

    def _costs(self, kept: Bools, units: Ints) -> Floats:
        """What units cost by themselves, with what comes along with them. Shape: (units,)."""
        leads = self.leads[units]
        alone = kept[leads] | (leads == units)
        costs: Floats = self.costs[units] + np.where(alone, 0.0, self.costs[leads])
        return costs

    def _with(self, kept: Bools, units: Ints) -> Bools:
        more = kept.copy()
        more[units] = more[self.leads[units]] = True
        return more

    def _small(self, kept: Bools, left: float) -> Ints:
        """Units in order that together fit what is left, as far as can be told."""
        rest = self.order[~kept[self.order]]
        picked = [rest[:0]]
        while len(rest := rest[(costs := self._costs(kept, rest)) <= left]):
            costs = np.cumsum(costs[costs <= left])
            fitting = int(np.searchsorted(costs, left, "right"))
            picked.append(rest[:fitting])
            left -= float(costs[fitting - 1])
            rest = rest[fitting:]
        return np.concatenate(picked)

    def _renderings(self, kept: Bools) -> Iterator[tuple[int, Rendering]]:
        """What is written of each part, by its position in the prompt."""
        at = 0
        for i, part in self.parts.items():
            yield i, part.rendering(kept[at : at + len(part.units)])
            at += len(part.units)

    def _spelled(self) -> list[str]:
        """Every unit with a space where one stands before it: what it will cost, nearly."""
        spelled: list[str] = []
        for part in self.parts.values():
            before = np.append(0, part.units.ends[:-1]) < part.units.starts
            pairs = zip(part.units.texts, before.tolist(), strict=True)
            mark = part.mark and f" {part.mark}"
            spelled += [f" {text}{mark}" if spaced else text + mark for text, spaced in pairs]
        return spelled


def _longest(
    costs: Floats, measure: Callable[[int], int], ends: tuple[int, int], limit: int
) -> int:
    """How many items of a queue fit: n does and n + 1 does not.

    `costs[n]` estimates what n items cost, and `ends` are the true sizes with none and with
    all. Each guess is drawn from the estimate, scaled to the true sizes on both sides of it.
    """
    low, high = 0, len(costs) - 1
    small, large = ends
    for _ in range(TRIES):
        if high - low <= 1 or (small == limit and low):
            break
        scale = (costs[high] - costs[low]) / max(large - small, 1)
        aim = costs[low] + (limit - small) * scale
        guess = int(np.searchsorted(costs, aim, "right")) - 1
        guess = min(max(guess, low + 1), high - 1)
        size = measure(guess)
        if size <= limit:
            low, small = guess, size
        else:
            high, large = guess, size
    return low


def _written(prompt: Prompt, made: Mapping[int, Rendering], context: Context) -> Prompt:
    """The prompt with other texts, that tells where each character of them came from."""
    texts = {i: one.text for i, one in made.items()}
    origins = {i: one.origins for i, one in made.items()}
    return settled(prompt, prompt.with_texts(texts, origins=origins), context)


def settled(before: Prompt, after: Prompt, context: Context) -> Prompt:
    """No text empty, and none longer than it was: such a text gets a mark, or stays."""
    fixed: dict[int, Segment] = {}
    at = 0
    for old, new in zip(before.leaves, after.leaves, strict=True):
        size = len(old.segments)
        if old.text != new.text:
            places = [i for i in range(at, at + size) if not before.segments[i].locked]
            if not new.text.strip():
                gone = {i: MARK if i == places[0] else "" for i in places}
                fixed |= {i: before.segments[i].changed(text, ()) for i, text in gone.items()}
            was, now = context.tokens_of([old.text, new.text if new.text.strip() else MARK])
            if now >= was:
                fixed |= {i: before.segments[i] for i in places}
        at += size
    return after.with_segments(fixed) if fixed else after
