"""One call of a prompt function: what is done to its arguments before, and to its prompt after."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from tersely.errors import UnknownName
from tersely.middleware import adapters, desk, scope
from tersely.middleware.adapter_fields import FIELDS
from tersely.middleware.desk import Desk
from tersely.middleware.keep import bare
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.scope import Override
from tersely.middleware.session import Session
from tersely.prompt import Prompt, Segment, Span
from tersely.report import Report, spell

SHORTEST = 20
"""In characters; a shorter argument may stand in a prompt by chance."""

INSIDE = "from a context argument"
OUTSIDE = "not from a context argument"


class Latest:
    """The latest report of one function, for each thread and asyncio task."""

    def __init__(self) -> None:
        self._own: WeakKeyDictionary[Desk, Report] = WeakKeyDictionary()
        self._seen: WeakKeyDictionary[Desk, Report] = WeakKeyDictionary()

    def lay(self, report: Report) -> None:
        """Make it the latest one here and for all who started what runs here."""
        at: Desk | None = desk.here()
        self._own[desk.here()] = report
        while at is not None:
            self._seen[at] = report
            at = at.starter

    def read(self) -> Report | None:
        """The latest one from here or below, else what the starter itself had last."""
        at = desk.here()
        found = self._seen.get(at)
        while found is None and at.starter is not None:
            at = at.starter
            found = self._own.get(at)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What is done to every call of one prompt function."""

    pipeline: Pipeline
    context: tuple[str, ...] = ()
    query: str | None = None
    latest: Latest = field(default_factory=Latest, compare=False)

    def check(self, function: Callable[..., Any]) -> None:
        """Raise UnknownName for a name that is no parameter of the function."""
        named = (*self.context, *([self.query] if self.query is not None else []))
        if not named:
            return
        parameters = inspect.signature(function).parameters
        for name in named:
            if name not in parameters:
                what = getattr(function, "__qualname__", repr(function))
                raise UnknownName(f"parameter of {what}", name, parameters)


@dataclass(slots=True)
class Call:
    """One call. First `before`, then the function, then `after` for each prompt that it makes."""

    treatment: Treatment
    question: str | None = None
    texts: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()
    arguments: Result | None = None
    done: Result | None = None

    def before(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with those that are context compressed."""
        wanted = self.treatment
        if not wanted.context and wanted.query is None:
            return args, kwargs
        try:
            bound = inspect.signature(function).bind(*args, **kwargs)
        except TypeError:
            return args, kwargs  # the function itself says it better
        bound.apply_defaults()
        asked = bound.arguments[wanted.query] if wanted.query is not None else None
        self.question = asked if isinstance(asked, str) else None
        if wanted.context:
            given = {name: bound.arguments[name] for name in wanted.context}
            bound.arguments.update(self._compressed(given))
        return bound.args, bound.kwargs

    def after(self, prompt: Any) -> Any:
        """The prompt that is sent instead of the one that the function made."""
        if self.arguments is None:
            return self._told(self.treatment.pipeline.run(prompt, question=self.question))
        wishes = scope.current_override()
        pipeline = wishes.pipeline or self.treatment.pipeline
        budget = wishes.budget or pipeline.budget
        if budget.tokens is None:
            return prompt  # a ratio was spent on the arguments already
        narrow = self._narrow(prompt)
        done = pipeline.run(
            prompt,
            question=self.question,
            wishes=Override(
                budget=budget.model_copy(update={"ratio": None, "shares": {}}),
                pipeline=pipeline.but(floor=0) if narrow and pipeline.floor else None,
            ),
            surface=narrow or "",
        )
        return self._told(_joined(self.arguments, done))

    def _narrow(self, prompt: Any) -> Narrow | None:
        """The prompt with nothing open but what came from the arguments; None if nothing did."""
        try:
            reader = adapters.find(prompt)
            read = reader and narrowed(reader.read(prompt), self.texts, self.marked)
        except Exception:  # the pipeline meets it as well, and tells
            return None
        return Narrow(reader.name, read) if reader and read else None

    def _compressed(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The context arguments within the budget. A question is new: nothing is frozen."""
        session = scope.current_session() or Session()
        done = self.treatment.pipeline.run(
            given, question=self.question, surface=FIELDS, session=session
        )
        arguments: Mapping[str, Any] = self._told(done)
        self.arguments = done
        closed = {one.path for one in done.report.decisions if one.action == "locked"}
        self.texts = tuple(
            segment.text
            for segment in FIELDS.read(arguments).segments
            if len(segment.text) >= SHORTEST and spell(segment.path) not in closed
        )
        self.marked = tuple(
            bare(segment.text[start:end])
            for segment in FIELDS.read(given).segments
            for start, end in segment.spans
        )
        return arguments

    def _told(self, done: Result) -> Any:
        self.done = done
        self.tell()
        return done.output

    def tell(self) -> None:
        """Make the account so far the latest one of this thread or task."""
        if self.done:
            self.treatment.latest.lay(self.done.report)
            if self.done.trace:
                scope.remember(self.done.trace)


@dataclass(frozen=True, slots=True)
class Narrow:
    """An adapter for one request that was read already."""

    name: str
    prompt: Prompt

    def matches(self, request: Any, /) -> bool:
        return True

    def read(self, request: Any, /) -> Prompt:
        return self.prompt


def narrowed(prompt: Prompt, texts: Sequence[str], marked: Sequence[str]) -> Prompt | None:
    """The prompt with only those passages open that are some texts, word for word.

    What was `marked` in them as to be kept is kept. None when none of the texts is found.
    """
    pieces = [piece for segment in prompt.segments for piece in _parts(segment, texts)]
    if not any(piece.reason == INSIDE for piece in pieces):
        return None
    return replace(prompt, segments=tuple(_keeping(piece, marked) for piece in pieces))


def _parts(segment: Segment, texts: Sequence[str]) -> Iterator[Segment]:
    """A segment in pieces: what is from the texts is open context, the rest is locked."""
    if segment.locked:
        yield segment
        return
    at = 0
    for start, end in _found(segment.text, texts):
        if at < start:
            yield _cut(segment, at, start, locked=True)
        yield _cut(segment, start, end, locked=False)
        at = end
    if at < len(segment.text):
        yield _cut(segment, at, len(segment.text), locked=True)


def _keeping(segment: Segment, marked: Sequence[str]) -> Segment:
    if segment.locked:
        return segment
    more = [span for span in _found(segment.text, marked) if _apart(span, segment.spans)]
    return replace(segment, spans=tuple(sorted((*segment.spans, *more))))


def _found(text: str, wanted: Sequence[str]) -> list[Span]:
    """Where the wanted texts stand, in order and apart; the longer ones are looked for first."""
    spans: list[Span] = []
    for piece in sorted({*wanted}, key=len, reverse=True):
        start = text.find(piece) if piece else -1
        while start >= 0:
            end = start + len(piece)
            if _apart((start, end), spans):
                spans.append((start, end))
            start = text.find(piece, end)
    return sorted(spans)


def _apart(span: Span, others: Sequence[Span]) -> bool:
    return all(span[1] <= first or last <= span[0] for first, last in others)


def _cut(segment: Segment, start: int, end: int, *, locked: bool) -> Segment:
    """A piece of a segment, with the spans that lie in it."""
    spans = [(max(a, start) - start, min(b, end) - start) for a, b in segment.spans]
    return replace(
        segment,
        text=segment.text[start:end],
        kind=segment.kind if locked else "context",
        locked=locked,
        reason=OUTSIDE if locked else INSIDE,
        spans=tuple(span for span in spans if span[0] < span[1]),
    )


def _joined(arguments: Result, prompt: Result) -> Result:
    """One account of both: from the prompt with the arguments as given to the one that is sent."""
    first, second = arguments.report, prompt.report
    counted = second.counter != "none"
    report = second.model_copy(
        update={
            "before": second.before + first.saved if counted else first.before,
            "after": second.after if counted else first.after,
            "counter": second.counter if counted else first.counter,
            "exact": second.exact if counted else first.exact,
            "ms": first.ms + second.ms,
            "decisions": first.decisions + second.decisions,
            "notes": tuple(dict.fromkeys(first.notes + second.notes)),
        }
    )
    shown = max(arguments, prompt, key=lambda result: result.report.saved).trace
    return Result(prompt.output, report, replace(shown, report=report) if shown else None)
