"""Find what a user asks in a turn that also holds long material."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tersely.prompt import Span

LONG = 1200
"""Characters from which a text may hold material besides what is asked (about 300 tokens)."""

TYPED = 4000
"""Characters up to which people type a turn by hand: there only a labelled question tells."""

SHORT = LONG // 2
"""Characters up to which a first or last paragraph is an instruction rather than material."""

LABEL = 40
"""Characters of a closing paragraph that only says who speaks next, as `Answer:`."""

_ASKED = re.compile(r"[ \t]*(?:question|query)[ \t]*:", re.IGNORECASE)
_PARAGRAPH = re.compile(
    rf"""\S.*                                 # a line with something on it
        (?:\n(?!{_ASKED.pattern})             # and the next, unless it begins with `Question:`
            (?=[^\S\n]*\S).*)*                # or is blank
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Material:
    """The range of a text that is material, and what is asked about it."""

    start: int
    end: int
    question: str


def material(text: str) -> Material | None:
    """What in a long text is material; None when no question can be told from it.

    The question is the last paragraph that begins with `Question:`. Without that label, and in
    a text longer than people type by hand, it is the last or the first one, whichever ends with
    a question mark; else a short last one, or a short first one that ends with a colon. Short
    first and last paragraphs are never material: they tell what to do.
    """
    if len(text) < LONG:
        return None
    spans = [found.span() for found in _PARAGRAPH.finditer(text)]
    paragraphs = [text[start:end].strip() for start, end in spans]
    if len(paragraphs) < 2:
        return None
    found = _labelled(paragraphs) or (_unlabelled(paragraphs) if len(text) >= TYPED else None)
    if found is None:
        return None
    first, last, question = found
    if not question or first >= last:
        return None
    start, end = spans[first][0], spans[last - 1][0] + len(paragraphs[last - 1])
    return Material(start, end, question) if end - start >= SHORT else None


def gist(text: str) -> str:
    """What a text is most likely about: all of a short one, the ends of a long one."""
    return text if len(text) < LONG else f"{text[:SHORT]}\n{text[-SHORT:]}"


def clear_of(found: Material, spans: tuple[Span, ...]) -> bool:
    """Whether neither end of the material lies inside one of the spans."""
    cuts = (found.start, found.end)
    return not any(start < cut < end for start, end in spans for cut in cuts)


def _labelled(paragraphs: list[str]) -> tuple[int, int, str] | None:
    """First and last of the material, and the question, where one is labelled as such."""
    asked = next((i for i in reversed(range(len(paragraphs))) if _ASKED.match(paragraphs[i])), None)
    if asked is None:
        return None
    question = _ASKED.sub("", paragraphs[asked], count=1).strip()
    if sum(map(len, paragraphs[:asked])) >= SHORT:
        return _head(paragraphs), asked, question
    return asked + 1, _tail(paragraphs), question


def _unlabelled(paragraphs: list[str]) -> tuple[int, int, str]:
    first, last = _head(paragraphs), _tail(paragraphs)
    head, tail = "\n".join(paragraphs[:first]), "\n".join(paragraphs[last:])
    if tail and (paragraphs[-1].endswith("?") or len(paragraphs) - last > 1):
        return first, last, tail
    if head.endswith("?"):
        return first, last, head
    return first, last, tail or (head if head.endswith(":") else "")


def _head(paragraphs: list[str]) -> int:
    """Where material begins at the earliest."""
    return int(_asks(paragraphs[0]))


def _tail(paragraphs: list[str]) -> int:
    """Where material ends at the latest: a closing `Answer:` belongs to what is before it."""
    last = len(paragraphs) - int(_asks(paragraphs[-1]))
    is_label = len(paragraphs[-1]) < LABEL and paragraphs[-1].endswith(":")
    return last - int(is_label and last > 1 and _asks(paragraphs[last - 1]))


def _asks(paragraph: str) -> bool:
    return len(paragraph) <= SHORT or paragraph.endswith("?")
