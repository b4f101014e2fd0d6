"""Show a report in a terminal: one row for each decision, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tersely.middleware.signs import shown
from tersely.report import Action, Decision, Report

STYLES: dict[Action, str] = {
    "compressed": "green",
    "unchanged": "dim",
    "locked": "yellow",
    "frozen": "blue",
    "reverted": "red",
    "skipped": "red",
}


def table(report: Report, /, *, most: int | None = None) -> RenderableType:
    """The report as a rich table, with the totals and the notes below.

    `most` bounds the rows; a line tells how many more there are.
    """
    rows = report.decisions[:most]
    parts: list[RenderableType] = [_decisions(rows)] if rows else []
    if left := len(report.decisions) - len(rows):
        parts.append(Text(f"... and {left:,} decisions more", style="dim"))
    parts += [_totals(report), *_notes(report)]
    return Group(*parts)


def text(report: Report, /, *, width: int = 100) -> str:
    """The same table as plain text, without colours."""
    console = Console(width=width, no_color=True, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table(report))
    return captured.get()


def _decisions(rows: tuple[Decision, ...]) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    made.add_column("text", overflow="fold", ratio=3)
    for name in ("kind", "stage", "action"):
        made.add_column(name, no_wrap=True)
    made.add_column("reason", overflow="fold", ratio=4)
    made.add_column("tokens", justify="right", no_wrap=True)
    made.add_column("ms", justify="right", no_wrap=True)
    for row in rows:
        made.add_row(
            Text(shown(row.path)),  # never markup: what came with the request is not ours
            row.kind,
            Text(shown(row.stage)),
            Text(row.action, style=STYLES[row.action]),
            Text(shown(row.reason)),
            _sizes(row.before, row.after),
            f"{row.ms:,.1f}",
        )
    return made


def _sizes(before: int, after: int) -> str:
    return f"{before:,} -> {after:,}" if before != after else f"{before:,}"


def _totals(report: Report) -> Text:
    line = Text()
    if report.mode == "audit":
        line.append("audit, nothing was changed: ", style="yellow")
    line.append(_sizes(report.before, report.after), style="bold")
    line.append(" tokens")
    if report.after < report.before:
        line.append(f", {1 - report.ratio:.0%} fewer", style="green")
    line.append(f" in {report.ms:,.0f} ms")
    if report.limit is not None:
        style = "green" if report.met else "bold red"
        line.append(f"; budget {report.limit:,} {'met' if report.met else 'missed'}", style=style)
    if (cost := report.cost) is not None:
        line.append(f"; ${cost.before:.6f} -> ${cost.after:.6f} with the prompt cache")
    line.append(f"; counted by {report.counter}", style="dim")
    if not report.exact:
        line.append(" (an estimate)" * ("estimate" not in report.counter), style="yellow")
    return line


def _notes(report: Report) -> Iterator[Text]:
    for note in report.notes:
        yield Text(f"note: {shown(note)}", style="yellow")
