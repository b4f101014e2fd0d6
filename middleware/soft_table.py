"""Fidelity as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tersely.middleware.signs import shown

if TYPE_CHECKING:
    from rich.table import Table

    from tersely.fidelity import Figures, Interval


def table(found: Mapping[int, Mapping[str, Figures]]) -> Table:
    """What stands in the place of a text at each size, and how near it comes, the nearest first."""
    from rich.table import Table
    from rich.text import Text

    made = Table("tokens", "instead of the text", "KL, nats a token", "agreement", "facts kept")
    for size, beside in found.items():
        for name, one in sorted(beside.items(), key=lambda pair: pair[1].kl.mean):
            made.add_row(
                str(size),
                Text(shown(name)),
                _interval(one.kl, ".3f"),
                _interval(one.agreement, ".1%"),
                f"{one.facts - len(one.lost)} of {one.facts}",
            )
    return made


def _interval(one: Interval, form: str) -> str:
    return f"{one.mean:{form}} ({one.low:{form}} to {one.high:{form}})"
