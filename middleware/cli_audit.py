"""`tersely audit`: what a log of requests would have cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from tersely.errors import ConfigError, RequestError
from tersely.middleware.cli_io import tell, write_json
from tersely.middleware.cli_options import Wishes

if TYPE_CHECKING:
    from rich.table import Table

    from tersely.middleware.audit import Audit, ModelAudit

UNREADABLE = object()
"""Stands for a line that is not JSON."""


def audit(
    source: Annotated[Path, Argument(metavar="LOG", help="A JSONL file of requests.")],
    *,
    wishes: Wishes,
    prices: Annotated[
        Path | None, Option(help="A table of prices of your own, as YAML or JSON.")
    ] = None,
    limit: Annotated[int | None, Option(help="Stop after so many lines.", min=1)] = None,
    days: Annotated[
        float | None, Option(help="Only the last so many days of the log.", min=0)
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Write it as JSON.")] = False,
) -> None:
    """Tell what a log of requests cost, and would have cost with tersely. Nothing is sent."""
    from tersely.middleware.audit import audited
    from tersely.middleware.pipeline import pipeline_of

    if wishes.mode or wishes.question or wishes.strict:
        raise ConfigError("audit takes no --mode, --question or --strict: it only looks on")
    bare = not (wishes.stage or wishes.pipeline or wishes.budget)
    pipeline = pipeline_of("default") if bare else wishes.settled()
    own = str(prices) if prices else ""
    told = audited(
        _rows(source, limit),
        pipeline,
        model=wishes.model or "",
        prices=own,
        days=days,
    )
    if as_json:
        write_json(told.model_dump(mode="json") | {"saved": told.saved})
        return
    _show(told, own)


def _rows(source: Path, limit: int | None) -> Iterator[Any]:
    """The values of a file's lines."""
    from tersely.middleware.jsonl import check_readable, lines
    from tersely.middleware.rawjson import parse

    check_readable(source)
    for line in lines(source):
        if limit is not None and line.number > limit:
            return
        if line.blank:
            continue
        try:
            yield parse(line.text)
        except RequestError:
            yield UNREADABLE


def _show(told: Audit, own: str) -> None:
    """Show an audit: the table on standard output, what is to be known of it on the other."""
    from rich.console import Console

    if told.models:
        Console().print(_table(told))
    if told.spread is not None:
        one = told.spread
        typer.echo(
            f"{one.conversations} conversation{'s' * (one.conversations != 1)}: {one.median:.1%}"
            f" saved in the median, {one.low:.1%} to {one.high:.1%} in nine of ten;"
            f" {one.dearer} cost more"
        )
    for note in _notes(told, own):
        tell(note, "dim")


def _table(told: Audit) -> Table:
    """What each model cost, and would have."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("model", no_wrap=True)
    for name in ("requests", "tokens", "with tersely", "listed $", "with tersely"):
        table.add_column(name, justify="right")
    for name in ("cached $", "with tersely", "saved"):
        table.add_column(name, justify="right")
    for one in told.models:
        table.add_row(*_row(one))
    return table


def _row(one: ModelAudit) -> list[str]:
    plain, short = one.plain, one.tersely
    saved = 1 - short.cost / plain.cost if plain.cost else 0.0
    return [
        one.model or "(none named)",
        f"{one.requests:,}",
        f"{plain.tokens:,}",
        f"{short.tokens:,}",
        f"{plain.listed:,.4f}",
        f"{short.listed:,.4f}",
        f"{plain.cost:,.4f}",
        f"{short.cost:,.4f}",
        f"{saved:.1%}",
    ]


def _notes(told: Audit, own: str) -> Iterator[str]:
    """What is to be known of the figures."""
    from tersely.prices import prices

    for table in dict.fromkeys((own, "")):
        known = prices(table)
        yield f"prices of {known.date}, from {known.source}"
    yield "what the answers cost is left out: it is the same"
    if calls := sum(one.tersely.calls for one in told.models):
        yield f"{calls:,.4f} $ of it would have been asked of a model, for compaction"
    if not told.timed and told.requests:
        yield "not every request has its time: each is taken to come before the cache forgets"
    for one in told.models:
        if not one.priced:
            yield f"no price is known of {one.model or 'no name'}: 1 $ a million tokens was taken"
        if not one.exact:
            yield f"the tokens of {one.model or 'no name'} are an estimate"
    for reason, number in told.unread.items():
        yield f"{number} line{'s' * (number != 1)} left out: {reason}"
