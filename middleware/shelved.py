"""What was left out of a request is marked there, and kept where a model can have it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tersely.budget import Budget
from tersely.contracts import TokenCounter
from tersely.middleware import adapters
from tersely.middleware.passage import Result
from tersely.prompt import Leaf
from tersely.recall import Recall, loses, note, with_note

LEAST = 60
"""Tokens that must be gone from a text for a mark to be worth its own."""

ROOM = 40
"""Tokens that a mark takes at the most, as it stands in JSON."""


def marked(result: Result, count: TokenCounter, recall: Recall | None = None) -> Any:
    """The output of a run, with a mark in everything that a tool gave and that lost something.

    The mark tells how many tokens are gone; with `recall` the text is kept as it was, and the mark
    tells how to have it. A mark depends on nothing but the text before and after, so that what was
    sent before in a conversation goes out the same again. It takes about `ROOM` tokens, which no
    budget of the run knows of; texts that lost nothing, or fewer than `LEAST`, have none.

    Raises StoreError when the originals can't be kept.
    """
    output = result.output
    for old, new in _changed(result):
        before, after = count.many([old.text, new.text])
        if before - after < LEAST or not loses(old.text, new.text):
            continue
        key = recall.keep(old.text) if recall else ""
        text = with_note(new.text, note(before - after, before, key))
        if count(text) < before:
            output = adapters.put(output, new.path, text)
    return output


def less(budget: Budget, size: int) -> Budget:
    """A budget for a text of so many tokens, without the room for a mark.

    Where that would be more than half of what there is, the mark has to do without.
    """
    part = ROOM / max(size, 1)

    def rest(share: float) -> float:
        return share - part if share > 2 * part else share

    tokens = budget.tokens
    return budget.model_copy(
        update={
            "tokens": tokens - ROOM if tokens is not None and tokens > 2 * ROOM else tokens,
            "ratio": None if budget.ratio is None else rest(budget.ratio),
            "shares": {kind: rest(share) for kind, share in budget.shares.items()},
        }
    )


def _changed(result: Result) -> Iterator[tuple[Leaf, Leaf]]:
    """What tools gave and what goes out as something else, before and after."""
    if result.report.mode != "optimize" or result.trace is None:
        return
    for old, new in zip(result.trace.before.leaves, result.trace.after.leaves, strict=True):
        if old.role == "tool" and old.text != new.text:
            yield old, new
