"""What was learned, for the terminal: fidelity as a table, and the rest in lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tersely.middleware.signs import shown

if TYPE_CHECKING:
    from rich.table import Table

    from tersely.fidelity import Figures, Interval
    from tersely.soft_artefact import SoftAbout


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


def told(about: SoftAbout) -> Iterator[str]:
    """What it stands for, what it took, and how faithful it is, in lines."""
    yield size_of(about)
    yield (
        f"{about.steps:,} steps and all before them in {about.seconds:,.0f} s on {about.device}"
        + (f"; pays back after {about.pays_back:,} requests" if about.pays_back else "")
    )
    if fidelity := about.fidelity:
        yield (
            f"KL {fidelity.kl.mean:.3f}, agreement {fidelity.agreement.mean:.1%} on"
            f" {fidelity.turns} turns; {fidelity.facts - len(fidelity.lost)} of {fidelity.facts}"
            " facts kept"
        )
        if fidelity.lost:
            yield f"lost: {', '.join(fidelity.lost)}"


def size_of(about: SoftAbout) -> str:
    """How much stands for how much, and for whom."""
    return f"{about.text_tokens:,} tokens as {about.tokens}, {about.form}, for {about.model}"


def _interval(one: Interval, form: str) -> str:
    return f"{one.mean:{form}} ({one.low:{form}} to {one.high:{form}})"
