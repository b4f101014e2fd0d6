"""Retrieved texts under one exact budget: what the integrations of other frameworks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tersely.budget import Budget, BudgetLike
from tersely.contracts import Context
from tersely.lexical import relevance
from tersely.middleware import scope
from tersely.middleware.leaves import Found, Place
from tersely.middleware.passage import Result
from tersely.middleware.pipeline import Pipeline, pipeline_of
from tersely.middleware.purpose import prompt_of
from tersely.middleware.scope import Override
from tersely.middleware.session import Session
from tersely.order import Order, seats
from tersely.prompt import Prompt, Span
from tersely.report import Decision, Report, Trace, spell
from tersely.select import MARK
from tersely.tokens import counter
from tersely.units import Floats

Share = Literal["all", "each"]
"""Whether all texts together have the budget, or each one by itself."""

ROUNDS = 3
"""How often the room that lost texts leave is given to the others at most."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A text, and what the model will see around it, which stays as it is.

    One without a text of its own only takes its room, and is never dropped. `start` is where the
    text begins in the caller's.
    """

    text: str
    before: str = ""
    after: str = ""
    start: int = 0

    @property
    def frame(self) -> str:
        return self.before + self.after

    @property
    def shown(self) -> str:
        return self.before + self.text + self.after


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of one text: its position, the share of its tokens, where it stood."""

    at: int
    text: str
    share: float
    tokens: int
    spans: tuple[Span, ...]

    @property
    def account(self) -> dict[str, Any]:
        """What is told in the metadata, as plain values."""
        spans = [list(span) for span in self.spans]
        return {"kept": round(self.share, 4), "tokens": self.tokens, "spans": spans}


@dataclass(frozen=True, slots=True)
class _Reader:
    """The adapter for retrieved texts by their number."""

    name: str
    texts: Mapping[int, Retrieved]

    def matches(self, request: Any, /) -> bool:
        return isinstance(request, Mapping)

    def read(self, request: Any, /) -> Prompt:
        return prompt_of(found for i in request for found in self._found(i, self.texts[i]))

    def _found(self, i: int, one: Retrieved) -> Iterator[Found]:
        place = Place(path=(i,), kind="context")
        around = place.locked("it stands around the text")
        parts = ((one.before, around), (one.text, place), (one.after, around))
        return (Found(text, where) for text, where in parts if text)


class _Unfrozen(Session):
    """Each retrieval is for a question of its own: nothing goes out as it did for another."""

    def freeze(self, prompt: Prompt) -> Prompt:
        return prompt

    def remember(self, before: Prompt, after: Prompt) -> Prompt:
        return after


@dataclass(slots=True)
class Compression:
    """The texts of one retrieval on their way through a pipeline.

    `worth` tells how good each text is, when that has to be known. A text that lost everything
    is dropped, and so are the worst ones when what stands around the texts would take more than
    half of a budget in tokens.
    """

    pipeline: Pipeline
    surface: str
    texts: Sequence[Retrieved]
    question: str
    worth: Callable[[], Floats]
    _runs: list[tuple[tuple[int, ...], Result]] = field(default_factory=list, init=False)
    _context: Context = field(init=False)
    _budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        wishes = scope.current_override()
        pipeline = wishes.pipeline or self.pipeline
        self._context = Context(count=counter(pipeline.model))
        self._budget = wishes.budget or pipeline.budget

    def go(self, share: Share) -> list[Kept] | None:
        """What is kept, in order; None when the texts are to stay as they are."""
        kept = self._each() if share == "each" else self._together()
        if any(result.report.mode != "optimize" for _, result in self._runs):
            return None
        if self._runs:
            self._tell(kept)
        return list(kept.values())

    def _each(self) -> dict[int, Kept]:
        kept: dict[int, Kept] = {}
        for i in range(len(self.texts)):
            kept |= self._run((i,), self._budget)
        return kept

    def _together(self) -> dict[int, Kept]:
        """All under one budget: the room of those that lost everything goes to the others."""
        left, budget = self._affordable(), self._budget
        kept = self._run(left, budget) if left else {}
        for _ in range(ROUNDS - 1):
            report = self._runs[-1][1].report if self._runs else None
            if not kept or len(kept) == len(left) or not report or report.limit is None:
                break
            lost = [self.texts[i].frame for i in left if i not in kept]
            by_share = budget.ratio is not None or budget.shares
            freed = sum(self._context.tokens_of(lost)) if by_share else 0
            left, budget = (
                tuple(kept),
                budget.model_copy(
                    update={"tokens": max(report.limit - freed, 1), "ratio": None, "shares": {}}
                ),
            )
            again = self._run(left, budget)
            if not self._runs[-1][1].report.met:
                self._runs.pop()
                break
            kept = again
        return kept

    def _affordable(self) -> tuple[int, ...]:
        """The texts whose surroundings leave at least half of the budget to what they say."""
        everything = tuple(range(len(self.texts)))
        tokens = self._budget.tokens
        sizes = self._context.tokens_of([one.frame for one in self.texts])
        if tokens is None or sum(sizes) <= tokens / 2:
            return everything
        fixed = {i for i in everything if not self.texts[i].text}
        chosen, room = set(fixed), tokens / 2 - sum(sizes[i] for i in fixed)
        for i in np.argsort(-self.worth(), kind="stable").tolist():
            if i not in fixed and (sizes[i] <= room or chosen == fixed):
                chosen.add(i)
                room -= sizes[i]
        return tuple(i for i in everything if i in chosen)

    def _run(self, which: tuple[int, ...], budget: Budget) -> dict[int, Kept]:
        """Send some of the texts through the pipeline; those that something is left of."""
        if budget.ms is not None:
            spent = sum(result.report.ms for _, result in self._runs)
            budget = budget.model_copy(update={"ms": max(budget.ms - spent, 1.0)})
        texts = {i: self.texts[i] for i in which}
        result = self.pipeline.run(
            {i: one.shown for i, one in texts.items()},
            question=self.question,
            wishes=Override(budget=budget),
            session=_Unfrozen(),
            surface=_Reader(self.surface, texts),
        )
        self._runs.append((which, result))
        made = {i: _inner(one, result.output[i]) for i, one in texts.items()}
        return {
            i: self._kept(i, made[i], result)
            for i, one in texts.items()
            if made[i] == one.text or made[i].strip() not in ("", MARK)
        }

    def _kept(self, i: int, text: str, result: Result) -> Kept:
        one = self.texts[i]
        was, now = self._context.tokens_of([one.text, text])
        head = len(one.before)
        spans: tuple[Span, ...] = ((head, head + len(text)),) if text else ()
        if text != one.text:
            spans = result.source_of((i,), head, head + len(text))
        moved = one.start - head
        spans = tuple((start + moved, end + moved) for start, end in spans)
        return Kept(i, text, now / was if was else 1.0, now, spans)

    def _tell(self, kept: Mapping[int, Kept]) -> None:
        """Make the account of all runs together the latest report."""
        before = _Reader(self.surface, dict(enumerate(self.texts))).read(range(len(self.texts)))
        texts = {}
        for at, segment in enumerate(before.segments):
            one = kept.get(int(segment.path[0]))
            if one is None or not segment.locked:
                texts[at] = one.text if one else ""
        after = before.with_texts(texts)
        sizes = [self._context.tokens(prompt) for prompt in (before, after)]
        trace = Trace(before, after, self._report(*sizes))
        scope.remember(trace)
        if known := scope.current_session():
            known.note(trace.report)

    def _report(self, before: int, after: int) -> Report:
        reports = [result.report for _, result in self._runs]
        decisions: dict[str, list[Decision]] = {}
        for which, result in self._runs:
            decisions |= {spell((i,)): [] for i in which}
            for decision in result.report.decisions:
                decisions.setdefault(decision.path, []).append(decision)
        final = [result.report for which, result in self._runs if self._lasts(which)]
        limits = [report.limit for report in final if report.limit is not None]
        return reports[-1].model_copy(
            update={
                "before": before,
                "after": after,
                "limit": sum(limits) if limits else None,
                "met": all(report.met for report in final),
                "ms": sum(report.ms for report in reports),
                "decisions": tuple(one for told in decisions.values() for one in told),
                "notes": tuple(dict.fromkeys(note for report in reports for note in report.notes)),
            }
        )

    def _lasts(self, which: tuple[int, ...]) -> bool:
        """Whether a run was not done again with fewer texts."""
        return not any(set(later) < set(which) for later, _ in self._runs)


def pipeline_for(pipeline: Any, budget: BudgetLike, model: str | None) -> Pipeline:
    """A pipeline as people give it, with another budget or model when they are named."""
    given: dict[str, Any] = {"budget": budget, "model": model}
    named = {name: value for name, value in given.items() if value is not None}
    found = pipeline_of(pipeline)
    return found.but(**named) if named else found


def worth_of(texts: Sequence[str], question: str, scores: Sequence[float | None]) -> Floats:
    """How good each text is: its score when all have one, else BM25, else as they stand."""
    if texts and all(score is not None for score in scores):
        return np.array(scores, np.float64)
    by_words = relevance(texts, question) if question else np.zeros(len(texts))
    return by_words if by_words.any() else -np.arange(len(texts), dtype=np.float64)


def seated(kept: Sequence[Kept], worth: Callable[[], Floats], order: Order) -> list[Kept]:
    """What is kept, in the order that was asked for."""
    if order == "kept" or len(kept) < 2:
        return list(kept)
    good = worth()[[one.at for one in kept]]
    places = seats(good, np.zeros(len(kept), np.bool_), order)
    return [kept[i] for i in places.tolist()]


def _inner(one: Retrieved, shown: str) -> str:
    """The text without what stands around it."""
    return shown[len(one.before) : len(shown) - len(one.after)]
