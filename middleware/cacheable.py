"""A conversation that its provider would cache as it came stays long enough for that.

Providers cache nothing under some length. A prompt that was made shorter than that is paid in full
at every call, where it would have been read for a tenth as it came. What was sent once stays as it
is, so that this can't be mended later: of a conversation that is not long enough yet, new texts go
out whole, no more of them than it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from tersely.cache_plan import long_enough
from tersely.middleware.pricing import Bill, Parcel
from tersely.middleware.session import FROZEN
from tersely.prompt import Leaf, Prompt
from tersely.report import Decision, spell

TAGS = ("</keep>", "</drop>")
"""A text with these is never sent as it came."""


@dataclass(frozen=True, slots=True)
class Raised:
    """A prompt that goes out, and the places of its leaves that go out whole.

    `longer` are the tokens that this takes, `least` those that a cached prompt has.
    """

    prompt: Prompt
    parcel: Parcel | None = None
    whole: tuple[int, ...] = ()
    longer: int = 0
    least: int = 0

    def limit(self, tokens: int | None) -> int | None:
        """The limit of a prompt, with room for what goes out whole."""
        return None if tokens is None else tokens + self.longer

    def told(self, decisions: Iterable[Decision]) -> tuple[Decision, ...]:
        """The decisions, with what became of the texts that go out whole."""
        leaves = list(self.prompt.leaves)
        paths = {spell(leaves[i].path) for i in self.whole}
        why = f"sent whole, since under {self.least} tokens nothing is cached"
        return tuple(
            one.model_copy(update={"action": "reverted", "reason": why, "after": one.before})
            if one.path in paths and one.action in ("compressed", "frozen")
            else one
            for one in decisions
        )


def raised(bill: Bill, read: Prompt, made: Prompt, goes: Parcel, *, marked: bool = False) -> Raised:
    """What was made of a prompt, long enough to be cached as soon as it would have been as it came.

    `read` is the prompt before the stages, `goes` how `made` is sent. The first request of a
    conversation goes out as short as it is, unless the next would eat up what that spares.
    `marked` tells that it will get breakpoints.
    """
    least = long_enough(bill.price, bill.context.count.exact)
    same = Raised(made, goes)
    if not (marked or bill.came.end) or goes.tokens >= least or _is_safe(bill, made, goes):
        return same
    gains = _gains(bill, read, made)
    sizes = {i: gain for i, (gain, _) in gains.items()}
    places = enough(sizes, least - goes.tokens) or tuple(sizes)
    if not places:
        return same
    texts: dict[int, str] = {}
    for i in places:
        texts |= gains[i][1]
    prompt = made.with_texts(texts)
    longer = sum(sizes[i] for i in places)
    return Raised(prompt, bill.parcel(prompt, goes.marks), places, longer, bill.price.minimum)


def enough(gains: Mapping[int, int], need: int) -> tuple[int, ...]:
    """The places that together gain what is needed, with little over; none where they can't."""
    chosen: list[int] = []
    left = dict(gains)
    while need > 0 and left:
        able = [i for i, gain in left.items() if gain >= need]
        best = min(able, key=lambda i: left[i]) if able else max(left, key=lambda i: left[i])
        need -= left.pop(best)
        chosen.append(best)
    return tuple(sorted(chosen)) if need <= 0 else ()


def _gains(bill: Bill, read: Prompt, made: Prompt) -> dict[int, tuple[int, dict[int, str]]]:
    """For each leaf that may go out whole, the tokens that this adds, and its texts."""
    found: dict[int, tuple[int, dict[int, str]]] = {}
    ends = accumulate(len(leaf.segments) for leaf in read.leaves)
    for i, (old, new, end) in enumerate(zip(read.leaves, made.leaves, ends, strict=True)):
        if _may_be_whole(old, new):
            before, after = bill.context.tokens_of([old.text, new.text])
            texts = dict(enumerate((s.text for s in old.segments), end - len(old.segments)))
            if before > after:
                found[i] = (before - after, texts)
    return found


def _may_be_whole(old: Leaf, new: Leaf) -> bool:
    is_new = not any(segment.reason == FROZEN for segment in new.segments)
    marked = new.soft or any(tag in old.text for tag in TAGS)
    return is_new and old.text != new.text and not marked


def _is_safe(bill: Bill, made: Prompt, goes: Parcel) -> bool:
    """Whether a prompt may go out too short to be cached: it may be the only one."""
    if any(segment.reason == FROZEN for segment in made.segments):
        return False
    if bill.came.stable < bill.price.minimum:
        return True
    left = bill.spared + bill.before.weighed(bill.price) - goes.tokens
    return left >= goes.tokens - bill.price.read * bill.came.stable
