"""`<keep>...</keep>`: what the caller marked so goes through byte for byte."""

from __future__ import annotations

import re

from tersely.prompt import Prompt, Segment, Span

OPEN = "<keep>"
CLOSE = "</keep>"

_TAG = re.compile(f"{OPEN}|{CLOSE}")


def kept(text: str) -> tuple[Span, ...]:
    """Where the marked passages lie, tags included; of nested ones the outermost.

    A tag without its partner is text like any other.
    """
    starts: list[int] = []
    pairs: list[Span] = []
    for tag in _TAG.finditer(text) if CLOSE in text else ():
        if tag[0] == OPEN:
            starts.append(tag.start())
        elif starts:
            start = starts.pop()
            while pairs and pairs[-1][0] > start:
                pairs.pop()
            pairs.append((start, tag.end()))
    return tuple(pairs)


def unmarked(before: Prompt, after: Prompt) -> Prompt:
    """The prompt without the tags in every leaf that changed.

    A leaf that did not change keeps them: it goes out as the caller wrote it.
    """
    texts: dict[int, str] = {}
    at = 0
    for old, new in zip(before.leaves, after.leaves, strict=True):
        if any(segment.spans for segment in old.segments) and old.text != new.text:
            for i, (was, now) in enumerate(zip(old.segments, new.segments, strict=True)):
                texts[at + i] = _bare(was, now.text)
        at += len(old.segments)
    return after.with_texts(texts) if texts else after


def bare(text: str) -> str:
    """A text without its tags."""
    return _bare(Segment(text=text, spans=kept(text)), text)


def _bare(marked: Segment, text: str) -> str:
    """A text that grew out of a marked segment, without the tags."""
    parts: list[str] = []
    at = 0
    for start, end in marked.spans:
        passage = marked.text[start:end]
        if not passage.startswith(OPEN):
            continue
        found = text.find(passage, at)
        if found < 0:  # sent before without its tags
            break
        parts += text[at:found], passage[len(OPEN) : -len(CLOSE)]
        at = found + len(passage)
    return "".join(parts) + text[at:]
