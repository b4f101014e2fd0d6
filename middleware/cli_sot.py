"""`tersely ask --sot`: the points of an answer fill in side by side on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tersely.account import PointTold, SotAccount, SotAnswer
from tersely.contracts import Backend, Completion, Request
from tersely.errors import BackendError
from tersely.middleware.cli_io import Say, tell
from tersely.middleware.drive import stream
from tersely.middleware.points import Beside, Points
from tersely.middleware.signs import shown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

Answer = dict[str, Any]

NARROWEST = 36
"""Columns of a terminal that a point needs beside another."""

SIGNS = {"open": "yellow", "whole": "green", "cut": "magenta", "lost": "red"}
"""The border of a point by its state."""

A_SECOND = 8
"""How often the terminal is drawn anew."""


@dataclass(slots=True)
class Board:
    """The points as they stand; rich draws it, as many beside one another as there is room for."""

    points: Sequence[PointTold] = ()
    said: list[str] = field(default_factory=list)

    def see(self, points: Sequence[PointTold]) -> None:
        """Show these."""
        self.points = points

    @property
    def kept(self) -> str:
        """What is worth keeping when the rest is not waited for: what was said, and what is whole.

        The text of points behind the first one that is still open was not said yet.
        """
        first = next((i for i, one in enumerate(self.points) if one.state == "open"), None)
        later = self.points[first:] if first is not None else ()
        whole = [_written(one) for one in later if one.state == "whole"]
        return "\n\n".join(filter(None, ["".join(self.said).rstrip(), *whole]))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        from rich.table import Table
        from rich.text import Text

        if not self.points:
            yield Text("".join(self.said) or "the points are listed ...", style="dim")
            return
        across = min(max(options.max_width // NARROWEST, 1), len(self.points))
        rows = -(-len(self.points) // across)
        height = max((console.height - 1) // rows, 3)
        grid = Table.grid(expand=True)
        for _ in range(across):
            grid.add_column(ratio=1)
        for at in range(0, len(self.points), across):
            row = self.points[at : at + across]
            grid.add_row(
                *(_panel(one, console, options.max_width // across, height) for one in row)
            )
        yield grid


def answered(
    backend: Backend, asked: Request, points: Points, say: Say, *, draw: bool
) -> tuple[Answer, SotAccount | None]:
    """Ask point by point, and say the answer in its order as it comes.

    With `draw` the points are drawn on standard error meanwhile, where that is a terminal; what is
    said goes to the same one at the end. Broken off by Ctrl-C it says the points that are finished,
    and the answer is `cancelled`. Raises what the backend raises.
    """
    board, start = Board(), perf_counter()
    model = str(getattr(backend, "model", ""))
    beside = Beside.of(points, asked, backend, model, watch=board.see)
    answer: Completion | None = None
    with _drawn(board, say, draw=draw) as out:
        try:
            with closing(stream(beside.all_steps(), beside.backend)) as pieces:
                for chunk in pieces:
                    board.said.append(chunk.text)
                    out(chunk.text)
                    answer = chunk.completion or answer
        except KeyboardInterrupt:
            out(board.kept[len("".join(board.said).rstrip()) :])
            answer = Completion(text=board.kept, finish_reason="cancelled")
            whole = sum(one.state == "whole" for one in board.points)
            tell(f"broken off: {whole} of {len(board.points)} points are finished", "yellow")
        out("\n")
    if answer is None:
        raise BackendError("the answer broke off before its end", retryable=True)
    done = beside.settled(answer)
    return {
        "answer": done.text,
        "prompt_tokens": done.prompt_tokens,
        "cached_tokens": done.cached_tokens,
        "completion_tokens": done.completion_tokens,
        "finish_reason": done.finish_reason,
        "seconds": round(perf_counter() - start, 3),
    }, done.account if isinstance(done, SotAnswer) else None


def told(account: SotAccount) -> Iterator[str]:
    """How an answer came about and what it took, for people to read."""
    about = "" if account.exact else "about "
    if account.route != "plain":
        whole = sum(one.state == "whole" for one in account.points)
        yield (
            f"{whole} of {len(account.points)} points are whole; {len(account.calls)} calls,"
            f" {about}{account.spent:,} tokens, {account.cached:,} of them read before;"
            f" one call would have taken {account.plain:,}"
        )
    yield from account.notes


@contextmanager
def _drawn(board: Board, say: Say, *, draw: bool) -> Iterator[Say]:
    """Draw the board while the block runs. Gives what says the answer's pieces."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not (draw and console.is_terminal):
        yield say
        return
    waiting: list[str] = []
    both = Console().is_terminal  # what is written meanwhile would be drawn over
    try:
        with Live(board, console=console, transient=True, refresh_per_second=A_SECOND):
            yield waiting.append if both else say
    finally:
        say("".join(waiting))


def _panel(point: PointTold, console: Console, width: int, height: int) -> RenderableType:
    """A point in its frame: the end of what is written of it, as far as there is room."""
    from rich.panel import Panel
    from rich.text import Text

    lines = Text(shown(point.text)).wrap(console, max(width - 4, 1))
    body = Text("\n").join(lines[-(height - 2) :])
    title = Text(f"{point.number}. {shown(point.heading)}", style="bold")
    return Panel(body, title=title, title_align="left", border_style=SIGNS[point.state])


def _written(point: PointTold) -> str:
    return f"{point.number}. {point.heading}: {point.text}"
