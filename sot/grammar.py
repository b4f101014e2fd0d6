"""The form of a skeleton as a grammar, for backends that keep to one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

from tersely.contracts import Capability, Request

FEWEST = 3
"""Lines of a skeleton at least, where there may be as many."""

SHORTEST, LONGEST = 3, 6
"""Words of a line."""

PARENTS = 3
"""Points at most that a line says it builds on."""

LETTER = r"[A-Za-z\u00C0-\u024F\u0370-\u167F\u1E00-\u1FFF\u3041-\uD7A3]"
SMALL = r"[0-9a-z\u00DF-\u024F\u0300-\u167F\u1E00-\u1FFF\u3041-\uD7A3]"
NAMED = rf'{LETTER} {SMALL}{{0,15}} ("-" [A-Z]? {SMALL}{{1,9}})? | [A-Z] [A-Z0-9]{{1,5}} [a-z]?'
"""A word as most are, or an abbreviation. Longer ones, and more marks within, are how a model that
may not repeat itself runs its words together."""

COUNTED = "[0-9] [0-9a-z]{0,7}"
UNSPACED = r"[\u0E01-\u0EDF\u3041-\u30FF\u3400-\u9FFF]{4,32}"
"""Thai, Lao, Japanese and Chinese put no spaces between words."""


def grammar(most: int, *, graph: bool = False, hard: bool = False) -> str:
    """A skeleton of at most so many lines, in the GBNF of llama.cpp.

    Lines are numbered from 1, each of a few words, and with the last one the answer ends. With
    `hard` a line may have the tag that says so, and with `graph` an arrow to numbers of earlier
    lines. `skeleton.parsed` reads whatever follows it as it stands.
    """
    least = min(FEWEST, most)
    rules = [f"root ::= {' '.join(_line(i, graph) for i in range(1, least + 1))}"]
    for i in range(least + 1, most + 1):
        rules[-1] += f" m{i}?"
        rules.append(f"m{i} ::= {_line(i, graph)}")
    if graph:
        rules += [_builds_on(i) for i in range(2, most + 1)]
    more = ""
    for _ in range(LONGEST - SHORTEST):
        more = f' (" " word{more})?'
    few = ' " " '.join(["first"] + ["word"] * (SHORTEST - 1))
    rules.append(f"line ::= (words | unspaced){' hard?' if hard else ''}")
    rules.append(f"words ::= {few}{more}")
    rules.append(f"first ::= {NAMED}")
    rules.append(f"word ::= first | {COUNTED}")
    rules.append(f"unspaced ::= {UNSPACED}")
    return "\n".join([*rules, 'hard ::= " [hard]"'] if hard else rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Holds a skeleton to its grammar, and makes what was said less likely by the `penalty`."""

    penalty: float = 1.0
    graph: bool = False
    hard: bool = False

    @classmethod
    def of(
        cls, can: Collection[Capability], penalty: float, *, graph: bool, hard: bool
    ) -> Self | None:
        """The form that a backend which can do this is asked for; None where it keeps to none."""
        if "grammar" not in can:
            return None
        able = penalty if "repetition_penalty" in can else 1.0
        return cls(penalty=able, graph=graph, hard=hard)

    def put_on(self, request: Request, most: int) -> Request:
        """The request with it, for at most so many lines. A penalty of the caller's stays."""
        own = request.repetition_penalty
        return replace(
            request,
            grammar=grammar(most, graph=self.graph, hard=self.hard),
            repetition_penalty=self.penalty if own == 1 else own,
        )


def _line(number: int, graph: bool) -> str:
    """A line with what stands before it, and what it may build on."""
    start = f'"{number}. "' if number == 1 else f'"\\n{number}. "'
    return f"{start} line n{number}?" if graph and number > 1 else f"{start} line"


def _builds_on(number: int) -> str:
    """The numbers of lines before one."""
    earlier = " | ".join(f'"{i}"' for i in range(1, number))
    rule = f'n{number} ::= " <- " ({earlier})'
    for _ in range(min(PARENTS, number - 1) - 1):
        rule += f' (", " ({earlier})'
    return rule + ")?" * (min(PARENTS, number - 1) - 1)
