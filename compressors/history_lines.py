"""Old turns as lines that say who says what, and the text that such lines make up.

A line is written after the name of who says it; what follows in the same message is set in below.
Since nothing spans two lines, whatever stands in a tool's output can't pass for someone's word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

import regex

from tersely.history import HEAD
from tersely.plainly import told_json
from tersely.prompt import Segment
from tersely.units import split

Who = Literal["user", "assistant", "call", "gave", "gist"]

NAMES: tuple[Who, ...] = ("user", "assistant", "call", "gave", "gist")

BEGUN = regex.compile(rf"({'|'.join(NAMES)}): ?")
INSET = "  "

CALL = regex.compile(r"(?s)([\w.:/-]{1,128})\((.*)\)")
"""How a call is written: the tool's name and what it is handed."""

PRESENTED = regex.compile(r"Here is a summary of the conversation to date:\s*$")
"""How LangChain presents a summary."""

BREAKS = regex.compile(r"\r\n?|[\n\v\f\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A sentence, a call or a piece of a tool's output: never more than a line.

    `message` and `row` tell which lines belong together: those of one message, and those that
    stood in one line of it. `lead` is the white space that stood before it there, and one that
    `opens` its row had nothing else before it. A `table` is all of a tool's output.
    """

    who: Who
    text: str
    message: int
    row: int
    lead: str = ""
    opens: bool = True
    table: bool = False


class Row(NamedTuple):
    """A line of a text, and whether a message begins with it."""

    who: Who
    text: str
    begins: bool
    table: bool = False


def lines_of(segments: Sequence[Segment]) -> list[Line]:
    """The lines of old turns, those of an earlier summary among them."""
    found: list[Line] = []
    message = -1
    rows = (row for segment in segments for row in _rows(segment))
    for number, row in enumerate(rows):
        message += row.begins
        for i, (lead, text) in enumerate(_sentences(row)):
            found.append(
                Line(
                    who=row.who,
                    text=text,
                    message=message,
                    row=number,
                    lead=lead,
                    opens=not i,
                    table=row.table,
                )
            )
    return found


def written(lines: Iterable[Line]) -> str:
    """The text of some lines, in their order."""
    said: list[str] = [HEAD]
    message: int | None = None
    for _, group in groupby(lines, key=lambda one: one.row):
        row = list(group)
        text = "".join(f"{one.lead}{one.text}" for one in row)
        if not row[0].opens:
            text = text.lstrip()
        said.append(f"{INSET}{text}" if row[0].message == message else f"{row[0].who}: {text}")
        message = row[0].message
    return "\n".join(said)


def _rows(segment: Segment) -> Iterator[Row]:
    """The lines of one text."""
    text = segment.text
    if segment.role == "tool":
        table = told_json(text)
        if table is not None:
            yield Row("gave", table, True, True)
        else:
            yield from _apart("gave", text)
    elif segment.kind == "code" and (call := CALL.fullmatch(text)):
        yield Row("call", " ".join(f"{call[1]}({told_json(call[2]) or call[2]})".split()), True)
    elif segment.role == "user" and HEAD in text:
        yield from _earlier(text)
    else:
        yield from _apart("assistant" if segment.role == "assistant" else "user", text)


def _earlier(text: str) -> Iterator[Row]:
    """The lines of a summary that stands in a text, and what else stands there."""
    before, _, below = text.partition(HEAD)
    yield from _apart("user", PRESENTED.sub("", before))
    who: Who = "user"
    for row in _texts(below):
        if begun := BEGUN.match(row):
            who = NAMES[NAMES.index(begun[1])]
            yield Row(who, row[begun.end() :], True, who == "gave")
        elif row.startswith(INSET):
            yield Row(who, row[len(INSET) :], False)
        else:  # someone put two messages into one
            who = "user"
            yield Row(who, row, True)


def _apart(who: Who, text: str) -> Iterator[Row]:
    return (Row(who, row, not i) for i, row in enumerate(_texts(text)))


def _texts(text: str) -> Iterator[str]:
    """The lines of a text that say something."""
    return (row for row in BREAKS.split(text) if row.strip())


def _sentences(row: Row) -> Iterator[tuple[str, str]]:
    """The sentences of a line, each with the white space before it; others stay whole."""
    if row.who in ("call", "gave"):
        yield "", row.text
        return
    units = split(row.text, "sentence")
    at = 0
    for start, end in zip(units.starts.tolist(), units.ends.tolist(), strict=True):
        yield row.text[at:start], row.text[start:end]
        at = end
