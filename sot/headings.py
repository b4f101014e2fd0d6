"""Find the headings of a numbered list while an answer is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import regex

LONGEST = 80
"""Characters of a heading: more is an item that says it all."""

BOLD = r"(?:\*\*|__)"
OPENS = rf"(?P<lead>(?:#{{1,6}}[ \t]+)?{BOLD}?)"
CLOSED = (
    rf"(?:{BOLD}?:{BOLD}?(?=[\s\S])(?![*_/\d])"
    rf"|(?<=[^\s*_]){BOLD}:?(?=[ \t]*(?:\n|[-\u2013\u2014][ \t])))"
)
"""A heading is closed by a colon, or in bold by the end of its line or a dash; one of markdown's
also by the end of its line alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading as it stands in a text, characters `start` to `end`: `raw` is all of it.

    `mark` is what stands before it, `text` what it says. It is `alone` where the text goes on in
    the next line.
    """

    number: int
    text: str
    mark: str
    raw: str
    start: int
    end: int
    alone: bool

    def following(self) -> str:
        """How the next item of the list begins, up to its number."""
        before, _, behind = self.mark.partition(str(self.number))
        return f"{before}{self.number + 1}{behind[:1]}"


def first_heading(text: str) -> Heading | None:
    """The heading of the first item, if the text has come to one that is closed."""
    found = _pattern(1).search(text)
    return _told(found, 1) if found else None


def next_headings(text: str, number: int) -> tuple[list[Heading], str]:
    """The headings that a text goes on with, from this number on, and what is left of it."""
    found: list[Heading] = []
    while match := _pattern(number).match(text.lstrip()):
        found.append(_told(match, number))
        text, number = match.string[match.end() :], number + 1
    return found, text


def may_open(text: str, number: int) -> bool:
    """Whether a text that is still written may be the beginning of an item of this number."""
    return _pattern(number).fullmatch(text, partial=True) is not None


def sayable(text: str) -> str:
    """What is sure to stand before a list: all but a line that may become its first heading."""
    start = text.rfind("\n") + 1
    if may_open(text[start:], 1):
        return text[:start].rstrip("\n")
    return text


def _told(found: regex.Match[str], number: int) -> Heading:
    line = found.string[found.end() :].split("\n", 1)[0]
    return Heading(
        number=number,
        text=found["text"].strip(),
        mark=found["mark"],
        raw=found.string[found.start("mark") : found.end()],
        start=found.start("mark"),
        end=found.end(),
        alone=not found[0].rstrip("*_").endswith(":") and not line.strip(),
    )


@cache
def _pattern(number: int) -> regex.Pattern[str]:
    mark = rf"(?P<mark>{OPENS}{number}[.)]{BOLD}?[ \t]+{BOLD}?)"
    text = rf"(?P<text>[^\s:*_#][^\n:*_]{{0,{LONGEST}}}?)"
    hashed = rf"(?P<mark>#{{1,6}}[ \t]+{BOLD}?{number}[.)]{BOLD}?[ \t]+){text}{BOLD}?(?=[ \t]*\n)"
    return regex.compile(rf"(?m:^)[ \t]{{0,3}}(?:{mark}{text}{CLOSED}|{hashed})")
