"""Write the documents of a text in another order: the best where a model reads best."""
# ruff: noqa: RUF001 - the patterns name the punctuation of many scripts

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import regex

from tersely.prompt import Span
from tersely.protect import fences
from tersely.render import Rendering, rendering
from tersely.units import Bools, Floats, Ints, Units, split

Order = Literal["kept", "best_first", "best_last", "edges", "auto"]
"""How the documents of one text follow each other when the text was cut.

`kept`: as they were. `auto`: best last, next to the question, where the documents stand by
themselves (see `stand_alone`), else as they were. `edges`: the best first, the second last, the
third second, and so on inward: what stands in the middle is read worst (Liu et al. 2023,
https://arxiv.org/abs/2307.03172).
"""

HEADING = regex.compile(r"#{1,6}+\s")
TITLE = regex.compile(r"[^\n]{0,79}[^\n.!…。！,;،、]")
"""A line by itself that says what the next paragraph is about."""

FEWEST_ALONE = 3
MOSTLY = 0.8
"""How many documents, and what share of them, must look as if they stood by themselves."""

LABEL = regex.compile(
    r"(?i)\W{0,3}(context|document|doc|example|input|passage|problem|question|q|result|snippet|source)"
    r"[ ]?[\[(#]?\d{0,4}[\])]?\W"
)
OWN_TITLE = regex.compile(
    r"(?![^\n]{0,3}\d|(?i:act|chapter|day|entry|part|phase|section|stage|step|turn|week)\b)"
    r"[^\n]{0,89}[^\n.!?…。！？,;:：،、][^\S\n]*+\n[^\n]"
)
"""A first line that is no sentence and does not say where in a row it stands."""


def labelled(documents: Units) -> bool:
    """Whether all documents bear the same label: worked examples, numbered passages."""
    labels = [LABEL.match(text) for text in documents.texts]
    named = {label[1].lower() for label in labels if label}
    return len(labels) >= FEWEST_ALONE and all(labels) and len(named) == 1


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The documents of a text, and how they are to follow each other."""

    documents: Units
    order: Order
    mark: str = ""

    def rendering(self, units: Units, kept: Bools, values: Floats, fixed: Bools) -> Rendering:
        """The text of the kept units with its documents in order.

        A `mark` stands where something within a document was dropped.

        A document is worth what its best kept unit is worth. Those with a `fixed` unit stay at
        their places, and so does the white space between places; the indentation of a first
        line goes with it. Shape of all: (units,).
        """
        numbers = np.searchsorted(self.documents.starts, units.starts, "right") - 1
        cuts = np.append(False, np.diff(numbers) > 0)[: len(units)]
        made = rendering(units, kept, cuts, self.mark)
        owners = numbers[made.firsts]
        opens = np.flatnonzero(np.append(True, np.diff(owners) > 0)[: len(owners)])
        if len(opens) < 2:
            return made
        worth = np.full(len(self.documents), -np.inf)
        np.maximum.at(worth, numbers[kept], values[kept])
        stays = np.zeros(len(self.documents), np.bool_)
        stays[numbers[fixed]] = True
        there = owners[opens]
        return _seated(made, opens, seats(worth[there], stays[there], self.order))


def arrangement(units: Units, order: Order) -> Arrangement | None:
    """How the documents of a text shall follow each other; None where they stay."""
    if order == "kept":
        return None
    documents = documents_to_move(units)
    if order == "auto":
        return Arrangement(documents, "best_last") if stand_alone(documents) else None
    return Arrangement(documents, order)


def stand_alone(documents: Units) -> bool:
    """Whether documents were put together rather than written one after the other.

    So it is when each has a title of its own that gives no number, or all bear the same label, as
    retrieved passages (`Document [2]`) and worked examples (`Question:`) do.
    """
    texts = documents.texts
    if len(texts) < FEWEST_ALONE:
        return False
    if labelled(documents):
        return True
    titles = [titled is not None for titled in map(OWN_TITLE.match, texts)]
    return sum(titles) >= MOSTLY * len(texts)


def documents_to_move(units: Units) -> Units:
    """What is moved as one: a section under its heading, or a paragraph with its title.

    A code block is never split, and neither is a unit.
    """
    text = units.text
    paragraphs = split(text, "paragraph")
    return paragraphs.merged([*fences(text), *_headed(paragraphs), *_crossing(units, paragraphs)])


def seats(worth: Floats, stays: Bools, order: Order) -> Ints:
    """Which document stands at each place. Equals stay in order. Shape of all: (documents,)."""
    taken = np.arange(len(worth))
    free = np.flatnonzero(~stays)
    best = free[np.argsort(-worth[free], kind="stable")]
    match order:
        case "best_first":
            taken[free] = best
        case "best_last":
            taken[free] = free[np.argsort(worth[free], kind="stable")]
        case "edges":
            taken[free] = np.concatenate((best[::2], best[1::2][::-1]))
        case "kept" | "auto":
            pass
    return taken


def _seated(made: Rendering, opens: Ints, taken: Ints) -> Rendering:
    """The pieces with the documents, that open at these runs, at other places."""
    bounds = [*(2 * opens).tolist(), len(made.pieces) - 1]
    between: list[tuple[str, int]] = []
    documents: list[tuple[list[str], list[int]]] = []
    for gap, end in pairwise(bounds):
        (white, indent), begin = _indented(made.pieces[gap]), made.sources[gap]
        between.append((white, begin))
        inner = slice(gap + 1, end)
        after = begin if begin < 0 else begin + len(white)
        documents.append(([indent, *made.pieces[inner]], [after, *made.sources[inner]]))
    pieces: list[str] = []
    sources: list[int] = []
    for (white, begin), which in zip(between, taken.tolist(), strict=True):
        texts, places = documents[which]
        pieces += [white, *texts]
        sources += [begin, *places]
    pieces.append(made.pieces[-1])
    sources.append(made.sources[-1])
    return Rendering(pieces, sources, made.firsts)


def _indented(white: str) -> tuple[str, str]:
    """White space between documents, and the indentation of the line that follows."""
    at = white.rfind("\n") + 1
    return white[:at], white[at:]


def _headed(paragraphs: Units) -> list[Span]:
    """Each heading with all up to the next one, and each title with the next paragraph."""
    texts, starts = paragraphs.texts, paragraphs.starts.tolist()
    heads = [HEADING.match(text) is not None for text in texts]
    titles = [TITLE.fullmatch(text) is not None for text in texts]
    spans: list[Span] = []
    section = False
    for i in range(len(texts) - 1):
        section = section or heads[i]
        if not heads[i + 1] and (section or (titles[i] and not titles[i + 1])):
            spans.append((starts[i], starts[i + 1] + 1))
    return spans


def _crossing(units: Units, paragraphs: Units) -> list[Span]:
    """The units that reach over a blank line."""
    first = np.searchsorted(paragraphs.starts, units.starts, "right")
    last = np.searchsorted(paragraphs.starts, units.ends, "left")
    over = first < last
    return list(zip(units.starts[over].tolist(), units.ends[over].tolist(), strict=True))
