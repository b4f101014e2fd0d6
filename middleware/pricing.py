"""What a conversation's prompts cost, as they came and as they go out, the cache priced in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tersely.contracts import Context
from tersely.middleware.leaves import BREAKPOINT, BREAKPOINTS, field
from tersely.prices import UNKNOWN, price_of
from tersely.prompt import Prompt
from tersely.prompt_cache import Piece, PromptCache
from tersely.report import Cost


class Pricing:
    """Follows the requests of one conversation through the provider's cache, both ways.

    What other conversations left in the cache, a common beginning for example, is not known here:
    each is taken to begin with an empty one.
    """

    def __init__(self) -> None:
        self._plain, self._short = PromptCache(), PromptCache()

    def cost(
        self,
        prompts: tuple[Prompt, Prompt],
        context: Context,
        request: Any,
        *,
        surface: str,
        model: str,
        now: float,
    ) -> Cost | None:
        """What a prompt costs as it came and as it goes out; None when no price is known of it.

        `now` are the seconds of a clock that goes on.
        """
        price = price_of(model)
        if price is UNKNOWN or any(s.soft for prompt in prompts for s in prompt.segments):
            return None
        sent = []
        for prompt, cache in zip(prompts, (self._plain, self._short), strict=True):
            pieces = pieces_of(prompt, context.tokens_of, context.count.framing)
            upto = cacheable(prompt, request, surface, model)
            sent.append(cache.send([Piece(model, 0), *pieces], price, now=now, upto=1 + upto))
        before, after = sent
        return Cost(
            before=before.cost(price),
            after=after.cost(price),
            listed_before=before.listed(price),
            listed_after=after.listed(price),
        )


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


def cacheable(prompt: Prompt, request: Any, surface: str, model: str) -> int:
    """How many pieces may be cached: all, or with Claude those up to the last breakpoint."""
    leaves = list(prompt.leaves)
    if surface != "anthropic" and "claude" not in model.lower():
        return 1 + len(leaves)
    if any(field(request, name) for name in BREAKPOINTS):
        return 1 + len(leaves)
    for i in range(len(leaves), 0, -1):
        if any(segment.reason == BREAKPOINT for segment in leaves[i - 1].segments):
            return 1 + i
    return int(any(name in prompt.tools for name in BREAKPOINTS))
