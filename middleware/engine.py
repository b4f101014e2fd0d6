"""Run stages over a prompt: route by kind, keep the budget, guard every text, note every reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from tersely.contracts import Context, Stage
from tersely.errors import BudgetError, StageError
from tersely.middleware.guards import broken, misshapen
from tersely.middleware.session import FROZEN
from tersely.prompt import KINDS, Kind, Prompt, Segment
from tersely.report import Action, Decision, spell

WITHIN = "the prompt is within its budget"


Target = tuple[tuple[Kind, ...], int]
"""Kinds that share a budget, and the tokens that their open texts may have."""


@dataclass(slots=True)
class Run:
    """One prompt on its way through the stages, and the account of it."""

    prompt: Prompt
    context: Context
    strict: bool = False
    decisions: list[Decision] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def through(self, stages: Sequence[Stage], fallback: Stage | None) -> None:
        """Send the prompt through every stage; the fallback serves where one could not."""
        targets = targets_of(self.prompt, self.context)
        whole = self.context.tokens(self.prompt) - sum(
            _part(self.prompt, self.context, kinds) - target for kinds, target in targets
        )
        ceiling = self.context.budget.tokens
        limit = min(whole, ceiling or whole) if targets else ceiling
        self.context = self.context.within(limit)
        failed = False
        for stage in stages:
            for limited in self._groups(stage, targets):
                failed |= not self._step(stage, limited)
        if failed and fallback is not None and self._over(limit):
            self.context = replace(self.context, deadline=None)
            self.notes.append(f"{name_of(fallback)} took over, since a stage could not do its work")
            self._step(fallback, self.context)
        self._account_for_the_rest()

    def _groups(self, stage: Stage, targets: Sequence[Target]) -> Iterator[Context]:
        """The limits under which a stage runs: kinds with a share of their own first."""
        if len(targets) > 1 or self.context.budget.shares:
            for kinds, target in targets:
                over = _part(self.prompt, self.context, kinds) - target
                limit = self.context.tokens(self.prompt) - over
                if set(kinds) & set(stage.kinds):
                    yield replace(self.context, limit=limit, only=kinds)
        yield self.context

    def _over(self, limit: int | None) -> bool:
        return limit is not None and self.context.tokens(self.prompt) > limit

    def _step(self, stage: Stage, context: Context) -> bool:
        """Run one stage under one limit. False when it failed or ran out of time."""
        reach = _reach(self.prompt, stage, context.only)
        if not reach.open:
            return True
        if reason := self._needless(stage, context):
            self._decide(stage, self.prompt, reach, {}, "unchanged", reason)
            return True
        start = perf_counter()
        try:
            context.check()
            made = stage(reach, context)
            if reason := misshapen(reach, made):
                raise StageError(f"{name_of(stage)} broke its contract: {reason}")
        except Exception as error:
            if self.strict:
                raise StageError(f"{name_of(stage)} failed: {error}") from error
            self._decide(stage, self.prompt, reach, {}, "skipped", f"failed: {_said(error)}")
            self.notes.append(f"{name_of(stage)} failed, its texts go on unchanged: {_said(error)}")
            return False
        ms = (perf_counter() - start) * 1000
        faults = broken(reach, made, context)
        after = self._adopt(made, faults)
        reasons = self._reasons(faults)
        self._decide(stage, after, reach, reasons, "compressed", "", ms)
        self.prompt = after
        return True

    def _needless(self, stage: Stage, context: Context) -> str:
        if "question" in stage.needs and not self.prompt.question:
            return "it needs a question and none is known"
        if context.limit is not None and context.tokens(self.prompt) <= context.limit:
            return WITHIN
        return ""

    def _adopt(self, made: Prompt, faults: dict[int, str]) -> Prompt:
        """The new texts in the real prompt, where they broke nothing."""
        texts: dict[int, str] = {}
        at = 0
        for i, leaf in enumerate(made.leaves):
            for segment in leaf.segments:
                if i not in faults and not segment.locked:
                    texts[at] = segment.text
                at += 1
        return self.prompt.with_texts(texts)

    def _reasons(self, faults: dict[int, str]) -> dict[int, str]:
        """The faults by segment instead of by leaf."""
        reasons: dict[int, str] = {}
        at = 0
        for i, leaf in enumerate(self.prompt.leaves):
            for _ in leaf.segments:
                if i in faults:
                    reasons[at] = faults[i]
                at += 1
        return reasons

    def _decide(
        self,
        stage: Stage,
        after: Prompt,
        reach: Prompt,
        faults: dict[int, str],
        action: Action,
        reason: str,
        ms: float = 0.0,
    ) -> None:
        """Write down what became of every text within a stage's reach."""
        old = [reach.segments[i] for i in reach.open]
        new = [after.segments[i] for i in reach.open]
        sizes = self.context.tokens_of([s.text for s in old])
        nows = self.context.tokens_of([s.text for s in new])
        total = sum(sizes) or 1
        for i, was, segment, before, now in zip(reach.open, old, new, sizes, nows, strict=True):
            done, why = action, reason
            if i in faults:
                done, why = "reverted", faults[i]
            elif action == "compressed" and was.text == segment.text:
                done, why = "unchanged", "nothing in it could go"
            self.decisions.append(
                _decision(
                    was, stage, done, why or _told(before, now), before, now, ms * before / total
                )
            )

    def _account_for_the_rest(self) -> None:
        """A decision for every text that no stage reached: nothing is silent."""
        told = {decision.path for decision in self.decisions}
        rest = [s for s in self.prompt.segments if s.text and spell(s.path) not in told]
        for segment, size in zip(rest, self.context.tokens_of([s.text for s in rest]), strict=True):
            action: Action = "frozen" if segment.reason == FROZEN else "locked"
            reason = segment.reason or "locked by the caller"
            self.decisions.append(_decision(segment, None, action, reason, size, size))

    def settle(self) -> bool:
        """Whether the budget holds; says which locked text is in the way when it does not."""
        limit = self.context.limit
        if limit is None:
            return True
        size = self.context.tokens(self.prompt)
        if size <= limit:
            return True
        fixed = size - _part(self.prompt, self.context, KINDS)
        reason = f"the budget of {limit} tokens is missed by {size - limit}"
        if fixed > limit:
            reason += f": {fixed} tokens may not change ({_largest(self.prompt, self.context)})"
        if self.strict:
            raise BudgetError(reason)
        self.notes.append(reason)
        return False


def prepare(prompt: Prompt, stages: Sequence[Stage], context: Context, floor: int) -> Prompt:
    """Lock what no stage takes, and what is shorter than `floor` tokens, with the reason."""
    reached = {kind for stage in stages for kind in stage.kinds}
    sizes = context.tokens_of([s.text for s in prompt.segments])
    locked: dict[int, Segment] = {}
    for i, (segment, size) in enumerate(zip(prompt.segments, sizes, strict=True)):
        if segment.locked:
            continue
        if segment.kind not in reached:
            reason = f"no stage takes {segment.kind}"
            locked[i] = replace(segment, locked=True, reason=_and(segment.reason, reason))
        elif size < floor:
            reason = f"shorter than {floor} tokens"
            locked[i] = replace(segment, locked=True, reason=_and(segment.reason, reason))
    return prompt.with_segments(locked)


def targets_of(prompt: Prompt, context: Context) -> list[Target]:
    """What the budget's shares and ratio allow, in tokens of open text."""
    budget = context.budget
    kinds = {prompt.segments[i].kind for i in prompt.open}
    groups: list[tuple[tuple[Kind, ...], float]] = [
        ((kind,), share) for kind, share in budget.shares.items() if kind in kinds
    ]
    rest = tuple(sorted(kinds - set(budget.shares)))
    if budget.ratio is not None and rest:
        groups.append((rest, budget.ratio))
    return [(group, int(_part(prompt, context, group) * ratio)) for group, ratio in groups]


def _part(prompt: Prompt, context: Context, kinds: Sequence[Kind]) -> int:
    """The tokens of the open texts of some kinds."""
    empty = {i: "" for i in prompt.open if prompt.segments[i].kind in kinds}
    return context.tokens(prompt) - context.tokens(prompt.with_texts(empty))


def name_of(stage: Stage) -> str:
    """The registry name of a stage, or its type's name."""
    return str(getattr(stage, "name", None) or type(stage).__name__)


def _reach(prompt: Prompt, stage: Stage, only: Sequence[Kind]) -> Prompt:
    """The prompt as a stage sees it: everything that it may not touch is locked."""
    return prompt.with_segments(
        {
            i: replace(s, locked=True)
            for i, s in enumerate(prompt.segments)
            if s.kind not in stage.kinds or (only and s.kind not in only)
        }
    )


def _decision(
    segment: Segment,
    stage: Stage | None,
    action: Action,
    reason: str,
    before: int,
    after: int,
    ms: float = 0.0,
) -> Decision:
    return Decision(
        path=spell(segment.path),
        role=segment.role,
        kind=segment.kind,
        stage=name_of(stage) if stage else "-",
        action=action,
        reason=reason,
        before=before,
        after=after,
        ms=ms,
    )


def _told(before: int, after: int) -> str:
    return f"{before - after} tokens fewer" if after < before else "its words changed"


def _and(first: str, second: str) -> str:
    return f"{first}; {second}" if first else second


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _largest(prompt: Prompt, context: Context) -> str:
    """The locked texts that weigh most, as people find them."""
    locked = [s for s in prompt.segments if s.locked and s.text]
    sized = sorted(
        zip(context.tokens_of([s.text for s in locked]), locked, strict=True), key=lambda p: -p[0]
    )
    told = [f"{spell(s.path)} {size}" for size, s in sized[:3]]
    if prompt.tools:
        told.append(f"tools {context.tokens_of([prompt.tools])[0]}")
    return ", ".join(told) or "the chat format"
