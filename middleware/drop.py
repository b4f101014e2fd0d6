"""`<drop>...</drop>`: what the caller marked so is not sent, whatever the budget says.

It goes before any stage runs, from every text that may change; a tool's output is not the
caller's word and keeps such tags, as it keeps those of `<keep>`. Keeping wins: what is marked as
kept within a dropped passage stays, and within a kept passage the tags of dropping are text. A
tag without its partner is text like any other. What stands before and after is joined as where
a stage drops something, and a text of which nothing is left becomes a mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tersely.contracts import Context
from tersely.middleware.guards import broken
from tersely.middleware.keep import bare, kept, passages
from tersely.origins import Origins, composed
from tersely.prompt import Prompt, Segment, Span, traced
from tersely.render import Rendering, rendering
from tersely.report import Decision, spell
from tersely.select import MARK
from tersely.units import split

OPEN = "<drop>"
CLOSE = "</drop>"

STAGE = "<drop>"
"""What decisions name as their stage."""

FILL = "\x1f"
"""Counts as white space for all who look for words."""


def dropped(prompt: Prompt, context: Context) -> tuple[Prompt, tuple[Decision, ...]]:
    """The prompt without what the caller marked as to go, and what there is to say about it."""
    made = {i: _rest(s) for i, s in enumerate(prompt.segments) if _is_marked(s)}
    texts = {i: one.text for i, one in made.items() if one}
    if not texts:
        return prompt, ()
    texts |= dict.fromkeys(_emptied(prompt, texts), MARK)
    origins = {i: one.origins if texts[i] != MARK else () for i, one in made.items() if one}
    after = prompt.with_texts(texts, origins=origins)
    faults = broken(prompt, after, context)
    reverted = {i: faults[leaf] for i, leaf in _owners(prompt) if leaf in faults}
    held = {i: text for i, text in texts.items() if i not in reverted}
    told = tuple(_decision(i, prompt, texts[i], reverted.get(i, ""), context) for i in texts)
    return prompt.with_texts(held, origins=origins), told


def retraced(opened: Prompt, after: Prompt) -> Prompt:
    """What became of a prompt from which passages were dropped, traced back to before that."""
    return after.with_segments(
        {
            i: replace(new, origins=_through(old, new))
            for i, (old, new) in enumerate(zip(opened.segments, after.segments, strict=True))
            if old.origins is not None
        }
    )


def understood(text: str) -> str:
    """What a text says: without the tags, and without what is to go."""
    return bare(masked(text, kept(text)).replace(FILL, "")).strip()


def masked(text: str, spans: Sequence[Span]) -> str:
    """A text as long as it was, with white space instead of what is to go."""
    return _filled(text, going(text, spans))


def going(text: str, spans: Sequence[Span]) -> list[Span]:
    """The stretches of a text that are to go, tags included; `spans` are kept in any case."""
    pairs = passages(_filled(text, spans), OPEN, CLOSE) if CLOSE in text else ()
    if not pairs:
        return []
    gone = np.zeros(len(text) + 2, np.bool_)  # with one more at both ends, where nothing goes
    for start, end in pairs:
        gone[start + 1 : end + 1] = True
    for start, end in spans:
        gone[start + 1 : end + 1] = False
    edges = np.flatnonzero(gone[1:] != gone[:-1]).reshape(-1, 2)
    return list(_stripped(text, edges.tolist()))


def _is_marked(segment: Segment) -> bool:
    return not segment.locked and segment.role != "tool" and CLOSE in segment.text


def _rest(segment: Segment) -> Rendering | None:
    """A text without what is to go; None when nothing is."""
    gone = going(segment.text, segment.spans)
    if not gone:
        return None
    units = split(segment.text, "paragraph", marked=gone)
    return rendering(units, ~units.touching(gone))


def _emptied(prompt: Prompt, texts: dict[int, str]) -> Iterator[int]:
    """For each leaf of which nothing is left, the segment that holds its mark."""
    at = 0
    for leaf in prompt.leaves:
        size = len(leaf.segments)
        places = [i for i in range(at, at + size) if i in texts]
        left = (texts.get(i, s.text) for i, s in enumerate(leaf.segments, at))
        if places and not "".join(left).strip():
            yield places[0]
        at += size


def _owners(prompt: Prompt) -> Iterator[tuple[int, int]]:
    """Each segment with the number of its leaf."""
    owners = (number for number, leaf in enumerate(prompt.leaves) for _ in leaf.segments)
    return enumerate(owners)


def _decision(at: int, prompt: Prompt, text: str, fault: str, context: Context) -> Decision:
    segment = prompt.segments[at]
    count = len(passages(_filled(segment.text, segment.spans), OPEN, CLOSE))
    before, after = context.tokens_of([segment.text, segment.text if fault else text])
    return Decision(
        path=spell(segment.path),
        role=segment.role,
        kind=segment.kind,
        stage=STAGE,
        action="reverted" if fault else "compressed",
        reason=fault or f"the caller marked {count} passage{'s' * (count > 1)} as to go",
        before=before,
        after=after,
    )


def _through(old: Segment, new: Segment) -> Origins | None:
    told = traced(replace(old, origins=None), new)
    return None if told is None else composed(told, old.origins or ())


def _filled(text: str, spans: Sequence[Span]) -> str:
    """A text with white space in the place of some spans."""
    if not spans:
        return text
    starts = [0, *(end for _, end in spans)]
    parts = [text[at:start] for at, (start, _) in zip(starts, spans, strict=False)]
    fills = [FILL * (end - start) for start, end in spans]
    pairs = zip(parts, fills, strict=True)
    return "".join(part for pair in pairs for part in pair) + text[starts[-1] :]


def _stripped(text: str, spans: Sequence[Sequence[int]]) -> Iterator[Span]:
    """Spans without the white space at their ends, and without those that are only that."""
    for start, end in spans:
        piece = text[start:end]
        if left := piece.lstrip():
            first = end - len(left)
            yield first, first + len(left.rstrip())
