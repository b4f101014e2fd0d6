"""`<keep>...</keep>`: what the caller marked so goes through byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from tersely.origins import without
from tersely.prompt import Prompt, Segment, Span, traced

OPEN = "<keep>"
CLOSE = "</keep>"


def kept(text: str) -> tuple[Span, ...]:
    """Where the marked passages lie, tags included; of nested ones the outermost.

    A tag without its partner is text like any other.
    """
    return passages(text, OPEN, CLOSE)


def passages(text: str, opens: str, closes: str) -> tuple[Span, ...]:
    """The same for tags of any name."""
    starts: list[int] = []
    pairs: list[Span] = []
    for tag in re.finditer(f"{opens}|{closes}", text) if closes in text else ():
        if tag[0] == opens:
            starts.append(tag.start())
        elif starts:
            start = starts.pop()
            while pairs and pairs[-1][0] > start:
                pairs.pop()
            pairs.append((start, tag.end()))
    return tuple(pairs)


def unmarked(before: Prompt, after: Prompt) -> Prompt:
    """The prompt without the tags in every leaf that changed.

    A leaf that did not change keeps them: it goes out as the caller wrote it. So does one that
    holds nothing else.
    """
    found: dict[int, Segment] = {}
    at = 0
    for old, new in zip(before.leaves, after.leaves, strict=True):
        if any(segment.spans for segment in old.segments) and old.text != new.text:
            pairs = enumerate(zip(old.segments, new.segments, strict=True), at)
            stripped = {i: _bare(was, now) for i, (was, now) in pairs}
            if any(one.text.strip() for one in stripped.values()):
                found |= stripped
        at += len(old.segments)
    return after.with_segments(found) if found else after


def bare(text: str) -> str:
    """A text without its tags."""
    return _cut(text, _tags(kept(text)))


def _bare(was: Segment, now: Segment) -> Segment:
    """A segment that grew out of a marked one, without the tags."""
    cuts = _tags(_found(was, now.text))
    told = traced(was, now)
    origins = None if told is None else without(len(now.text), cuts)
    return now.changed(_cut(now.text, cuts), origins) if cuts else now


def _found(marked: Segment, text: str) -> Iterator[Span]:
    """Where the marked passages of a segment lie in the text that it became."""
    at = 0
    for start, end in marked.spans:
        passage = marked.text[start:end]
        if not passage.startswith(OPEN):
            continue
        found = text.find(passage, at)
        if found < 0:  # sent before without its tags
            return
        at = found + len(passage)
        yield found, at


def _tags(passages: Iterable[Span]) -> list[Span]:
    """Where the tags around marked passages lie."""
    return [
        span
        for start, end in passages
        for span in ((start, start + len(OPEN)), (end - len(CLOSE), end))
    ]


def _cut(text: str, cuts: Sequence[Span]) -> str:
    """A text without some spans of it."""
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(text)]
    return "".join(text[start:end] for start, end in zip(starts, ends, strict=True))
