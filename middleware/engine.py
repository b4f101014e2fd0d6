"""Run stages over a prompt: route by kind, keep the budget, guard every text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from tersely.ahead import Call, Calls, alone, can_read_ahead
from tersely.contracts import Context, Stage
from tersely.errors import BudgetError, StageError
from tersely.middleware.guards import broken, misshapen, touched
from tersely.middleware.ledger import Ledger, Outcome, name_of
from tersely.origins import Origins, faithful
from tersely.prompt import KINDS, Kind, Prompt, Segment, traced
from tersely.report import spell

Target = tuple[tuple[Kind, ...], int]
"""Kinds that share a budget, and the tokens that their open texts may have."""


def prepare(prompt: Prompt, stages: Sequence[Stage], context: Context, floor: int) -> Prompt:
    """Lock what no stage takes, and what is shorter than `floor` tokens, with the reason."""
    sizes = context.tokens_of([s.text for s in prompt.segments]) if floor else None
    locked: dict[int, Segment] = {}
    for i, segment in enumerate(prompt.segments):
        if segment.locked:
            continue
        why = ""
        if not any(takes(stage, segment) for stage in stages):
            why = f"no stage takes {segment.kind}"
        elif sizes and sizes[i] < floor:
            why = f"shorter than {floor} tokens"
        if why:
            reason = f"{segment.reason}; {why}" if segment.reason else why
            locked[i] = replace(segment, locked=True, reason=reason)
    return prompt.with_segments(locked) if locked else prompt


def onto(prompt: Prompt, run: Run) -> Prompt:
    """The prompt of a run as it came, with what became of its texts."""
    made = dict(enumerate(run.prompt.segments))
    told = {i: segment.origins for i, segment in made.items()}
    texts = {i: segment.text for i, segment in made.items()}
    stands = {i: segment for i, segment in made.items() if segment.soft and i in prompt.open}
    return prompt.with_texts(texts, origins=told).with_segments(stands)


def takes(stage: Stage, segment: Segment) -> bool:
    """Whether a stage may change a segment: by its kind, unless the stage knows better."""
    own: Callable[[Segment], bool] | None = getattr(stage, "takes", None)
    return segment.kind in stage.kinds if own is None else own(segment)


@dataclass(slots=True)
class Run:
    """One prompt on its way through the stages."""

    prompt: Prompt
    context: Context
    ledger: Ledger
    strict: bool = False
    start: Prompt = field(init=False)
    """The prompt as it came: what origins refer to."""
    waited: float = field(default=0.0, init=False)
    """Seconds between a call's being told and its taking place."""

    def __post_init__(self) -> None:
        self.prompt = self.start = _untraced(self.prompt)

    def through(self, stages: Sequence[Stage], fallback: Stage | None) -> None:
        """Send the prompt through every stage; the fallback serves where one could not."""
        alone(self.calls(stages, fallback))

    def calls(self, stages: Sequence[Stage], fallback: Stage | None) -> Calls[None]:
        """The same, but each call of a stage that can read ahead is told before it takes place."""
        targets = self._targets()
        self.context = self.context.within(self._limit(targets))
        done: list[bool] = []
        for stage in stages:
            for limited in self._limits(stage, targets):
                done.append((yield from self._step(stage, limited)))
        if fallback is not None and not all(done) and self._over(self.context.limit):
            self.context = replace(self.context, deadline=None)
            self.ledger.note(f"{name_of(fallback)} took over, since a stage could not do its work")
            yield from self._step(fallback, self.context)
        self.ledger.notes.extend(self.context.said)
        self.ledger.rest(self.prompt)

    def settle(self) -> bool:
        """Whether the budget holds; notes which locked text is in the way when it does not.

        Raises BudgetError instead when `strict`.
        """
        limit, size = self.context.limit, self.context.tokens(self.prompt)
        if limit is None or size <= limit:
            return True
        reason = f"the budget of {limit} tokens is missed by {size - limit}"
        fixed = size - self._part(KINDS)
        if fixed > limit:
            reason += f": {fixed} tokens may not change ({_largest(self.prompt, self.context)})"
        if self.strict:
            raise BudgetError(reason)
        self.ledger.note(reason)
        return False

    def _targets(self) -> list[Target]:
        """What the budget's shares and ratio allow, in tokens of open text."""
        budget = self.context.budget
        kinds = {self.prompt.segments[i].kind for i in self.prompt.open}
        groups: list[tuple[tuple[Kind, ...], float]] = [
            ((kind,), share) for kind, share in budget.shares.items() if kind in kinds
        ]
        rest = tuple(sorted(kinds - set(budget.shares)))
        if budget.ratio is not None and rest:
            groups.append((rest, budget.ratio))
        return [(group, int(self._part(group) * ratio)) for group, ratio in groups]

    def _limit(self, targets: Sequence[Target]) -> int | None:
        """The tokens that the whole prompt may have in the end."""
        ceiling = self.context.budget.tokens
        if not targets:
            return ceiling
        over = sum(self._part(kinds) - target for kinds, target in targets)
        limit = self.context.tokens(self.prompt) - over
        return limit if ceiling is None else min(limit, ceiling)

    def _limits(self, stage: Stage, targets: Sequence[Target]) -> Iterator[Context]:
        """The limits under which a stage runs: kinds with a share of their own first.

        What one kind can't give is taken from no other, unless a ceiling for the whole asks for it.
        """
        if not self.context.budget.shares:
            yield self.context
            return
        for kinds, target in targets:
            if set(kinds) & set(stage.kinds):
                over = self._part(kinds) - target
                limit = self.context.tokens(self.prompt) - over
                yield replace(self.context, limit=limit, only=kinds)
        if self.context.budget.tokens is not None or not self._over(self.context.limit):
            yield self.context
        elif rest := set(stage.kinds).difference(*(kinds for kinds, _ in targets)):
            yield replace(self.context, limit=None, only=tuple(sorted(rest)))

    def _part(self, kinds: Sequence[Kind]) -> int:
        """The tokens of the open texts of some kinds."""
        empty = {i: "" for i in self.prompt.open if self.prompt.segments[i].kind in kinds}
        rest = self.prompt.with_texts(empty)
        return self.context.tokens(self.prompt) - self.context.tokens(rest)

    def _over(self, limit: int | None) -> bool:
        return limit is not None and self.context.tokens(self.prompt) > limit

    def _step(self, stage: Stage, context: Context) -> Calls[bool]:
        """Run one stage under one limit. False when it failed or ran out of time."""
        reach = _reach(self.prompt, stage, context.only)
        if not reach.open:
            return True
        if reason := _needless(stage, self.prompt, context):
            self._unchanged(stage, reach, Outcome(action="unchanged", reason=reason))
            return True
        if can_read_ahead([stage]):
            told = perf_counter()
            yield Call(stage, reach, context)
            self.waited += perf_counter() - told
        start = perf_counter()
        try:
            context.check()
            made = stage(reach, context)
            if reason := misshapen(reach, made):
                raise StageError(f"it broke its contract: {reason}")
        except Exception as error:
            if self.strict:
                raise StageError(f"stage {name_of(stage)} failed: {error}") from error
            said = f"failed: {type(error).__name__}: {error}"
            self._unchanged(stage, reach, Outcome(action="skipped", reason=said))
            self.ledger.note(f"stage {name_of(stage)} {said}; its texts went on unchanged")
            return False
        ms = (perf_counter() - start) * 1000
        faults = _by_segment(reach, broken(reach, made, context))
        for segment in touched(reach, made):
            self.ledger.note(f"{name_of(stage)} changed locked {spell(segment.path)}: put back")
        kept = {i: made.segments[i] for i in reach.open if i not in faults}
        self.ledger.stage(stage, reach, reach.with_segments(kept), Outcome(faults=faults, ms=ms))
        self.prompt = self._after(kept)
        return True

    def _after(self, made: Mapping[int, Segment]) -> Prompt:
        """The prompt with what a stage made of some of its segments."""
        soft = {i: one for i, one in made.items() if one.soft is not None}
        texts = {i: one.text for i, one in made.items() if i not in soft}
        old, now = self.start.segments, self.prompt.segments
        told = {i: _told(old[i], now[i], made[i]) for i in texts}
        stands = {
            i: self.prompt.segments[i].softened(one.soft, one.reason)
            for i, one in soft.items()
            if one.soft is not None
        }
        return self.prompt.with_texts(texts, origins=told).with_segments(stands)

    def _unchanged(self, stage: Stage, reach: Prompt, outcome: Outcome) -> None:
        self.ledger.stage(stage, reach, self.prompt, outcome)


def _told(start: Segment, now: Segment, made: Segment) -> Origins | None:
    """Where a new text came from, if this stage and all before it told, and told the truth."""
    if made.origins is None or traced(start, now) is None:
        return None
    return made.origins if faithful(made.origins, now.text, made.text) else None


def _needless(stage: Stage, prompt: Prompt, context: Context) -> str:
    """Why a stage has nothing to do with a prompt, or ''."""
    if "question" in stage.needs and not prompt.question:
        return "it needs a question and none is known"
    loses = not getattr(stage, "lossless", False)  # what costs nothing is done in any case
    if loses and context.limit is not None and context.tokens(prompt) <= context.limit:
        return "the prompt is within its budget"
    return ""


def _reach(prompt: Prompt, stage: Stage, only: Sequence[Kind]) -> Prompt:
    """The prompt as a stage sees it: everything that it may not touch is locked."""
    return _untraced(prompt).with_segments(
        {
            i: replace(s, locked=True, origins=None)
            for i, s in enumerate(prompt.segments)
            if not s.locked and not (takes(stage, s) and (not only or s.kind in only))
        }
    )


def _untraced(prompt: Prompt) -> Prompt:
    """The prompt as if its texts had always been what they are."""
    told = {i: s for i, s in enumerate(prompt.segments) if s.origins is not None}
    untold = {i: replace(s, origins=None) for i, s in told.items()}
    return prompt.with_segments(untold) if untold else prompt


def _by_segment(prompt: Prompt, faults: dict[int, str]) -> dict[int, str]:
    """Faults by position of the segment instead of the leaf."""
    owners = [i for i, leaf in enumerate(prompt.leaves) for _ in leaf.segments]
    return {at: faults[leaf] for at, leaf in enumerate(owners) if leaf in faults}


def _largest(prompt: Prompt, context: Context) -> str:
    """The locked texts that weigh most, as people find them."""
    locked = [s for s in prompt.segments if s.locked and s.text]
    sizes = context.tokens_of([s.text for s in locked])
    told = [
        f"{spell(segment.path)} {size}"
        for size, segment in sorted(zip(sizes, locked, strict=True), key=lambda pair: -pair[0])[:3]
    ]
    if prompt.tools:
        told.append(f"tools {context.tokens_of([prompt.tools])[0]}")
    return ", ".join(told) or "the chat format"
