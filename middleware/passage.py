"""One request's way through a pipeline: read, freeze, compress, write back, account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from tersely.ahead import Calls, alone
from tersely.budget import Budget
from tersely.contracts import Context
from tersely.middleware import adapters, listeners, scope
from tersely.middleware.adapters import Adapter
from tersely.middleware.compacting import Compacting
from tersely.middleware.drop import dropped, retraced
from tersely.middleware.keep import unmarked
from tersely.middleware.outgoing import Outgoing
from tersely.middleware.provenance import Origin, provenance, source_of
from tersely.middleware.recover import recovered
from tersely.middleware.session import Session
from tersely.middleware.standing import Outcome, Standing
from tersely.prices import price_of
from tersely.prompt import Path as Place
from tersely.prompt import Prompt, Span
from tersely.report import Mode, Report, Trace
from tersely.tokens import counter

if TYPE_CHECKING:
    from tersely.middleware.pipeline import Pipeline

FAILED = "failed, passed on unchanged"
"""How a report's note begins when a request could not be treated at all."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came out: the request in its own shape, and the account of it."""

    output: Any
    report: Report
    trace: Trace | None = None

    @property
    def prompt(self) -> Prompt:
        """The request as backends of ours take it, with what stands in the place of texts.

        It holds nothing where the request could not be read.
        """
        traced = self._traced
        return traced.before if self.report.mode == "audit" else traced.after

    def html(self) -> str:
        """What was kept and lost, as one HTML page that needs nothing else."""
        from tersely.middleware.diff import html

        return html(self._traced)

    @property
    def provenance(self) -> tuple[Origin, ...]:
        """Where each run of every text that changed was copied from, in the order of the output.

        Exact, as the stages tell it; where a stage did not tell, or a text goes out as it was
        sent before, the two texts are aligned. In `audit` mode it is of what would be sent.
        """
        return provenance(self._traced)

    def source_of(self, path: Place, start: int, end: int) -> tuple[Span, ...]:
        """Which spans of a text of the request the characters of its output came from.

        New white space came from nowhere. Raises UnknownName when no text has that path.
        """
        return source_of(self._traced, path, (start, end))

    def recover(self, answer: str, *, min_words: int = 2, min_chars: int = 4) -> str:
        """The answer in the words of the request, where it quotes across what was cut out.

        A quote is a run of the answer's words that stands in a compressed text as well, white
        space and case aside, with at least `min_words` words that are not among the commonest
        and `min_chars` letters and digits. Where words were dropped from within it, or it begins
        or ends with half of a word, and all of it comes from one sentence, the quote is replaced
        by that stretch of the original text. A quote that also stands somewhere uncut, or could
        come from several places that read differently, stays; so does all else, and the whole
        answer when nothing was sent compressed.
        """
        if self.report.mode != "optimize":
            return answer
        return recovered(answer, self._traced, min_words=min_words, min_chars=min_chars)

    @property
    def _traced(self) -> Trace:
        empty = Prompt(())
        return self.trace or Trace(empty, empty, self.report)

    def save_html(self, path: str | Path) -> Path:
        """Write the page to a file, and return where it lies."""
        Path(path).write_text(self.html(), encoding="utf-8")
        return Path(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One request, with everything that was decided about how to treat it.

    `question` None means: the one that the request itself holds. `soft` tells that the result's
    `prompt` is what a backend will be asked, whatever the request's own shape.
    """

    pipeline: Pipeline
    request: Any
    question: str | None
    model: str
    mode: Mode
    strict: bool
    budget: Budget
    session: Session | None = None
    surface: str | Adapter = ""
    soft: bool = False

    def go(self) -> Result:
        """Compress the request. Without `strict` nothing raises: the request goes on as it is."""
        return alone(self.calls())

    def calls(self) -> Calls[Result]:
        """The same, but each call of a stage that can read ahead is told before it takes place."""
        result = yield from self._gone()
        if result.trace:
            scope.remember(result.trace)
        listeners.tell(result.report)
        return result

    def _gone(self) -> Calls[Result]:
        if self.mode == "off":
            return self._unchanged("the mode is off")
        try:
            reader = self._reader()
            if reader is None:
                kind = type(self.request).__name__
                return self._unchanged(f"no adapter knows this request ({kind})")
            return (yield from self._through(reader))
        except Exception as error:
            if self.strict:
                raise
            return self._unchanged(f"{FAILED}: {type(error).__name__}: {error}")

    def _reader(self) -> Adapter | None:
        if not isinstance(self.surface, str):
            return self.surface
        return adapters.adapter(self.surface) if self.surface else adapters.find(self.request)

    def _through(self, reader: Adapter) -> Calls[Result]:
        start = perf_counter()
        read = reader.read(self.request)
        if self.question is not None:
            read = replace(read, question=self.question)
        if not read.segments:
            return self._unchanged(read.why or "the request holds no text", reader.name)
        known = self.session or scope.current_session()
        session = known or self.pipeline.conversations.continued_by(read)
        context = self._context(sum(len(one.text) for one in read.segments))
        given, compact = read, self._compacted(reader, read, session, context)
        read = compact.prompt
        opened, gone = dropped(session.freeze(read), context)
        run = yield from self.pipeline.calls(opened, context, strict=self.strict)
        met = run.settle()
        made = unmarked(read, retraced(opened, run.prompt))
        out = Outgoing(self.pipeline, self.budget, reader, self.model)
        bill = out.bill(session, run.context, self.request, given)
        sent = out.raised(bill, read, made, compact.request)
        made = sent.prompt
        if self.mode == "optimize":
            made = session.remember(read, made)
            if known is None:
                self.pipeline.conversations.remember(given, session)
        placed = out.placed(adapters.write(compact.request, read, made))
        output = placed.request if self.mode == "optimize" else self.request
        report = Report(
            mode=self.mode,
            surface=reader.name,
            counter=run.context.count.name,
            exact=run.context.count.exact,
            before=run.context.tokens(given),
            after=run.context.tokens(made),
            limit=sent.limit(run.context.limit),
            met=met,
            cost=bill.cost(out.parcel(sent, placed), compact.cost) if bill else None,
            ms=(perf_counter() - start - run.waited) * 1000,
            decisions=(*compact.decisions, *gone, *sent.told(run.ledger.decisions)),
            notes=(*compact.notes, *run.ledger.notes, *placed.notes, *filter(None, [given.why])),
        )
        session.note(report)
        return Result(output, report, Trace(read, made, report))

    def _compacted(
        self, reader: Adapter, read: Prompt, session: Session, context: Context
    ) -> Outcome:
        """The request with its older turns in one message, where the pipeline asks for that."""
        terms = self.pipeline.history
        if terms is None:
            return Outcome(request=self.request, prompt=read, history=session.history)
        work = Compacting(
            terms=terms,
            standing=Standing(reader, context, session.freeze),
            model=self.model,
            now=session.clock(),
            spared=session.pricing.tokens(price_of(self.model, terms.prices)),
        )
        with session.compacting:
            made = work.of(self.request, read, session.history)
            if self.mode == "optimize":
                session.history = made.history
        return made

    def _context(self, characters: int) -> Context:
        """What stages know of a request of so many characters. The clock runs from here."""
        budget, count = self.budget.timed(characters), counter(self.model)
        return Context(
            count=count,
            budget=budget,
            deadline=None if budget.ms is None else monotonic() + budget.ms / 1000,
            seed=self.pipeline.seed,
            backend=self.pipeline.backend,
            soft=self.soft or isinstance(self.request, Prompt),
        )

    def _unchanged(self, reason: str, surface: str = "unknown") -> Result:
        named = self.surface if isinstance(self.surface, str) else self.surface.name
        report = Report(
            mode=self.mode,
            surface=named or surface,
            counter="none",
            exact=True,
            before=0,
            after=0,
            notes=(reason,),
        )
        empty = Prompt(())
        return Result(self.request, report, Trace(empty, empty, report))


def model_of(request: Any) -> str:
    """The model that a request names, if it names one."""
    named = request.get("model") if isinstance(request, Mapping) else None
    return named if isinstance(named, str) else ""
