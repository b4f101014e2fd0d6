"""The account of a run: what became of every text, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tersely.contracts import Context, Stage
from tersely.middleware.session import FROZEN
from tersely.prompt import Prompt, Segment
from tersely.report import Action, Decision, spell


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a stage fared: what it did as a whole, which texts were put back, how long it took."""

    action: Literal["compressed", "unchanged", "skipped"] = "compressed"
    reason: str = ""
    faults: Mapping[int, str] = field(default_factory=dict)
    ms: float = 0.0


@dataclass(slots=True)
class Ledger:
    """Collects decisions about single texts, and notes about the whole prompt."""

    context: Context
    decisions: list[Decision] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say something about the whole prompt."""
        self.notes.append(text)

    def stage(self, stage: Stage, reach: Prompt, after: Prompt, outcome: Outcome) -> None:
        """Write down what became of every text within a stage's reach."""
        sizes = self.context.sizes([reach.segments[i] for i in reach.open])
        nows = self.context.sizes([after.segments[i] for i in reach.open])
        total = sum(sizes) or 1
        for i, before, now in zip(reach.open, sizes, nows, strict=True):
            segment = reach.segments[i]
            action, reason = _fate(i, segment, after.segments[i], outcome)
            self.decisions.append(
                Decision(
                    path=spell(segment.path),
                    role=segment.role,
                    kind=segment.kind,
                    stage=name_of(stage),
                    action=action,
                    reason=reason or _told(before, now),
                    before=before,
                    after=now,
                    ms=outcome.ms * before / total,
                )
            )

    def rest(self, prompt: Prompt) -> None:
        """A decision for every text that no stage reached: nothing is silent."""
        reached = {(decision.path, decision.kind) for decision in self.decisions}
        rest = [
            s
            for s in prompt.segments
            if s.text and s.soft is None and (spell(s.path), s.kind) not in reached
        ]
        for segment, size in zip(rest, self.context.tokens_of([s.text for s in rest]), strict=True):
            self.decisions.append(
                Decision(
                    path=spell(segment.path),
                    role=segment.role,
                    kind=segment.kind,
                    stage="-",
                    action="frozen" if segment.reason == FROZEN else "locked",
                    reason=segment.reason or "locked by the caller",
                    before=size,
                    after=size,
                )
            )


def name_of(stage: Stage) -> str:
    """The registry name of a stage, or its type's name."""
    return str(getattr(stage, "name", None) or type(stage).__name__)


def _fate(i: int, old: Segment, new: Segment, outcome: Outcome) -> tuple[Action, str]:
    if i in outcome.faults:
        return "reverted", outcome.faults[i]
    told = new.reason if new.reason != old.reason else ""
    if outcome.action == "compressed" and (old.text, old.soft) == (new.text, new.soft):
        return "unchanged", told or "nothing in it had to go"
    return outcome.action, outcome.reason or told


def _told(before: int, after: int) -> str:
    return f"{before - after} tokens fewer" if after < before else "its words changed"
