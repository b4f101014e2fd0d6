"""Which lines of a log are alike, which tell of something gone wrong, and which can go."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from tersely.compressors.thinned import errors_among, spread
from tersely.named import Lines, Named

RARE = 2
"""Lines of one kind up to which each of them stays."""

FEW_ERRORS = 10
"""The same for lines that tell of an error."""

WIDE = 8
"""Lines that only begin alike must be so many to be of one kind."""

BLOCK = 20
"""Lines that go together, so that not every other line is a gap."""

AROUND = 3
"""Lines on both sides of one that was asked for, or tells of an error, that go last."""

ENDS = 3
"""Lines at the beginning and at the end of the log that stay."""

_PART = r"\s\"'=,()\[\]{}"
_VARIES = re.compile(rf"(?<![^{_PART}])[^{_PART}\d]*+\d[^{_PART}]*+|\"[^\"\n]{{0,400}}\"")
"""A stretch between such characters with a digit in it, or a quoted text."""

_PASSED = re.compile(
    r"[ \t]*(?:--- PASS: .*|=== (?:RUN|PAUSE|CONT) .*|ok[ \t].*|PASS(?:[ \t].*)?|[✓✔√] .*"
    r"|test \S+ (?:- .{0,200} )?\.\.\. ok|\S+ \(\S+\) \.\.\. ok|\S+ PASSED\b.*|PASSED \S+.*)$"
)
_PASSING = ("PASS", "ok", "=== RUN", "✓", "✔", "√")
_TRACED = re.compile(r"[ \t]+\S|Caused by:|During handling|The above exception|\.\.\. \d+ more")


def kinds_of(lines: Sequence[str]) -> list[str]:
    """What each line is like: itself, without what varies in it. A test that passed is like any."""
    masked = _VARIES.sub("#", "\n".join(lines)).split("\n")
    if any(sign in line for line in lines[:400] for sign in _PASSING):
        masked = [
            "passed" if _PASSED.match(line) else kind
            for line, kind in zip(lines, masked, strict=True)
        ]
    times = Counter(masked)
    rare = [kind for kind, count in times.items() if count <= RARE and kind.strip()]
    wide = {kind: _wide(kind) for kind in rare}
    many = Counter(wide.values())
    return [wide[kind] if many.get(wide.get(kind, ""), 0) >= WIDE else kind for kind in masked]


def _wide(kind: str) -> str:
    """How a line begins, and how many words it has."""
    words = kind.split()
    first = next((word for word in words if "#" not in word), "")
    return f"{first} ...{len(words)}" if len(first) > 2 else kind


def free_of(lines: Sequence[str], kinds: Sequence[str], asked: Named) -> list[int]:
    """The lines that can go, those in front first that nobody will miss.

    The first and the last of every kind stay, and so do rare ones, errors with their traces, and
    what is asked for.
    """
    text = Lines("\n".join(lines))
    asked_for, held = asked.among(text)
    errors = _traced(lines, errors_among(text))
    times = Counter(kinds)
    first = {kind: i for i, kind in reversed(list(enumerate(kinds)))}
    last = {kind: i for i, kind in enumerate(kinds)}
    stays = asked_for | {*first.values(), *last.values()}
    stays |= {*range(ENDS), *range(len(lines) - ENDS, len(lines))}
    stays |= {i for i, kind in enumerate(kinds) if times[kind] <= RARE}
    stays |= {i for i in errors if times[kinds[i]] <= FEW_ERRORS}
    near = {i + by for i in asked_for | (errors & stays) for by in range(-AROUND, AROUND + 1)}
    when = spread(len(lines) // BLOCK + 1)
    free = [i for i in range(len(lines)) if i not in stays]
    return sorted(free, key=lambda i: (i in errors, i in near, held[i], when[i // BLOCK], i))


def _traced(lines: Sequence[str], errors: set[int]) -> set[int]:
    """The errors with the stack traces that belong to them."""
    found = set(errors)
    within = False
    for i, line in enumerate(lines):
        if i in errors:
            within = True
        elif within:
            if _TRACED.match(line):
                found.add(i)
            else:
                if lines[i - 1][:1] in (" ", "\t"):
                    found.add(i)  # what a trace ends with
                within = False
    return found


def runs(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Each line with how often it stands there in a row."""
    for line, group in groupby(lines):
        yield line, sum(1 for _ in group)
