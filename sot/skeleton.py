"""Read the skeleton of an answer while it is written: its points, and what they build on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import regex

from tersely.sot.usable import Sieve

LONGEST = 200
"""Characters of a point's line that are kept: it is to say what the point is about, no more."""

ITEM = regex.compile(
    r"(?P<indent>[ \t]*)(?:>[ \t]*)*(?:#{1,6}[ \t]+)?[*_]{0,3}"
    r"(?:(?:point|step|part|section|idea|tip)[ \t]+)?"
    r"(?:\(?(?P<number>\d{1,3})(?:\\?[.):]|[ \t]*[-–—](?=[ \t]))(?!\d)"  # noqa: RUF001
    r"|(?P<bullet>[-*+•‣◦–—▪](?=[ \t])))"  # noqa: RUF001
    r"[*_]{0,3}[ \t]*(?P<text>.*)",
    regex.IGNORECASE,
)
AGAIN = regex.compile(r"\(?(\d{1,3})[.)](?!\d)[ \t]*")
IDS = r"(?P<ids>(?:none|nothing|and|points?|steps?|[-\d\s,;&#.])*)"
NEEDS = regex.compile(
    rf"[ \t]*(?:<[-=]+|←)[ \t]*{IDS}$"
    rf"|[ \t]*\((?:needs|depends on|builds on|after|requires):?[ \t]*{IDS}\)$",
    regex.IGNORECASE,
)
HARD = regex.compile(r"[ \t]*\[(?:hard|difficult)\]", regex.IGNORECASE)
FENCE = regex.compile(r"[ \t]*(?:```|~~~)")
TAB = 4
IDLE = 4
"""Lines in a row that say nothing new, after which nothing new is to be waited for."""

EDGES = " \t*_`\"'“”:;,-–—"  # noqa: RUF001


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One line of a skeleton: its number, what it is about, and the points it builds on.

    `details` are the lines below it that are nested. `hard` is what the line's own tag says.
    """

    number: int
    text: str
    needs: tuple[int, ...] = ()
    details: tuple[str, ...] = ()
    hard: bool = False


@dataclass(slots=True)
class Skeleton:
    """A skeleton in the making. `points` are those whose lines are closed.

    A line is closed when the next point begins, or when nothing more comes (`end`). Numbers,
    bullets and markdown around them are understood; prose, headings and fences are passed over.
    What the `sieve` keeps out is `left_out`, with the reason; who builds on a repetition builds on
    the first. No more than `most` points are read: then, or where the list begins anew or says
    nothing new any more, it is `full`.
    """

    most: int = 10
    sieve: Sieve = field(default_factory=Sieve)
    points: list[Point] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)
    full: bool = False
    _idle: int = 0
    _open: Point | None = None
    _read: int = 0
    _indent: int = 0
    _numbered: bool = False
    _lazy: bool = False
    _apart: bool = False
    _same: dict[int, int] = field(default_factory=dict)

    def read(self, text: str) -> list[Point]:
        """Go on reading; `text` is all that came so far. The points that were closed by it."""
        before = len(self.points)
        end = text.rfind("\n") + 1
        if end > self._read:
            lines, self._read = text[self._read : end], end
            for line in lines.splitlines():
                self._line(line)
        if self._open is not None and _begins(text[self._read :], self._indent):
            self._close()
        return self.points[before:]

    def end(self, text: str) -> list[Point]:
        """Nothing more comes; the points that are closed by that."""
        before = len(self.points)
        self.read(text)
        for line in text[self._read :].splitlines():
            self._line(line)
        self._read = len(text)
        self._close()
        return self.points[before:]

    @property
    def resolved(self) -> list[Point]:
        """The points, with what they build on reduced to other points, without circles."""
        return acyclic(replace(point, needs=self.known(point)) for point in self.points)

    def known(self, point: Point) -> tuple[int, ...]:
        """What a point builds on, by the numbers of the points it was merged into."""
        return tuple(dict.fromkeys(self._same.get(number, number) for number in point.needs))

    def _line(self, line: str) -> None:
        if self.full or FENCE.match(line):
            return
        found = ITEM.fullmatch(line)
        if found is None or not _bare(found["text"]):
            self._prose(line)
            return
        indent = len(found["indent"].expandtabs(TAB))
        below = found["bullet"] is not None and self._open is not None
        if self._open is not None and (indent > self._indent + 1 or (below and self._numbered)):
            self._detail(found["text"])
            return
        self._close()
        if not self.full:
            self._begin(found, indent)

    def _begin(self, found: regex.Match[str], indent: int) -> None:
        """A line opens a point, unless it shows that the list has begun anew."""
        told = int(found["number"]) if found["number"] else 0
        taken = set(self._same)
        self._lazy = self._lazy or (told == 1 and taken == {1})
        if told == 1 and len(taken) > 1 and not self._lazy:
            self.full = True
            return
        last = max(taken, default=0)
        number = told if told and told not in taken else last + 1
        text, needs, hard = _parted(found["text"], number)
        if not text:
            return
        if not taken and self._open is None:
            self._indent, self._numbered = indent, bool(found["number"])
        self._open = Point(number=number, text=text, needs=needs, hard=hard)
        self._apart = False

    def _prose(self, line: str) -> None:
        """A line that is no point: it goes on with the one before, or is passed over."""
        if not line.strip():
            self._apart = True
        elif self._open is not None and not self._apart and line[:1].isspace():
            self._detail(line)

    def _detail(self, text: str) -> None:
        if self._open is not None and (bare := _bare(text)):
            self._open = replace(self._open, details=(*self._open.details, bare[:LONGEST]))

    def _close(self) -> None:
        point, self._open = self._open, None
        if point is None:
            return
        reason, same = self.sieve.fault(point.text, self.points)
        self._same[point.number] = same or point.number
        if reason:
            self.left_out[point.number] = f"{point.text!r}: {reason}"
            self._idle += 1
        else:
            self.points.append(point)
            self._idle = 0
        self.full = self.full or len(self.points) >= self.most or self._idle >= IDLE


def parsed(text: str, most: int = 10) -> list[Point]:
    """The points of a whole skeleton, at most `most`; what they build on is resolved."""
    skeleton = Skeleton(most)
    skeleton.end(text)
    return skeleton.resolved


def acyclic(points: Iterable[Point]) -> list[Point]:
    """Points that build on other given points only, and on none that builds on them.

    What would close a circle is dropped, the later line's first.
    """
    given = list(points)
    numbers = {point.number for point in given}
    builds: dict[int, list[int]] = {}
    for point in given:
        own = builds.setdefault(point.number, [])
        for need in point.needs:
            if need in numbers and need not in own and not _reaches(builds, need, point.number):
                own.append(need)
    return [replace(point, needs=tuple(builds[point.number])) for point in given]


def written(points: Sequence[Point]) -> str:
    """The points as the lines of a list."""
    return "\n".join(f"{point.number}. {point.text}" for point in points)


def _reaches(builds: dict[int, list[int]], start: int, goal: int) -> bool:
    """Whether one point builds on another, over however many between them."""
    open_, seen = [start], set[int]()
    while open_:
        number = open_.pop()
        if number == goal:
            return True
        if number not in seen:
            seen.add(number)
            open_ += builds.get(number, [])
    return False


def _begins(line: str, indent: int) -> bool:
    """Whether an unfinished line is sure to be a point that is not nested."""
    found = ITEM.fullmatch(line)
    if found is None or not found["number"] or not _bare(found["text"]):
        return False
    return len(found["indent"].expandtabs(TAB)) <= indent + 1


def _parted(text: str, number: int) -> tuple[str, tuple[int, ...], bool]:
    """A line without its number said twice, without what it builds on and without its tag."""
    text = text.strip()
    while (again := AGAIN.match(text)) and int(again[1]) == number:
        text = text[again.end() :]
    text, hard = HARD.subn("", text)
    needs: tuple[int, ...] = ()
    if found := NEEDS.search(text):
        text = text[: found.start()]
        ids = map(int, regex.findall(r"\d{1,3}", found["ids"]))
        needs = tuple(dict.fromkeys(one for one in ids if one != number))
    return _bare(text)[:LONGEST].rstrip(), needs, hard > 0


def _bare(text: str) -> str:
    """A line without marks around it; bold parts inside lose theirs."""
    return regex.sub(r"\*\*|__|`", "", text).strip(EDGES)
