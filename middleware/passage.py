"""One request's way through a pipeline: read, freeze, compress, write back, account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from tersely.budget import Budget
from tersely.contracts import Adapter, Context
from tersely.middleware import adapters, scope
from tersely.middleware.session import Session
from tersely.prompt import Prompt
from tersely.report import Mode, Report, Trace
from tersely.tokens import counter

if TYPE_CHECKING:
    from tersely.middleware.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Result:
    """What came out: the request in its own shape, and the account of it."""

    output: Any
    report: Report
    trace: Trace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One request, with everything that was decided about how to treat it.

    `question` None means: the one that the request itself holds.
    """

    pipeline: Pipeline
    request: Any
    question: str | None
    model: str
    mode: Mode
    strict: bool
    budget: Budget
    session: Session | None = None
    surface: str = ""

    def go(self) -> Result:
        """Compress the request. Without `strict` nothing raises: the request goes on as it is."""
        if self.mode == "off":
            return self._unchanged("the mode is off")
        try:
            reader = adapters.adapter(self.surface) if self.surface else adapters.find(self.request)
            if reader is None:
                kind = type(self.request).__name__
                return self._unchanged(f"no adapter knows this request ({kind})")
            result = self._through(reader)
        except Exception as error:
            if self.strict:
                raise
            return self._unchanged(f"failed, passed on unchanged: {type(error).__name__}: {error}")
        if result.trace:
            scope.remember(result.trace)
        return result

    def _through(self, reader: Adapter) -> Result:
        start = perf_counter()
        read = reader.read(self.request)
        if self.question is not None:
            read = replace(read, question=self.question)
        if not read.segments:
            return self._unchanged(read.why or "the request holds no text", reader.name)
        known = self.session or scope.current_session()
        session = known or self.pipeline.conversations.continued_by(read)
        run = self.pipeline.through(session.freeze(read), self._context(), strict=self.strict)
        met = run.settle()
        output = self.request
        if self.mode == "optimize":
            output = adapters.write(self.request, run.prompt)
            session.remember(read, run.prompt)
            if known is None:
                self.pipeline.conversations.remember(read, session)
        report = Report(
            mode=self.mode,
            surface=reader.name,
            counter=run.context.count.name,
            exact=run.context.count.exact,
            before=run.context.tokens(read),
            after=run.context.tokens(run.prompt),
            limit=run.context.limit,
            met=met,
            ms=(perf_counter() - start) * 1000,
            decisions=tuple(run.ledger.decisions),
            notes=(*run.ledger.notes, *filter(None, [read.why])),
        )
        session.reports.append(report)
        return Result(output, report, Trace(read, run.prompt, report))

    def _context(self) -> Context:
        ms = self.budget.ms
        return Context(
            count=counter(self.model),
            budget=self.budget,
            deadline=None if ms is None else monotonic() + ms / 1000,
            seed=self.pipeline.seed,
            backend=self.pipeline.backend,
        )

    def _unchanged(self, reason: str, surface: str = "unknown") -> Result:
        report = Report(
            mode=self.mode,
            surface=self.surface or surface,
            counter="none",
            exact=True,
            before=0,
            after=0,
            notes=(reason,),
        )
        empty = Prompt(())
        trace = Trace(empty, empty, report)
        scope.remember(trace)
        return Result(self.request, report, trace)


def model_of(request: Any) -> str:
    """The model that a request names, if it names one."""
    named = request.get("model") if isinstance(request, Mapping) else None
    return named if isinstance(named, str) else ""
