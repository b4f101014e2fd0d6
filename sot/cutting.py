"""Cut what was written to one point: where it runs on, where it repeats, where it breaks off."""

from __future__ import annotations

import regex

from tersely.units import split

MARKS = r"[ \t]*(?:#{1,6}[ \t]*)?[*_]{0,3}(?:(?:point|step)[ \t]+)?\(?"
ENDED = regex.compile(r"[.!?…。！？।॥۔][\p{Pe}\p{Pf}\"'*_`]*$|^[|`~]|```$")  # noqa: RUF001
BULLET = regex.compile(r"[-*+•][ \t]")
ROLE = r"\n[ \t]*(?:user|assistant|human|question|system)[ \t]*:"


def run_on(text: str, number: int) -> int:
    """Where a text goes on with other points than `number`; its length where it does not.

    That is a line that begins with the next number, a number after a blank line, or a change of
    the speaker.
    """
    found = _pattern(number).search(text)
    return found.start() if found else len(text)


def body(text: str, number: int, heading: str) -> str:
    """What was written to a point: without its heading said again, and without other points."""
    text = text[: run_on(text, number)]
    return _unrepeated(text.lstrip(), number, heading)


def whole(text: str) -> str:
    """A text that was cut, up to the end of its last whole sentence; all of it without one."""
    units = split(text, "sentence")
    if len(units) < 2 or ended(text):
        return text.rstrip()
    return text[: int(units.ends[-2])]


def sure(text: str) -> str:
    """A text that is still being written, without the sentence that may go on."""
    units = split(text, "sentence")
    return text[: int(units.ends[-2])] if len(units) > 1 else ""


def ended(text: str) -> bool:
    """Whether a text ends as a sentence does."""
    return ENDED.search(text.rstrip()) is not None


def joined(head: str, more: str) -> str:
    """Two parts of a text, with a space where they would fuse; a list begins on its own line."""
    if not head or not more or head[-1].isspace() or more[0].isspace():
        return head + more
    return f"{head}\n{more}" if BULLET.match(more) else f"{head} {more}"


def _pattern(number: int) -> regex.Pattern[str]:
    following, any_ = number + 1, rf"(?!{number}\b)\d{{1,2}}"
    return regex.compile(
        rf"\s*\n{MARKS}{following}[.):](?!\d)|\s*\n[ \t]*\n{MARKS}{any_}[.)](?!\d)|\s*{ROLE}",
        regex.IGNORECASE,
    )


def _unrepeated(text: str, number: int, heading: str) -> str:
    """The text without its number and heading, where it begins by them."""
    start = regex.match(rf"{MARKS}{number}[.):]+[*_]{{0,3}}\s*", text, regex.IGNORECASE)
    bare = text[start.end() :] if start else text
    again = regex.match(
        rf"[*_\"]{{0,3}}{regex.escape(heading)}[*_\"]{{0,3}}(?=\W|$)", bare, regex.I
    )
    bare = bare[again.end() :] if again and heading else bare
    return bare.lstrip(" \t\n\r:") if start or again else text.lstrip(" \t\n\r:")
