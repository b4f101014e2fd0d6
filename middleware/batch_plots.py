"""Plots of a job's report: columns and bars of plain HTML, in the colours of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain, repeat

from tersely.middleware.signs import shown

SHEET = """
h2 { margin: 2.75rem 0 .9rem; font-size: 1rem; font-weight: 600; }
h2 small { font-weight: 400; color: var(--soft); margin-left: .6rem; }
h2 .was, h2 .now { display: inline-block; width: .7rem; height: .7rem; border-radius: .15rem;
  margin: 0 .3rem 0 .6rem; background: var(--fill); }
h2 .was, .plot .was span, .columns .group .was { background: var(--soft); opacity: .45; }
.plot { display: grid; grid-template-columns: minmax(6rem, 13rem) 1fr 8.5rem; gap: .35rem 1rem;
  align-items: center; font-size: .85rem; }
.plot .name { overflow-wrap: anywhere; }
.plot .num { color: var(--soft); text-align: right; white-space: nowrap; }
.plot .bar { height: .75rem; border-radius: .2rem; }
.plot .bar span { border-radius: .2rem; }
.plot .wrong span { background: var(--lost); }
.columns { position: relative; display: grid; grid-auto-columns: minmax(0, 1fr);
  grid-auto-flow: column; column-gap: 2px; margin-left: 3.2rem; font-size: .75rem;
  color: var(--soft); }
.columns .group { display: flex; align-items: flex-end; height: 11rem; padding: 0 8%; gap: 1px;
  border-bottom: 1px solid var(--soft); z-index: 1; }
.columns .group span { flex: 1; min-width: 0; background: var(--fill);
  border-radius: .15rem .15rem 0 0; }
.columns .group:hover { background: var(--track); }
.columns .from { grid-row: 2; padding-top: .25rem; white-space: nowrap; text-align: left; }
.columns .line { position: absolute; left: 0; right: 0; border-top: 1px solid var(--line); }
.columns .line b { position: absolute; right: 100%; top: -.6em; padding-right: .6rem;
  font-weight: 400; line-height: 1.2; }
.axis { margin: .15rem 0 0 3.2rem; font-size: .75rem; color: var(--soft); text-align: center; }
article > .bar { margin: .7rem 0 0; } article details { margin-top: .6rem; }
h2 + .views { margin-top: 0; }
.facts { gap: .75rem 1.75rem; } .facts div { min-width: 5rem; }
@media (max-width: 34rem) {
  .plot { grid-template-columns: minmax(4rem, 8rem) 1fr 6rem; gap: .35rem .6rem; }
  .plot .num { white-space: normal; }
}
"""
"""How they look, beside the sheet of the diff."""

KEYS = '<i class="was"></i>before<i class="now"></i>after'
"""Which column or bar is which."""

PLOT_HEIGHT = 11
"""In the sheet's rem."""

LABELS = 12
"""So many columns have their number below them at most."""


@dataclass(frozen=True, slots=True)
class Column:
    """A class of a histogram: where it begins, what it is, and how many are in it, in each look."""

    start: str
    told: str
    counts: tuple[tuple[str, int], ...]


def columns(classes: Sequence[Column], axis: str) -> str:
    """A histogram with what is told below it; '' when nothing is in it."""
    most = max((count for one in classes for _, count in one.counts), default=0)
    if not most:
        return ""
    top = ceiling(most)
    lines = "".join(
        f'<span class="line" style="top:{PLOT_HEIGHT * (1 - tick / top):.2f}rem">'
        f"<b>{tick:,}</b></span>"
        for tick in dict.fromkeys((top, top // 2))
    )
    every = -(-len(classes) // LABELS)
    groups = "".join(
        f'<div class="group" title="{safe(one.told)}">'
        + "".join(_column(look, count, top) for look, count in one.counts)
        + f'</div><span class="from">{safe(one.start) if i % every == 0 else ""}</span>'
        for i, one in enumerate(classes)
    )
    return (
        f'<div class="columns" role="img" aria-label="{safe(axis)}">{lines}{groups}</div>'
        f'<p class="axis">{safe(axis)}</p>'
    )


def _column(look: str, count: int, top: int) -> str:
    least = ";min-height:2px" if count else ""
    return f'<span class="{look}" style="height:{count / top:.1%}{least}"></span>'


def bars(rows: Iterable[tuple[str, float, str]], *looks: str) -> str:
    """Bars with a name before and what is told behind each, the longest of them full.

    The last of the looks is that of all further bars.
    """
    given = list(rows)
    most = max((size for _, size, _ in given), default=0) or 1
    every = chain(looks, repeat("".join(looks[-1:])))
    cells = "".join(
        f'<span class="name">{safe(name)}</span>{bar(max(size, 0) / most, look)}'
        f'<span class="num">{safe(told)}</span>'
        for (name, size, told), look in zip(given, every, strict=False)
    )
    return f'<div class="plot">{cells}</div>' if cells else ""


def bar(share: float, look: str = "") -> str:
    """A bar that is full at 1."""
    return f'<div class="bar {look}"><span style="width:{min(share, 1.0):.1%}"></span></div>'


def section(title: str, about: str, body: str) -> str:
    """A plot under its title; '' when there is none. `about` is HTML."""
    return f"<h2>{title}<small>{about}</small></h2>{body}" if body else ""


def ceiling(most: int) -> int:
    """A number that is easy to read and halve, just above this one."""
    step = max(int("1" + "0" * (len(str(most)) - 1)) // 5, 2)
    return -(-most // step) * step


def short(count: int) -> str:
    """A number in as few signs as a plot has room for: 1,536 is 1.5k."""
    for size, sign in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.2g}{sign}" if count < 100 * size else f"{count // size}{sign}"
    return str(count)


def safe(text: object) -> str:
    """A text as HTML, with signs for what can't be seen."""
    return escape(shown(str(text)))
