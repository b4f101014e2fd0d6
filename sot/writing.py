"""Write one point: ask for it, go on where it was cut, ask again where it failed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tersely.account import Call, PointTold
from tersely.contracts import Completion, Context, Request
from tersely.errors import BackendError, OutOfTime
from tersely.plans import Reply, Step
from tersely.sot.branching import Branch, NotAsked, outcome
from tersely.sot.cutting import body, ended, joined, run_on, sure, whole
from tersely.sot.difficulty import next_model
from tersely.sot.shares import LEAST, Shares
from tersely.sot.skeleton import Point

TAIL = 256
"""Characters at the end of a text in which it is looked for whether it runs on."""

Asking = Callable[[str], Request]
"""The request for a point of which some text is written already."""


@dataclass(slots=True)
class Calls:
    """All calls of an answer, counted."""

    context: Context
    made: list[Call] = field(default_factory=list)
    model: str = ""

    def note(self, purpose: str, request: Request, heard: Completion, used: str | None) -> None:
        """Note a call, and of what it made the text that is `used` (None: as it came)."""
        self.model = heard.model or self.model
        count = self.context.tokens_of([heard.text, heard.text if used is None else used])
        tokens = heard.completion_tokens or count[0]
        self.made.append(
            Call(
                purpose=purpose,
                prompt=self.context.tokens(request.prompt),
                completion=tokens,
                wasted=0 if used is None else max(tokens - count[1], 0),
                cached=heard.cached_tokens,
                model=request.model,
            )
        )


@dataclass(eq=False, slots=True)
class Job:
    """A point in the making. `kept` is what stands of it, `said` what the caller has seen.

    `model` is who is asked for it, of several `models`, and another one where that fails.
    """

    point: Point
    heading: str
    calls: Calls
    shares: Shares
    retries: int
    goes_on: bool
    models: Sequence[str] = ()
    model: str = ""
    room: int = 0
    branch: Branch | None = None
    kept: str = ""
    said: str = ""
    state: Literal["whole", "cut", "lost"] | None = None
    reason: str = ""
    asked: int = 0
    error: Exception | None = None
    final: bool = False
    _sure: tuple[str, str] = ("", "")

    @property
    def settled(self) -> bool:
        """Whether its text will not change: a lost point may get another chance until `final`."""
        return self.state is not None and (self.final or self.state != "lost")

    @property
    def ended(self) -> bool:
        """Whether nothing more is written to it; its fate is known."""
        return self.state is not None

    @property
    def text(self) -> str:
        """What is sure to stand, so far or in the end."""
        if self.ended or self.branch is None:
            return self.kept
        if self._sure[0] is not self.branch.text:  # it is asked for whenever any branch goes on
            going = sure(body(self.branch.text, self.point.number, self.point.text))
            self._sure = self.branch.text, going
        return joined(self.kept, self._sure[1])

    @property
    def told(self) -> PointTold:
        """What became of it."""
        return PointTold(
            number=self.point.number,
            heading=self.point.text,
            text=self.kept,
            state=self.state or "lost",
            reason=self.reason,
            calls=self.asked,
        )

    @property
    def seen(self) -> PointTold:
        """What there is of it by now."""
        return replace(self.told, text=self.text, state=self.state or "open")

    def write(self, asking: Asking, purpose: str = "") -> Generator[Step, Reply, None]:
        """The program that writes it. It raises nothing: `state` tells how it ended."""
        self.state, self.reason = None, ""
        failures, purpose = 0, purpose or f"point {self.point.number}"
        label = purpose
        while not self.ended:
            wanted = asking(self.kept)
            request = replace(wanted, max_tokens=self.room, model=self.model or wanted.model)
            heard, error = yield from outcome(request, until=self._runs_on)
            if isinstance(error, NotAsked):
                self.lose("the time was up")
                return
            self.asked += 1
            if self._took(label, request, heard, error):
                self.room = self.shares.more(self.room)
                label = f"{purpose}, more"
            elif not self.ended:
                failures += 1
                label = f"{purpose}, again"
                self.model = next_model(self.model, self.models)
                self._may_retry(failures)

    def lose(self, reason: str) -> None:
        """There is no text; why."""
        self.state, self.reason = ("cut" if self.kept else "lost"), reason

    def _runs_on(self, text: str) -> bool:
        tail = text[-TAIL:]
        return run_on(tail, self.point.number) < len(tail.rstrip())

    def _took(
        self, label: str, request: Request, heard: Completion, error: Exception | None
    ) -> bool:
        """Take what a call brought; whether it is to be gone on with.

        `state` is left open where the call failed.
        """
        text = body(heard.text, self.point.number, self.point.text)
        over = run_on(heard.text, self.point.number) < len(heard.text.rstrip())
        finished = error is None and (over or heard.finish_reason == "stop")
        used = text.rstrip() if finished else self._standing(whole(text))
        if error is not None and not isinstance(error, OutOfTime) and not self._worth(used):
            used = ""
        self.calls.note(label, request, heard, used)
        self.kept = joined(self.kept, used)
        if self.said and not self.kept.startswith(self.said):
            self.kept = self.said
        return self._judged(heard, error, used, finished)

    def _judged(
        self, heard: Completion, error: Exception | None, used: str, finished: bool
    ) -> bool:
        """Set the state where there is nothing more to be done; whether it was only cut."""
        self.error = error
        if isinstance(error, OutOfTime):
            self.lose("the time was up")
        elif error is not None:
            self.reason = f"{type(error).__name__}: {error}"
        elif not used and not self.kept:
            self.reason = "nothing was written"
        elif finished:
            self.state = "whole"
            self.shares.give_back(self.room - self.calls.made[-1].completion)
        elif heard.finish_reason == "length" and used and self._may_be_longer:
            return True
        else:
            self.lose("its tokens were spent" if heard.finish_reason != "other" else "it broke off")
        return False

    @property
    def _may_be_longer(self) -> bool:
        return self.goes_on and self.shares.pool >= LEAST

    def _may_retry(self, failures: int) -> None:
        """Leave the state open where it is to be asked again."""
        fatal = isinstance(self.error, BackendError) and not self.error.retryable
        if failures > self.retries or fatal or (self.kept and not self.goes_on):
            self.lose(self.reason)

    def _standing(self, text: str) -> str:
        """Of a text that was cut, at least what was shown of it already."""
        shown = self.said[len(self.kept) :].lstrip() if self.said.startswith(self.kept) else ""
        return text if len(text) >= len(shown) else shown

    def _worth(self, used: str) -> bool:
        """Whether what came before a failure is kept: it was shown, or can be gone on with."""
        shown = len(self.said) > len(self.kept)
        return shown or (self.goes_on and ended(used))
