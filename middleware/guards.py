"""What no stage may do: a text that breaks a promise goes back to what it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tersely.contracts import Context
from tersely.kinds import json_shape
from tersely.prompt import Leaf, Prompt, Segment


def misshapen(before: Prompt, after: Prompt) -> str:
    """Why nothing of the result can be used: it is another prompt than was given. Else ''."""
    if not isinstance(after, Prompt):
        return f"it gave no prompt but {type(after).__name__}"
    if len(before.segments) != len(after.segments):
        return f"{len(before.segments)} segments became {len(after.segments)}"
    if (before.question, before.tools, before.turns) != (after.question, after.tools, after.turns):
        return "the question, the tools or the number of turns changed"
    for old, new in zip(before.segments, after.segments, strict=True):
        if new.soft is not None and new.text != old.text:
            return "soft input stands for another text than was there"
        if _place(old) != _place(_as_text(old, new)):
            return f"a segment moved or changed its kind: {_place(old)} became {_place(new)}"
        if not isinstance(new.text, str):
            return f"a text became {new.text!r}"
    return ""


def broken(before: Prompt, after: Prompt, context: Context) -> dict[int, str]:
    """The leaves that must go back: position of the leaf -> the promise it broke."""
    changed = [
        (i, old, new)
        for i, (old, new) in enumerate(zip(before.leaves, after.leaves, strict=True))
        if any(_differs(was, now) for was, now in zip(old.segments, new.segments, strict=True))
    ]
    old_sizes = _sizes([old for _, old, _ in changed], context)
    new_sizes = _sizes([new for _, _, new in changed], context)
    found: dict[int, str] = {}
    for (i, old, new), was, now in zip(changed, old_sizes, new_sizes, strict=True):
        if reason := next(_faults(old, new, was, now), ""):
            found[i] = reason
    return found


def touched(before: Prompt, after: Prompt) -> list[Segment]:
    """The locked segments that a stage changed all the same."""
    pairs = zip(before.segments, after.segments, strict=True)
    return [old for old, new in pairs if old.locked and _differs(old, new)]


def _faults(old: Leaf, new: Leaf, was: int, now: int) -> Iterator[str]:
    if now > was:
        yield f"tokens would go up from {was} to {now}"
    if not new.text.strip():
        yield "nothing would be left"
    for before, after in zip(old.segments, new.segments, strict=True):
        if before.locked and before.text != after.text:
            yield "a locked text in it would change"
        if before.locked and before.soft != after.soft:
            yield "something else would stand for a locked text in it"
        if lost := lost_span(before, after.text):
            yield f"a kept span would be lost: {lost!r}"
    if (shape := json_shape(old.text)) is not None and json_shape(new.text) != shape:
        yield f"it would no longer be a JSON {shape}"


def lost_span(segment: Segment, text: str) -> str:
    """The first kept span of a segment that a new text doesn't hold, in order. Else ''."""
    at = 0
    for start, end in segment.spans:
        span = segment.text[start:end]
        found = text.find(span, at)
        if found < 0:
            return span
        at = found + len(span)
    return ""


def _place(segment: Segment) -> tuple[object, ...]:
    return (segment.path, segment.turn, segment.role, segment.kind, segment.locked)


def _differs(old: Segment, new: Segment) -> bool:
    return old.text != new.text or old.soft != new.soft


def _as_text(old: Segment, new: Segment) -> Segment:
    """A segment for which soft input came to stand, as it was before."""
    if new.soft is None or old.locked:
        return new
    return replace(new, kind=old.kind, locked=False)


def _sizes(leaves: Sequence[Leaf], context: Context) -> list[int]:
    """The tokens of each leaf by itself, with what stands in the place of texts."""
    texts = context.tokens_of(["".join(leaf.read) for leaf in leaves])
    return [size + leaf.soft for size, leaf in zip(texts, leaves, strict=True)]
