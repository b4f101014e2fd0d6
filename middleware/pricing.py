"""What a conversation's prompts cost, as they came and as they go out, the cache priced in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tersely.contracts import Context
from tersely.middleware.leaves import BREAKPOINT, BREAKPOINTS, field
from tersely.prices import UNKNOWN, Price, price_of
from tersely.prompt import Prompt
from tersely.prompt_cache import MILLION, Piece, PromptCache, Sent
from tersely.report import Cost


@dataclass(frozen=True, slots=True)
class Parcel:
    """A prompt as it is sent: its pieces, and after how many of them it may be cached.

    `marks` are the breakpoints of the caller; None where the provider finds places by itself.
    """

    pieces: tuple[Piece, ...]
    marks: tuple[int, ...] | None

    @property
    def stable(self) -> int:
        """The tokens up to the last place where it may be cached."""
        return sum(piece.tokens for piece in self.pieces[: self.end])

    @property
    def end(self) -> int:
        """How many pieces that are."""
        return len(self.pieces) if self.marks is None else max(self.marks, default=0)

    @property
    def tokens(self) -> int:
        """All tokens."""
        return sum(piece.tokens for piece in self.pieces)

    def sent(self, cache: PromptCache, price: Price, now: float) -> Sent:
        """What becomes of it in a cache."""
        return cache.send(self.pieces, price, now=now, marks=self.marks)


def pieces_of(
    prompt: Prompt, tokens_of: Callable[[Sequence[str]], list[int]], framing: int
) -> list[Piece]:
    """What is sent of a prompt, in order: the tools, then each text with what frames its turn."""
    leaves = list(prompt.leaves)
    sizes = tokens_of([prompt.tools, *(leaf.text for leaf in leaves)])
    texts = [prompt.tools, *(f"{leaf.role}\n{leaf.text}" for leaf in leaves)]
    turns = [leaf.turn for leaf in leaves]
    for i, turn in enumerate(turns):
        if i == 0 or turns[i - 1] != turn:
            sizes[i + 1] += framing
    return [Piece(text, size) for text, size in zip(texts, sizes, strict=True)]


def parcel(prompt: Prompt, context: Context, model: str, marks: tuple[int, ...] | None) -> Parcel:
    """A prompt as it is sent to a model."""
    pieces = pieces_of(prompt, context.tokens_of, context.count.framing)
    return Parcel((Piece(model, 0), *pieces), marks)


def marks_of(prompt: Prompt, request: Any, surface: str, model: str) -> tuple[int, ...] | None:
    """After how many pieces of a parcel there are breakpoints; None where none are needed.

    Claude caches nothing without them. One of the whole request moves with its end.
    """
    if surface != "anthropic" and "claude" not in model.lower():
        return None
    leaves = list(prompt.leaves)
    marks = [2] if any(name in prompt.tools for name in BREAKPOINTS) else []
    for i, leaf in enumerate(leaves):
        if any(segment.reason == BREAKPOINT for segment in leaf.segments):
            marks.append(3 + i)
    if any(field(request, name) for name in BREAKPOINTS):
        marks.append(2 + len(leaves))
    return tuple(marks)


class Pricing:
    """Follows the requests of one conversation through the provider's cache, both ways.

    What other conversations left in the cache, a common beginning for example, is not known here:
    each is taken to begin with an empty one.
    """

    def __init__(self) -> None:
        self.plain, self.short = PromptCache(), PromptCache()
        self.spared = 0.0
        """Dollars that all requests together cost less than they would have."""

    def tokens(self, price: Price) -> float:
        """What was spared, in tokens of a prompt."""
        return self.spared * MILLION / price.input if price.input else 0.0

    def bill(
        self,
        prompt: Prompt,
        context: Context,
        request: Any,
        *,
        surface: str,
        model: str,
        now: float,
        prices: str = "",
    ) -> Bill | None:
        """The account of a request as it came; None when no price is known of its model.

        `now` are the seconds of a clock that goes on, `prices` a file that goes before ours.
        """
        price = price_of(model, prices)
        if price is UNKNOWN or any(segment.soft for segment in prompt.segments):
            return None
        came = parcel(prompt, context, model, marks_of(prompt, request, surface, model))
        return Bill(self, context, model, price, now, came, came.sent(self.plain, price, now))


@dataclass(frozen=True, slots=True)
class Bill:
    """What one request costs: what came, what became of it in a cache, and what goes out."""

    pricing: Pricing
    context: Context
    model: str
    price: Price
    now: float
    came: Parcel
    before: Sent

    def parcel(self, prompt: Prompt, marks: tuple[int, ...] | None) -> Parcel:
        """A prompt as it goes out."""
        return parcel(prompt, self.context, self.model, marks)

    def cost(self, goes: Parcel, called: float = 0.0) -> Cost:
        """What it costs in the end.

        What was asked of a model for its sake cost as much as `called` tokens of the prompt.
        """
        after = goes.sent(self.pricing.short, self.price, self.now)
        calls = called * self.price.input / MILLION
        cost = Cost(
            before=self.before.cost(self.price),
            after=after.cost(self.price) + calls,
            listed_before=self.before.listed(self.price),
            listed_after=after.listed(self.price) + calls,
            calls=calls,
        )
        self.pricing.spared += cost.saved
        return cost

    @property
    def spared(self) -> float:
        """What the requests before it cost less than they would have, in tokens of the prompt."""
        return self.pricing.tokens(self.price)
