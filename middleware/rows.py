"""What tersely makes of one row of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from tersely.ahead import Call, Calls, can_read_ahead, foreseen
from tersely.errors import RequestError
from tersely.middleware.adapters import look, put
from tersely.middleware.passage import FAILED
from tersely.middleware.rawjson import Rows, differences
from tersely.middleware.row_shapes import Format, glimpse
from tersely.middleware.scope import Override
from tersely.middleware.session import Session
from tersely.middleware.wished import passage_of
from tersely.prompt import Path
from tersely.report import Decision, Report

if TYPE_CHECKING:
    from tersely.middleware.pipeline import Pipeline

TOGETHER = 400_000
"""Characters of the rows that are read for together: what a stage then remembers must have room."""

BLOCK = 32
"""Rows of a block, where no model reads them or they are long."""

FULL = 64_000
"""Characters of a block that keep a model busy: some 16,000 tokens."""

MOST = 512
"""Rows of a block of short ones."""

Status = Literal["compressed", "unchanged", "failed"]

TOLD = ("path", "kind", "stage", "action", "reason", "before", "after")
"""What a row's account says of each decision; times are no part of it, so that it can be equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of a row's answers, as the backend counts: read, of these cached ones, and written.

    `soft` tells that a soft prompt stood for what the row begins with.
    """

    prompt: int
    cached: int
    completion: int
    soft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Treated:
    """What became of a row: its new texts by place, and the account.

    Tokens are None where nothing was counted. `answer` is what a backend said to it, as it is
    written, and `usage` what that took, where one was asked.
    """

    status: Status
    edits: Mapping[Path, str] = field(default_factory=dict)
    before: int | None = None
    after: int | None = None
    reason: str = ""
    decisions: tuple[Decision, ...] = ()
    ms: float = 0.0
    answer: Mapping[str, Any] | None = None
    usage: Usage | None = None

    @property
    def account(self) -> dict[str, Any]:
        """The account as plain values: tokens, status, and reason and decisions if there are."""
        told: dict[str, Any] = {"before": self.before, "after": self.after, "status": self.status}
        if self.reason:
            told["reason"] = self.reason
        if self.decisions:
            told["decisions"] = [one.model_dump(include={*TOLD}) for one in self.decisions]
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptimizer:
    """Compresses rows, each by itself: no row changes what becomes of another.

    Where a stage can read for several of them at once, the rows go their ways in step (`each`).
    `wishes` go before the pipeline's own settings, as those of `tersely.override` do.
    """

    pipeline: Pipeline
    format: Format
    question: Path = ()
    wishes: Override = field(default_factory=Override)

    def __call__(self, row: Any, /) -> Treated:
        """What becomes of a row. Never raises for what a row holds."""
        return next(self.each([row]))

    def each(self, rows: Iterable[Any], /) -> Iterator[Treated]:
        """What becomes of every row, in order; as many are held as are read for together."""
        group: list[_Way] = []
        size = 0
        for row in rows:
            way = _Way(self._calls(row))
            way.go()
            if size and size + way.size > TOGETHER:
                yield from _in_step(group)
                group, size = [], 0
            group.append(way)
            size += way.size
            if not size:  # none of those before waits
                yield from _in_step(group)
                group = []
        yield from _in_step(group)

    def at_once(self, first: Iterable[Any]) -> int:
        """How many rows a block should have, by the first ones.

        Enough to fill a model's batches, where one reads them together: they are done again when a
        job is killed, and Ctrl-C waits for them.
        """
        sizes = [len(repr(row)) for row in first] if self.reads_ahead else []
        return min(max(FULL * len(sizes) // max(sum(sizes), 1), BLOCK), MOST)

    @property
    def reads_ahead(self) -> bool:
        """Whether a stage can read for several rows at once."""
        return can_read_ahead([self.wishes.pipeline or self.pipeline])

    def _calls(self, row: Any) -> Calls[Treated]:
        try:
            if not isinstance(row, Mapping):
                raise RequestError(f"a row is a JSON object, was {glimpse(row)}")
            part = self.format.part(row)
            question = self._question(row)
            passage = passage_of(
                self.pipeline,
                part.request,
                question=question,
                surface=part.reader,
                session=Session(),
                wishes=self.wishes,
            )
            done = yield from passage.calls()
            made = dict(differences(part.request, done.output))
        except RequestError as error:
            return Treated(status="failed", reason=str(error))
        except Exception as error:  # the pipeline is strict, or the row is beyond Python
            return Treated(status="failed", reason=f"{type(error).__name__}: {error}")
        return _told(done.report, {part.home(path): text for path, text in made.items()})

    def _question(self, row: Mapping[str, Any]) -> str | None:
        asked = look(row, self.question) if self.question else None
        if asked is not None and not isinstance(asked, str):
            raise RequestError(f"the question must be a text, was {glimpse(asked)}")
        return asked


def renewed(row: Any, edits: Mapping[Path, Any]) -> Any:
    """A copy of a row with other values at some places."""
    for path, value in edits.items():
        row = put(row, path, value.among(look(row, path)) if isinstance(value, Rows) else value)
    return row


class _Way:
    """A row on its way: what its next call is, and the milliseconds that it took so far."""

    def __init__(self, calls: Calls[Treated]) -> None:
        self.calls = calls
        self.next: Call | None = None
        self.treated: Treated | None = None
        self.ms = 0.0

    @property
    def size(self) -> int:
        """The characters that are read for its next call; 0 when there is none."""
        return sum(len(one.text) for one in self.next.prompt.segments) + 1 if self.next else 0

    def go(self) -> None:
        """Go on to the next call that could be read for, or to the end."""
        start = perf_counter()
        try:
            self.next = next(self.calls)
        except StopIteration as end:
            self.next, self.treated = None, end.value
        self.ms += (perf_counter() - start) * 1000


def _in_step(ways: list[_Way]) -> Iterator[Treated]:
    """Take rows to their ends, reading for all that wait before any goes on.

    The time of that is shared among them by their sizes.
    """
    while waiting := [way for way in ways if way.next]:
        start = perf_counter()
        foreseen([way.next for way in waiting if way.next])
        ms, total = (perf_counter() - start) * 1000, sum(way.size for way in waiting)
        for way in waiting:
            way.ms += ms * way.size / total
            way.go()
    for way in ways:
        if way.treated is not None:
            yield replace(way.treated, ms=way.ms)


def _told(report: Report, edits: Mapping[Path, str]) -> Treated:
    """The account of a row from the pipeline's report."""
    unread = report.counter == "none"
    failed = any(note.startswith(FAILED) for note in report.notes)
    failed |= any(decision.action == "skipped" for decision in report.decisions)
    status: Status = "compressed" if edits else "failed" if failed else "unchanged"
    reasons = report.notes or tuple(dict.fromkeys(one.reason for one in report.decisions))
    return Treated(
        status=status,
        edits=edits,
        before=None if unread else report.before,
        after=None if unread else report.after,
        reason="; ".join(report.notes if edits else reasons),
        decisions=report.decisions,
    )
