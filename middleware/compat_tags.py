"""Read `<llmlingua, rate=0.5, compress=False>...</llmlingua>`, with any text inside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tersely.errors import ConfigError

_TAG = re.compile(r"<llmlingua\b((?:\s*,\s*\w{1,40}\s*=\s*[^\s,<>=]{1,40})*)\s*>|</llmlingua>")
_OPTION = re.compile(r"(\w+)\s*=\s*([^\s,]+)")
_CLOSE = "</llmlingua>"


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a context. `rate` None: the rate of the whole call."""

    text: str
    rate: float | None = None
    compress: bool = True


def parts_of(text: str) -> Iterator[Part]:
    """The stretches of a context, in order, without the tags.

    What stands outside of the tags is a stretch of its own, as is what follows a tag that is
    never closed. Raises ConfigError on a tag that can't be read.
    """
    at, part = 0, Part("")
    for tag in _TAG.finditer(text):
        yield from _filled(part, text[at : tag.start()])
        part = Part("") if tag[0] == _CLOSE else _opened(tag[0], tag[1])
        at = tag.end()
    yield from _filled(part, text[at:])


def _filled(part: Part, text: str) -> Iterator[Part]:
    if text:
        yield Part(text, part.rate, part.compress)


def _opened(tag: str, options: str) -> Part:
    """What a tag asks for the text behind it."""
    given = dict(_OPTION.findall(options))
    if unknown := given.keys() - {"rate", "compress"}:
        raise ConfigError(f"{tag!r}: {sorted(unknown)[0]!r} is neither rate nor compress")
    compress = given.get("compress", "True")
    if compress not in ("True", "False"):
        raise ConfigError(f"{tag!r}: compress is True or False, was {compress!r}")
    return Part("", _rate(tag, given.get("rate")), compress == "True")


def _rate(tag: str, given: str | None) -> float | None:
    if given is None:
        return None
    try:
        rate = float(given)
    except ValueError as error:
        raise ConfigError(f"{tag!r}: rate is a number from 0 to 1, was {given!r}") from error
    if not 0 <= rate <= 1:
        raise ConfigError(f"{tag!r}: rate is a number from 0 to 1, was {given!r}")
    return rate
