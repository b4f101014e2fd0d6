"""Spans and metrics of compressing, for the OpenTelemetry of the user's own application."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from time import time_ns
from typing import TYPE_CHECKING, Any, Self

from tersely import __version__
from tersely.errors import MissingExtra
from tersely.middleware.listeners import listen
from tersely.middleware.passage import FAILED
from tersely.report import Action, Decision, Report

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

SCOPE = "tersely"

SPAN = "tersely.compress"

EVENT = "tersely.decision"

TOLD: frozenset[Action] = frozenset(("compressed", "reverted", "skipped"))
"""What is an event of its own: where a stage did something, or failed to."""

MS = 1_000_000

Attributes = dict[str, Any]


class Telemetry:
    """Tells OpenTelemetry of every request that is compressed, between `start` and `stop`.

    Each is a span `tersely.compress` below the one that is current, with an event for each text
    that a stage changed or failed at, and counts in the metrics. Nothing is kept or sent here: the
    providers do that, those given or the application's. No text of a prompt is told; with
    `reasons` the paths of the texts, the reasons of the decisions and the notes are, and these may
    quote an error that quotes a prompt. It can stand in a `with`.

    Raises MissingExtra without the package `opentelemetry-api`.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        reasons: bool = False,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise MissingExtra("opentelemetry-api", "otel") from error
        self.reasons = reasons
        self._trace = trace
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(SCOPE, __version__, meter_provider)
        self._requests = meter.create_counter(
            "tersely.requests", "{request}", "Requests that were compressed, or were to be"
        )
        self._before = meter.create_counter(
            "tersely.tokens.before", "{token}", "Tokens of the prompts as they came"
        )
        self._after = meter.create_counter(
            "tersely.tokens.after", "{token}", "Tokens of the prompts as they went out"
        )
        self._took = meter.create_histogram(
            "tersely.duration", "s", "The time that compressing a request took"
        )
        self._decisions = meter.create_counter(
            "tersely.decisions", "{decision}", "What became of texts, by stage and kind"
        )
        self._stop: Callable[[], None] | None = None

    def start(self) -> Self:
        """Tell of every request from now on."""
        if self._stop is None:
            self._stop = listen(self.tell)
        return self

    def stop(self) -> None:
        """Tell no more."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tell(self, report: Report) -> None:
        """Tell of one request, which ended just now."""
        self._draw(report)
        self._count(report)

    def _draw(self, report: Report) -> None:
        """A span that begins when the request came."""
        end = time_ns()
        start = end - round(report.ms * MS)
        with_notes = {"tersely.notes": report.notes} if self.reasons and report.notes else {}
        span = self._tracer.start_span(
            SPAN, start_time=start, attributes=_attributes(report) | with_notes
        )
        for decision in report.decisions:
            if decision.action in TOLD:
                span.add_event(EVENT, _event(decision, self.reasons), timestamp=end)
        if is_failed(report):
            span.set_status(self._trace.StatusCode.ERROR, "passed on unchanged")
        span.end(end_time=end)

    def _count(self, report: Report) -> None:
        where: Attributes = {"tersely.mode": report.mode, "tersely.surface": report.surface}
        self._requests.add(1, where | {"tersely.failed": is_failed(report)})
        self._before.add(report.before, where)
        self._after.add(report.after, where)
        self._took.record(report.ms / 1000, where)
        fates = Counter((one.stage, one.action, one.kind) for one in report.decisions)
        for (stage, action, kind), number in fates.items():
            told = {"tersely.stage": stage, "tersely.action": action, "tersely.kind": kind}
            self._decisions.add(number, told)


def is_failed(report: Report) -> bool:
    """Whether a request could not be treated at all."""
    return any(note.startswith(FAILED) for note in report.notes)


def _attributes(report: Report) -> Attributes:
    told: Attributes = {
        "tersely.mode": report.mode,
        "tersely.surface": report.surface,
        "tersely.counter": report.counter,
        "tersely.exact": report.exact,
        "tersely.tokens.before": report.before,
        "tersely.tokens.after": report.after,
        "tersely.tokens.saved": report.saved,
        "tersely.met": report.met,
        "tersely.ms": report.ms,
        "tersely.stages": tuple(dict.fromkeys(_stages(report))),
    }
    if report.limit is not None:
        told["tersely.limit"] = report.limit
    if (cost := report.cost) is not None:
        told |= {"tersely.cost.before": cost.before, "tersely.cost.after": cost.after}
    actions = Counter(decision.action for decision in report.decisions)
    return told | {f"tersely.texts.{action}": number for action, number in actions.items()}


def _stages(report: Report) -> Iterator[str]:
    return (one.stage for one in report.decisions if one.stage != "-")


def _event(decision: Decision, reasons: bool) -> Attributes:
    told: Attributes = {
        "tersely.stage": decision.stage,
        "tersely.action": decision.action,
        "tersely.kind": decision.kind,
        "tersely.role": decision.role,
        "tersely.tokens.before": decision.before,
        "tersely.tokens.after": decision.after,
        "tersely.ms": decision.ms,
    }
    if reasons:
        told |= {"tersely.path": decision.path, "tersely.reason": decision.reason}
    return told
