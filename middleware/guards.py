"""What no stage may do: a text that breaks a promise goes back to what it was."""

from __future__ import annotations

from collections.abc import Iterator

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
        if _place(old) != _place(new):
            return f"a segment moved or changed its kind: {_place(old)} became {_place(new)}"
        if not isinstance(new.text, str):
            return f"a text became {new.text!r}"
    return ""


def broken(before: Prompt, after: Prompt, context: Context) -> dict[int, str]:
    """The leaves that must go back: position of the leaf -> the promise it broke."""
    changed = [
        (i, old, new)
        for i, (old, new) in enumerate(zip(before.leaves, after.leaves, strict=True))
        if any(was.text != now.text for was, now in zip(old.segments, new.segments, strict=True))
    ]
    old_sizes = context.tokens_of([old.text for _, old, _ in changed])
    new_sizes = context.tokens_of([new.text for _, _, new in changed])
    found: dict[int, str] = {}
    for (i, old, new), was, now in zip(changed, old_sizes, new_sizes, strict=True):
        if reason := next(_faults(old, new, was, now), ""):
            found[i] = reason
    return found


def touched(before: Prompt, after: Prompt) -> list[Segment]:
    """The locked segments that a stage changed all the same."""
    pairs = zip(before.segments, after.segments, strict=True)
    return [old for old, new in pairs if old.locked and old.text != new.text]


def _faults(old: Leaf, new: Leaf, was: int, now: int) -> Iterator[str]:
    if now > was:
        yield f"tokens would go up from {was} to {now}"
    if not new.text.strip():
        yield "nothing would be left"
    for before, after in zip(old.segments, new.segments, strict=True):
        if before.locked and before.text != after.text:
            yield "a locked text in it would change"
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
