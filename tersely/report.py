"""What happened, and why: one decision for each text and stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tersely.prompt import Kind, Path, Prompt, Role

Mode = Literal["off", "audit", "optimize"]
"""`off` passes through, `audit` changes nothing and reports what it would do."""

Action = Literal["compressed", "unchanged", "locked", "frozen", "reverted", "skipped"]


class Decision(BaseModel):
    """What became of one text in one stage, and the reason."""

    model_config = ConfigDict(frozen=True)

    path: str
    role: Role
    kind: Kind
    stage: str
    action: Action
    reason: str
    before: int
    after: int
    ms: float = 0.0


class Cost(BaseModel):
    """Dollars that a prompt costs as it came and as it goes out, the provider's cache priced in.

    The `listed` ones are what it would cost without a cache. `calls` is what was asked of a model
    for the sake of compaction; what goes out has it in its cost. The answer is not in it.
    """

    model_config = ConfigDict(frozen=True)

    before: float
    after: float
    listed_before: float
    listed_after: float
    calls: float = 0.0

    @property
    def saved(self) -> float:
        """What is saved; below 0 where it costs more."""
        return self.before - self.after


class Report(BaseModel):
    """The account of one request.

    Tokens are counted by `counter`; when `exact` is False they are an estimate. `limit` is
    the budget in tokens for the whole prompt and `met` whether it holds. `notes` tell what
    concerns the whole request. `cost` is None for models that no table of prices knows.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    mode: Mode
    surface: str
    counter: str
    exact: bool
    before: int
    after: int
    limit: int | None = None
    met: bool = True
    ms: float = 0.0
    cost: Cost | None = None
    decisions: tuple[Decision, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def saved(self) -> int:
        """Tokens that are no longer sent (in `audit`: that would not be)."""
        return self.before - self.after

    @property
    def ratio(self) -> float:
        """The share of tokens that is left."""
        return self.after / self.before if self.before else 1.0

    def __rich__(self) -> object:
        """The report as a table, for `rich.print`."""
        from importlib import import_module  # the core does not know the rooms

        return import_module("tersely.middleware.render").table(self)


@dataclass(frozen=True, slots=True)
class Trace:
    """The prompt before and after, for drawing what was lost. Held in memory only."""

    before: Prompt
    after: Prompt
    report: Report = field(repr=False)


def spell(path: Path) -> str:
    """A path as people write it: `messages[3].content`."""
    if not path:
        return "text"
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).lstrip(".")
