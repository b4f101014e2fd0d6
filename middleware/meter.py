"""A progress bar on standard error for work whose size is known in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[int, str], None]
"""Told how many bytes are done, and what to say beside the bar."""


@contextmanager
def meter(total: int, done: int = 0, *, passing: bool = False) -> Iterator[Show]:
    """A bar, and the function that moves it.

    A `passing` one goes when the work is done, and is drawn on a terminal only.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    told = TextColumn("{task.fields[told]}")
    columns = (BarColumn(), TaskProgressColumn(), told, TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = passing and not console.is_terminal
    with Progress(*columns, console=console, transient=passing, disable=hidden) as progress:
        task = progress.add_task("", total=total, completed=done, told="")

        def show(done: int, told: str) -> None:
            progress.update(task, completed=done, told=told)

        yield show
