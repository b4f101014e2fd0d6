"""Which lines of old turns are carried on: those that bind, and those that hold facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tersely.compressors.cover import covering, held_by, ids_in, marks_of, references_in
from tersely.compressors.history_lines import Line, Who
from tersely.compressors.history_rules import POLITE, firm
from tersely.contracts import Context

MORE = "(and more)"
"""What ends a tool's output of which only names are left."""

SAID: frozenset[Who] = frozenset(("user", "assistant", "gist"))
"""Who speaks in sentences."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The texts that are carried on, by the places of their lines.

    `firm` is how many lines bind, `facts` are the words that state a fact and stand nowhere else,
    and `lost` those of them that found no room. `left` is the room that is left, in tokens.
    """

    lines: Sequence[Line]
    texts: Mapping[int, str]
    firm: int
    facts: frozenset[str]
    lost: tuple[str, ...]
    left: int

    @property
    def rest(self) -> list[int]:
        """The places of the sentences that are not carried on, but for those of politeness."""
        left = [i for i, x in enumerate(self.lines) if i not in self.texts and x.who in SAID]
        return [i for i in left if not POLITE.fullmatch(self.lines[i].text)]

    def with_more(self, places: Iterable[int]) -> list[Line]:
        """The lines that are carried on with some more, in order, as they are written."""
        texts = {**{i: self.lines[i].text for i in places}, **self.texts}
        return [replace(self.lines[i], text=texts[i]) for i in sorted(texts)]


def chosen(lines: Sequence[Line], known: str, room: int, context: Context) -> Choice:
    """The lines that bind, whatever they take, and those that hold facts as far as `room` goes.

    `room` is in tokens, for both together. Facts that stand in the `known` text need no line. Where
    not all have room the latest go first, and what identifies things goes before the rest of a
    tool's output.
    """
    binding = firm(lines)
    texts = {i: lines[i].text for i, binds in enumerate(binding) if binds}
    held = held_by(known).union(*map(held_by, texts.values()))
    texts |= _named(lines, known, held)
    sizes = _sizes([line.text for line in lines], context)
    left = room - sum(_sizes([*texts.values()], context))
    marks = [marks_of(line) for line in lines]
    for i in reversed(covering(marks, sizes, held)):
        for text in filter(None, (lines[i].text, _names(lines[i], ids_in(lines[i].text)))):
            more, now = _sizes([text, texts.get(i, "")], context)
            more -= now if i in texts else 0
            if more <= left:
                texts[i] = text
                left -= more
                break
    facts = frozenset().union(*marks) - held_by(known)
    there = frozenset().union(*map(held_by, texts.values()))
    return Choice(lines, texts, sum(binding), facts, tuple(sorted(facts - there)), left)


def _named(lines: Sequence[Line], known: str, held: frozenset[str]) -> dict[int, str]:
    """Of each tool's output what refers to something or was spoken of, told once."""
    spoken = held_by(known).union(*(held_by(x.text) for x in lines if x.who != "gave"))
    found: dict[int, str] = {}
    for i, line in enumerate(lines):
        if line.who == "gave":
            refer = set(references_in(line))
            names = [
                one
                for one in ids_in(line.text)
                if one.casefold() not in held and (one in refer or one.casefold() in spoken)
            ]
            if names:
                found[i] = _names(line, names) or line.text
                held |= held_by(found[i])
    return found


def _names(line: Line, names: Sequence[str]) -> str:
    """A tool's output with nothing but some names; "" where that is no shorter."""
    text = f"{' '.join(names)} {MORE}"
    return text if line.who == "gave" and names and len(text) < len(line.text) else ""


def _sizes(texts: Sequence[str], context: Context) -> list[int]:
    """The tokens of texts, each with what sets it apart from the next."""
    return [size + 1 for size in context.tokens_of(texts)]
