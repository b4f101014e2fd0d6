"""What is brought along: passages, labelled and fenced, and where each character came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tersely.contracts import Context
from tersely.origins import Origins, composed, origins_of
from tersely.prompt import Span
from tersely.rag.fence import LABEL, Fence, harmless
from tersely.retrieval import Passage

APART = "\n\n"
"""What stands between passages, always: caches of prefixes match byte by byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A passage as the model sees it: under its number, with what is left of its text.

    `passage` holds that text as it was retrieved, and the range of its source that it was taken
    from. `ids` are the passages that were glued to one. `origins` tell of each run of the
    bundle's text where it begins there, where in the source, and how long it is. What lies
    outside of them is not of the source: spaces that make it harmless, gaps between sentences.
    """

    number: int
    passage: Passage
    ids: tuple[str, ...]
    origins: Origins

    @property
    def source(self) -> str:
        return self.passage.source

    @property
    def score(self) -> float:
        return self.passage.score

    @property
    def spans(self) -> tuple[Span, ...]:
        """The stretches of the source that are shown, in order."""
        merged: list[Span] = []
        for _, start, length in self.origins:
            begin = merged.pop()[0] if merged and merged[-1][1] == start else start
            merged.append((begin, start + length))
        return tuple(merged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What was found, ready to be put into a prompt.

    `tokens` is what the text counts, by the context's counter. An empty bundle has no text, and
    `reason` says why. `dropped` are the passages that found no room, the best first.
    """

    text: str = ""
    tokens: int = 0
    shown: tuple[Shown, ...] = ()
    dropped: tuple[Passage, ...] = ()
    reason: str = ""

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The passages shown, in that order, with what is left of their text."""
        return tuple(one.passage for one in self.shown)

    def __bool__(self) -> bool:
        return bool(self.shown)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A passage on its way into a bundle, and what is left of it.

    `whole` is the passage as it was found, `ids` are those that were glued to it, and `origins`
    lead from the text that is left to the source. A `pruned` one is not glued to others.
    """

    passage: Passage
    whole: Passage
    ids: tuple[str, ...]
    origins: Origins
    pruned: bool = False


def stretch_of(passage: Passage) -> Stretch:
    """A passage as it was found."""
    origins = origins_of([0], [passage.start], [len(passage.text)])
    return Stretch(passage, passage, (passage.id,), origins)


def bundled(
    stretches: Sequence[Stretch],
    fence: Fence | None,
    about: str,
    context: Context,
    *,
    first: int = 1,
    broken: Callable[[str], tuple[str, Origins]] = harmless,
) -> Bundle:
    """These passages in this order, labelled and fenced, and what the text counts.

    `first` is the number of the first one, and `about` is what a label tells beside the number: a
    template with the names of a passage's fields and of its metadata. `broken` makes a text
    harmless.
    """
    tokens = fence.tokens if fence else ()
    bodies = [broken(one.passage.text) for one in stretches]
    labels = [
        label(number, one.passage, about, tokens) for number, one in enumerate(stretches, first)
    ]
    before, after = fence.frame([*labels, *(text for text, _ in bodies)]) if fence else ("", "")
    pieces, shown, at = [before], [], len(before)
    for i, (one, (text, spaced)) in enumerate(zip(stretches, bodies, strict=True)):
        head = f"{APART if i else ''}{labels[i]}\n"
        at += len(head)
        origins = tuple((at + a, b, n) for a, b, n in composed(spaced, one.origins))
        shown.append(Shown(number=first + i, passage=one.passage, ids=one.ids, origins=origins))
        pieces += [head, text]
        at += len(text)
    text = "".join([*pieces, after])
    return Bundle(text=text, tokens=context.count(text), shown=tuple(shown))


def label(number: int, passage: Passage, about: str = "", tokens: Sequence[str] = ()) -> str:
    """What stands above a passage: one line."""
    mark = LABEL.format(number=number)
    if not about:
        return mark
    fields = {name: getattr(passage, name) for name in ("source", "start", "end", "id")}
    told = about.format_map(_Told({**passage.metadata, **fields}))
    text, _ = harmless(" ".join(told.split()), tokens)
    return f"{mark} {text}" if text else mark


class _Told(dict[str, Any]):
    """What is known of a passage; a name that is not known is told as nothing."""

    def __missing__(self, name: str) -> str:
        return ""
