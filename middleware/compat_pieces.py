"""The parts of a prompt in a row, each compressed as it is to be, and put together again."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import regex

from tersely.budget import Budget
from tersely.contracts import Context, Stage, TokenCounter
from tersely.errors import BudgetError
from tersely.kinds import json_shape
from tersely.middleware.compat_settings import Settings
from tersely.middleware.compat_tags import Part
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.provenance import copies
from tersely.origins import landed
from tersely.prompt import Kind, Prompt, Segment, Span
from tersely.units import split

JOINT = "\n\n"

WORD = regex.compile(r"\S+")

PLACE = ("prompt",)
"""All pieces are one text, so that tokens are counted as they will be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of the prompt: open to compression at a rate (None: the call's own) or closed.

    `joint` is the blank line between two texts.
    """

    text: str
    rate: float | None = None
    open: bool = False
    spans: tuple[Span, ...] = ()
    joint: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """How pieces are compressed: by what, counted by whom, for which question."""

    stage: Stage
    count: TokenCounter
    question: str = ""
    kind: Kind = "context"

    def segments(self, pieces: Sequence[Piece]) -> list[Segment]:
        """The pieces as segments of one text."""
        return [
            Segment(text=one.text, kind=self.kind, spans=one.spans, path=PLACE) for one in pieces
        ]

    def at_rates(self, pieces: Sequence[Piece], segments: list[Segment]) -> list[Segment]:
        """Compress the pieces that have a rate of their own, rate by rate."""
        for rate in sorted({one.rate for one in pieces if one.open and one.rate is not None}):
            segments = self._kept(segments, [one.open and one.rate == rate for one in pieces], rate)
        return segments

    def by_share(
        self, pieces: Sequence[Piece], segments: list[Segment], rate: float
    ) -> list[Segment]:
        """Compress the pieces that have no rate of their own to a share of them."""
        return self._kept(segments, [_is_free(one) for one in pieces], rate)

    def to_limit(
        self, pieces: Sequence[Piece], segments: list[Segment], settings: Settings, before: int
    ) -> list[Segment]:
        """Compress the pieces that have no rate of their own until the whole prompt fits.

        Where the rest alone is too long, they keep the share, or the tokens, by themselves.
        """
        free = [_is_free(one) for one in pieces]
        target = int(settings.target_token)
        limit = target if target >= 0 else int(before * settings.rate)
        pairs = zip(segments, free, strict=True)
        fixed = self.count("".join(s.text for s, mine in pairs if not mine))
        if fixed and fixed >= limit and any(free):
            warnings.warn(
                f"{fixed} tokens may not change, which leaves no room in {limit}:"
                " the contexts are compressed as if they were alone",
                stacklevel=5,
            )
            if target < 0:
                return self._kept(segments, free, settings.rate)
            limit += fixed
        return self._within(segments, free, Budget(tokens=limit) if limit > fixed else None)

    def _kept(self, segments: list[Segment], mine: Sequence[bool], rate: float) -> list[Segment]:
        return self._within(segments, mine, Budget(ratio=rate) if rate else None)

    def _within(
        self, segments: list[Segment], mine: Sequence[bool], budget: Budget | None
    ) -> list[Segment]:
        """Compress some segments so that a budget holds; without one nothing of them is left.

        Warns when it can't be held.
        """
        pairs = list(zip(segments, mine, strict=True))
        if budget is None:
            return [s.changed("", ()) if own else s for s, own in pairs]
        prompt = Prompt(
            tuple(replace(s, locked=not own) for s, own in pairs), question=self.question
        )
        context = Context(count=self.count, budget=budget)
        run = Pipeline([self.stage]).through(prompt, context, strict=True)
        try:
            run.settle()
        except BudgetError as error:
            warnings.warn(str(error), stacklevel=6)
        return list(run.prompt.segments)


def rows_of(contexts: Sequence[Sequence[Part]], settings: Settings) -> list[list[Piece]]:
    """The contexts as pieces, JSON and those that are forced closed, blank ones left out.

    When they are to be put in another order, neighbours that are open are one text.
    """
    forced = set(settings.force_context_ids or ())
    rows: list[list[Piece]] = []
    for i, parts in enumerate(contexts):
        whole = "".join(part.text for part in parts)
        if whole.strip():
            shut = i in forced or json_shape(whole) is not None
            rows.append([_piece(part, settings, shut) for part in parts])
    if settings.reorder_context != "original":
        rows = list(_merged(rows))
    return rows


def joined(rows: Iterable[Sequence[Piece]]) -> list[Piece]:
    """Rows of pieces as one row, with a joint between each two."""
    row: list[Piece] = []
    for pieces in rows:
        if row:
            row.append(Piece(text=JOINT, joint=True))
        row += pieces
    return row


def texts_of(pieces: Sequence[Piece], segments: Sequence[Segment]) -> list[str]:
    """What became of the texts between the joints, without those that are gone."""
    pairs = groupby(zip(pieces, segments, strict=True), key=lambda pair: pair[0].joint)
    texts = ["".join(s.text for _, s in group) for joint, group in pairs if not joint]
    return [text for text in texts if text.strip()]


def labels_of(
    pieces: Sequence[Piece], segments: Sequence[Segment], separator: str
) -> Iterator[str]:
    """Every word of the contexts with a 1 where it was kept and a 0 where not."""
    for piece, segment in zip(pieces, segments, strict=True):
        spans = [match.span() for match in WORD.finditer(piece.text)]
        old, new = Prompt((Segment(text=piece.text),)), Prompt((segment,))
        origins = copies(next(old.leaves), next(new.leaves))
        for (start, end), kept in zip(spans, landed(origins, spans), strict=True):
            yield f"{piece.text[start:end]}{separator}{int(kept is not None)}"


def _piece(part: Part, settings: Settings, shut: bool) -> Piece:
    spans = tuple(_ends(part.text, settings.keep_first_sentence, settings.keep_last_sentence))
    return Piece(text=part.text, rate=part.rate, open=part.compress and not shut, spans=spans)


def _ends(text: str, first: int, last: int) -> Iterator[Span]:
    """The first and the last sentences of a text."""
    if not first and not last:
        return
    sentences = split(text, "sentence")
    places = np.arange(len(sentences))
    for i in np.flatnonzero((places < first) | (places >= len(places) - last)).tolist():
        yield int(sentences.starts[i]), int(sentences.ends[i])


def _merged(rows: Sequence[list[Piece]]) -> Iterator[list[Piece]]:
    """The rows, with neighbours that are a single open piece made one."""
    for plain, group in groupby(rows, key=_is_plain):
        if not plain:
            yield from group
            continue
        texts: list[str] = []
        spans: list[Span] = []
        at = 0
        for (piece,) in group:
            spans += ((start + at, end + at) for start, end in piece.spans)
            texts.append(piece.text)
            at += len(piece.text) + len(JOINT)
        yield [Piece(text=JOINT.join(texts), open=True, spans=tuple(spans))]


def _is_free(piece: Piece) -> bool:
    return piece.open and piece.rate is None


def _is_plain(row: Sequence[Piece]) -> bool:
    return len(row) == 1 and _is_free(row[0])
