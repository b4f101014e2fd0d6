"""Long beginnings that many rows of a data set share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any

from tersely.errors import RequestError
from tersely.middleware.files import Block, Files
from tersely.middleware.row_shapes import Format, Part
from tersely.soft_artefact import Role, text_hash

APART = "\n\n"
"""Between paragraphs: where a beginning of the user's words may end."""

LEAST = 256
"""Tokens that a beginning must have to be worth a look."""

WINDOW = 50_000
"""Beginnings that are looked at before the rare ones are forgotten."""

ENDS = 64
"""So many ends of paragraphs are looked at in a row."""

MOST = 20
"""So many beginnings are told of."""

ROOM = 64 << 20
"""So many letters of beginnings are held at most; others are counted, and not told of."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a row begins with: the system message, or words of the user up to some paragraph."""

    role: Role
    text: str

    @property
    def sha256(self) -> str:
        """By what it is known on the shelf."""
        return text_hash(self.text)


@dataclass(slots=True)
class _Seen:
    """How often something was seen, and at most how often it may have been missed before.

    The text is held from the second time on.
    """

    count: int
    missed: int
    role: Role
    end: int
    text: str = ""


@dataclass(slots=True)
class Heads:
    """Counts beginnings as rows go by, in the same room however many there are.

    What is seen too seldom is forgotten (lossy counting: Manku and Motwani 2002,
    https://www.vldb.org/conf/2002/S10P03.pdf), so that a count may be too low by a few rows. A
    system message counts as a whole. Words of the user count up to the end of each paragraph, as
    long as others follow.
    """

    least: int = LEAST
    _seen: dict[bytes, _Seen] = field(default_factory=dict, init=False)
    _looked: int = field(default=0, init=False)
    _room: int = field(default=ROOM, init=False)
    _last: str = field(default="", init=False)

    def add(self, part: Part) -> None:
        """Look at what one row's request begins with."""
        role, text = beginning(part)
        for key, end in _ends(role, text, self.least):
            self._looked += 1
            known = self._seen.get(key)
            if known is None:
                self._seen[key] = _Seen(1, self._looked // WINDOW, role, end)
            else:
                known.count += 1
                known.text = known.text or self._held(text)
            if self._looked % WINDOW == 0:
                self._forget(self._looked // WINDOW)

    def _held(self, text: str) -> str:
        """A text, if there is room for it; those of one row are one."""
        if text is not self._last and self._room < len(text):
            return ""
        if text is not self._last:
            self._room -= len(text)
            self._last = text
        return text

    def _forget(self, window: int) -> None:
        seen = self._seen.items()
        self._seen = {key: one for key, one in seen if one.count + one.missed > window}
        held = {id(one.text): len(one.text) for one in self._seen.values()}
        self._room = ROOM - sum(held.values())

    def shared(self) -> list[tuple[Beginning, int]]:
        """Beginnings of several rows, with how many; of nested ones that which spares most."""
        often = [one for one in self._seen.values() if one.text]
        often.sort(key=lambda one: (-one.count * one.end, -one.end))
        kept: list[tuple[Beginning, int]] = []
        for one in often:
            head = Beginning(one.role, one.text[: one.end])
            if not any(_nested(head, other) for other, _ in kept):
                kept.append((head, one.count))
            if len(kept) == MOST:
                break
        return kept


def of_rows(files: Files, format: Format, blocks: Iterable[Block], heads: Heads) -> Heads:
    """Look at rows on their way; those that can't be read as requests are passed over."""
    for block in blocks:
        for row in files.rows(block):
            try:
                if isinstance(row, dict):
                    heads.add(format.part(row))
            except RequestError:
                continue
    return heads


def beginning(part: Part) -> tuple[Role, str]:
    """Who speaks first in a request, and what is said there; ("user", "") where that is no text."""
    request = part.request
    if isinstance(request, Mapping):
        for name in ("system", "instructions"):
            if request.get(name):
                return "system", _joined(request[name])
        said = request.get("messages", request.get("input"))
        if part.names and not isinstance(part.reader, str):
            return "user", APART.join(map(_joined, request.values()))
    else:
        said = request
    if not isinstance(said, list | tuple):
        return "user", said if isinstance(said, str) else ""
    first = next(iter(said), None)
    if not isinstance(first, Mapping):
        return "user", APART.join(said) if all(isinstance(one, str) for one in said) else ""
    role: Role = "system" if first.get("role") in ("system", "developer") else "user"
    return role, _joined(first.get("content"))


def _joined(content: Any) -> str:
    """What a content says, its blocks apart by a blank line; "" where some are no text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return ""
    texts = [one if isinstance(one, str) else _block(one) for one in content]
    return APART.join(texts) if all(texts) else ""


def _block(block: Any) -> str:
    text = block.get("text") if isinstance(block, Mapping) else None
    return text if isinstance(text, str) else ""


def _ends(role: Role, text: str, least: int) -> Iterator[tuple[bytes, int]]:
    """Where a beginning may end, each with what it is known by up to there."""
    if len(text) < 2 * least:  # two letters a token are few
        return
    known = blake2b(role.encode(), digest_size=16)
    if role == "system":
        known.update(text.encode("utf-8", "surrogatepass"))
        yield known.digest(), len(text)
        return
    start = 0
    for end in islice(_paragraphs(text, 2 * least), ENDS):
        known.update(text[start:end].encode("utf-8", "surrogatepass"))
        start = end
        yield known.copy().digest(), end


def _paragraphs(text: str, least: int) -> Iterator[int]:
    """The ends of paragraphs from a place on, but for that of the last."""
    end = text.find(APART, least)
    while end >= 0 and text[end:].strip():
        yield end
        end = text.find(APART, end + len(APART))


def _nested(one: Beginning, other: Beginning) -> bool:
    same = one.role == other.role == "user"
    return same and (one.text.startswith(other.text) or other.text.startswith(one.text))
