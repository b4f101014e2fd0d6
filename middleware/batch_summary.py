"""What a batch job came to, in figures and in a sentence."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tersely.middleware.tally import ANSWERED, Tally

SUMS = ("done", "failed", "before", "after", *ANSWERED)
"""What of the tally is part of the account of a job."""

INTERRUPTED = 130
"""The exit code of a process that was stopped by SIGINT, as shells have it."""


class BatchSummary(BaseModel):
    """The account of a job over all its runs.

    `rows` were read, of which `done` and `failed` add up to all, and `skipped` were done by an
    earlier run. `before` and `after` are tokens; `seconds` is the time of this run. Of `answered`
    rows, `softened` of them with a soft prompt, the backend read `prompt_tokens`, of which
    `cached_tokens` before, and wrote `completion_tokens`. `notes` tell what rows begin with.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    done: int
    failed: int
    skipped: int
    before: int
    after: int
    seconds: float
    finished: bool
    answered: int = 0
    softened: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    interrupted: bool = False
    max_error_rate: float = 1.0
    notes: tuple[str, ...] = ()
    tally: Tally = Field(default_factory=Tally, exclude=True, repr=False)

    @property
    def exit_code(self) -> int:
        """0, or 1 when too many rows failed, or 130 when the run was interrupted."""
        if self.interrupted:
            return INTERRUPTED
        return int(self.failed > self.max_error_rate * self.rows)

    @property
    def message(self) -> str:
        """What happened, and what to do next, in a sentence."""
        counts = f"{self.rows:,} rows, {self.failed:,} failed"
        if self.finished and self.rows == self.skipped:
            return f"nothing to do: the job is finished ({counts})"
        if not self.finished:
            return f"stopped after {counts}; run the same job again to go on from there"
        told = f"{counts}; {self.before:,} tokens became {self.after:,}"
        if not self.answered:
            return told
        told += (
            f"; {self.answered:,} answers: {self.prompt_tokens:,} tokens read,"
            f" {self.completion_tokens:,} written"
        )
        soft = f", {self.softened:,} with a soft prompt" if self.softened else ""
        return "\n".join([told + soft, *self.notes])
