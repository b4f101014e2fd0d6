"""OpenTelemetry is told of every request, in numbers alone, and only when the user wishes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from first_words import CHAT_MESSAGES, LONG, FirstWords, first_words
from loopback import Loopback

import tersely
from tersely.contracts import Context
from tersely.errors import MissingExtra
from tersely.middleware.listeners import listen
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.telemetry import SPAN, Telemetry
from tersely.prompt import Prompt
from tersely.report import Report

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

BODY = {"model": "gpt-4o", "messages": CHAT_MESSAGES}
SECRET = "hunter2"


class Broken(FirstWords):
    """Fails, and its error quotes the prompt."""

    name = "broken"

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        raise RuntimeError(prompt.text)


class Bench:
    """Providers that keep what they are told."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    def telemetry(self, **settings: Any) -> Telemetry:
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **settings)

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans.get_finished_spans()
        return span

    @property
    def counts(self) -> dict[str, float]:
        data = self.reader.get_metrics_data()
        found: dict[str, float] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points: Any = metric.data.data_points
                    found[metric.name] = sum(getattr(p, "value", None) or p.count for p in points)
        return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.tracers.shutdown()
    bench.meters.shutdown()


def spelled(span: ReadableSpan) -> str:
    return span.to_json() + "".join(str(dict(event.attributes or {})) for event in span.events)


def test_a_request_is_a_span_with_its_tokens(bench: Bench) -> None:
    with bench.telemetry():
        report = first_words().run(BODY).report
    span = bench.span
    told = dict(span.attributes or {})
    assert span.name == SPAN and span.status.status_code is StatusCode.UNSET
    assert told["tersely.tokens.before"] == report.before
    assert told["tersely.tokens.after"] == report.after
    assert told["tersely.tokens.saved"] == report.saved > 0
    assert told["tersely.stages"] == ("first_words",)
    assert told["tersely.texts.compressed"] == 1 and "tersely.limit" not in told
    assert span.start_time and span.end_time
    assert abs((span.end_time - span.start_time) / 1e6 - report.ms) < 0.001
    (event,) = span.events
    assert dict(event.attributes or {})["tersely.action"] == "compressed"


def test_metrics_add_up(bench: Bench) -> None:
    with bench.telemetry():
        reports = [first_words().run(BODY).report for _ in range(3)]
    counts = bench.counts
    assert counts["tersely.requests"] == counts["tersely.duration"] == 3
    assert counts["tersely.tokens.before"] == sum(report.before for report in reports)
    assert counts["tersely.tokens.after"] == sum(report.after for report in reports)
    assert counts["tersely.decisions"] == sum(len(report.decisions) for report in reports)


@pytest.mark.parametrize("stage", [FirstWords(), Broken()], ids=["works", "fails"])
def test_no_text_is_told_unless_that_is_wished_for(bench: Bench, stage: FirstWords) -> None:
    messages = [*CHAT_MESSAGES[:-1], {**CHAT_MESSAGES[-1], "content": f"{SECRET} {LONG}"}]
    with bench.telemetry():
        Pipeline(stage).run({**BODY, "messages": messages})
    assert SECRET not in spelled(bench.span) and "messages[" not in spelled(bench.span)


def test_reasons_can_be_told(bench: Bench) -> None:
    with bench.telemetry(reasons=True):
        Pipeline(Broken(), budget=0.5).run(BODY)
    assert "messages[3].content" in spelled(bench.span) and "broken" in spelled(bench.span)


def test_a_request_that_could_not_be_treated_is_an_error(bench: Bench) -> None:
    class Unreadable(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            raise RuntimeError(SECRET)

    with bench.telemetry():
        first_words().run(Unreadable(BODY), model="gpt-4o")
    assert bench.span.status.status_code is StatusCode.ERROR
    assert SECRET not in spelled(bench.span)


def test_nothing_is_told_before_it_starts_and_after_it_stops(bench: Bench) -> None:
    telemetry = bench.telemetry()
    first_words().run(BODY)
    telemetry.start().start()
    first_words().run(BODY)
    telemetry.stop()
    telemetry.stop()
    first_words().run(BODY)
    assert len(bench.spans.get_finished_spans()) == 1


async def test_it_stands_below_the_current_span(bench: Bench, server: Loopback) -> None:
    """Also when the work is done in another thread."""
    openai = pytest.importorskip("openai")
    client = openai.AsyncOpenAI(api_key="key", base_url=f"{server.url}/v1")
    tracer = bench.tracers.get_tracer("application")
    with bench.telemetry(), tracer.start_as_current_span("outer") as outer:
        await tersely.wrap(client, first_words()).chat.completions.create(**BODY)
    span = next(one for one in bench.spans.get_finished_spans() if one.name == SPAN)
    assert span.parent is not None
    assert span.parent.span_id == outer.get_span_context().span_id


def test_a_listener_that_fails_stops_no_request(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Report] = []

    def fails(report: Report) -> None:
        raise ValueError("no room")

    stops = [listen(fails), listen(heard.append)]
    try:
        result = first_words().run(BODY)
    finally:
        for stop in stops:
            stop()
    assert heard == [result.report] and result.report.saved > 0
    assert "a listener failed: ValueError: no room" in caplog.text


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtra, match=r"tersely\[otel\]"):
        Telemetry()
