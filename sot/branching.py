"""Fork an answer into branches and gather them: small programs, written side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tersely import plans
from tersely.contracts import Chunk, Completion, Request
from tersely.errors import ConfigError, OutOfTime, StageError
from tersely.plans import LONGEST_TOKEN, Event, Fork, Listen, Reply, Step, Until

LATE = "the deadline passed before the answer ended"

Program = Generator[Step, Reply, Any]
"""What one branch does: a plan of its own, in as many calls as it takes.

It asks by `plans.ask` and `plans.listen`, or by `outcome`, which raises nothing. What it says is
left in its branch.
"""


class NotAsked(OutOfTime):
    """The deadline passed before a call was begun: it cost nothing."""


def outcome(
    request: Request, *, until: Until | None = None
) -> Generator[Step, Reply, tuple[Completion, Exception | None]]:
    """In a program: an answer as far as it came, and the error that ended it, if one did.

    Past the deadline the error is OutOfTime, or NotAsked where it was not even begun.
    """
    found = yield Fork(branch=0, request=request, until=until)
    if not isinstance(found, Event) or found.completion is None:
        raise StageError("outcome(...) belongs in a program that is forked: see Forks.fork")
    return found.completion, found.error


@dataclass(eq=False, slots=True)
class Branch:
    """One of the programs under way.

    `text` is what came of its present call, `said` what it said. When it has `ended` there is
    its `result`, or the `error` that it raised.
    """

    program: Program
    deadline: float | None = None
    text: str = ""
    said: list[str] = field(default_factory=list)
    ended: bool = False
    result: Any = None
    error: Exception | None = None


@dataclass(eq=False, slots=True)
class _Call:
    """One request of a branch, and the place of its answer among those that it asked for."""

    branch: Branch
    request: Request
    until: Until | None
    texts: list[str] = field(default_factory=list)
    completion: Completion | None = None
    error: Exception | None = None

    @property
    def heard(self) -> Completion:
        """The answer as far as it came."""
        if self.completion is not None:
            return self.completion
        return Completion(text="".join(self.texts), finish_reason="cancelled")


@dataclass(eq=False, slots=True)
class _Asked:
    """What a branch waits for, and the step by which it asked."""

    step: Step
    calls: list[_Call]

    @property
    def ended(self) -> bool:
        return all(one.completion is not None or one.error is not None for one in self.calls)


class Forks:
    """Branches under way, at most `at_once` calls at a time, none past the deadline.

    `fork` adds one, `step` waits until something happens to some, `gather` until they have ended.
    What fails ends its own branch alone. A plan has one of these at a time. Raises ConfigError
    when `at_once` is not positive.
    """

    def __init__(self, *, at_once: int = 8, deadline: float | None = None) -> None:
        if at_once < 1:
            raise ConfigError(f"at_once is how many calls may be under way, was {at_once}")
        self.at_once, self.deadline, self.late = at_once, deadline, False
        self._numbers = count()
        self._new: deque[Branch] = deque()
        self._asked: dict[Branch, _Asked] = {}
        self._waiting: deque[_Call] = deque()
        self._running: dict[int, _Call] = {}

    def fork(self, what: Request | Program, *, deadline: float | None = None) -> Branch:
        """Add a branch; it begins with the next step.

        A request is a program that listens to its answer. Past a `deadline` of the branch's own
        its call is broken off, and it goes on with what came.
        """
        program = plans.listen(what) if isinstance(what, Request) else what
        branch = Branch(program, deadline)
        self._new.append(branch)
        return branch

    def step(self) -> Generator[Step, Reply, list[Branch]]:
        """Wait until something happens; the branches to which it did. None: all have ended."""
        begun = [*self._new]
        while self._new:
            yield from self._carry(self._new.popleft(), None)
        if ended := [branch for branch in begun if branch.ended]:
            return ended
        yield from self._launch()
        if not self._running:
            return []
        limit = _soonest(self.deadline, self._running.values())
        event = yield from plans.hear(limit)
        if event.branch is None:
            return (yield from self._passed(limit))
        return (yield from self._heard(event.branch, self._running[event.branch], event))

    def gather(
        self, branches: Iterable[Branch] | None = None
    ) -> Generator[Step, Reply, list[Branch]]:
        """Wait until these branches have ended, or all."""
        wanted = None if branches is None else list(branches)
        while wanted is None or not all(branch.ended for branch in wanted):
            if not (yield from self.step()):
                break
        return wanted or []

    def drop(self, branch: Branch) -> Generator[Step, Reply, None]:
        """Break a branch off: nothing more is made of it."""
        self._new = deque(one for one in self._new if one is not branch)
        self._waiting = deque(one for one in self._waiting if one.branch is not branch)
        for number in [n for n, one in self._running.items() if one.branch is branch]:
            del self._running[number]
            yield from plans.drop(number)
        self._asked.pop(branch, None)
        branch.ended = True
        branch.program.close()

    def _launch(self) -> Generator[Step, Reply, None]:
        """Begin as many of the waiting calls as may be under way."""
        while self._waiting and len(self._running) < self.at_once:
            call, number = self._waiting.popleft(), next(self._numbers)
            self._running[number] = call
            yield from plans.fork(number, call.request, until=_bounded(call.request, call.until))

    def _heard(
        self, number: int, call: _Call, event: Event
    ) -> Generator[Step, Reply, list[Branch]]:
        """Something came of a call: after its last answer a branch goes on."""
        call.branch.text += event.text
        call.texts.append(event.text)
        if event.completion is not None or event.error is not None:
            del self._running[number]
            call.completion, call.error = event.completion, event.error
            yield from self._told(call.branch)
        return [call.branch]

    def _passed(self, limit: float | None) -> Generator[Step, Reply, list[Branch]]:
        """A deadline has passed: what should have ended by then is broken off.

        Without any deadline nobody knows of the calls any more: they have failed.
        """
        self.late = self.late or (limit is not None and limit == self.deadline)
        all_ = self.late or limit is None
        over = {n: one for n, one in self._running.items() if all_ or one.branch.deadline == limit}
        error = OutOfTime(LATE) if limit is not None else StageError("the driver lost the branch")
        for number in over:
            del self._running[number]
            yield from plans.drop(number)
        calls = [_failed(call, error) for call in over.values()]
        if self.late:
            calls += [_failed(call, NotAsked(LATE)) for call in self._waiting]
            self._waiting.clear()
        branches = list(dict.fromkeys(call.branch for call in calls))
        for branch in branches:
            yield from self._told(branch)
        return branches

    def _told(self, branch: Branch) -> Generator[Step, Reply, None]:
        """Let a branch go on, if all that it asked for has ended."""
        asked = self._asked.get(branch)
        if asked is not None and asked.ended:
            del self._asked[branch]
            yield from self._carry(branch, asked)

    def _carry(self, branch: Branch, asked: _Asked | None) -> Generator[Step, Reply, None]:
        """Carry a program on until it waits for answers, or ends."""
        try:
            step = _replied(branch.program, asked)
            while True:
                if isinstance(step, plans.Search | plans.Mix):
                    try:
                        reply = yield step
                    except Exception as error:
                        step = branch.program.throw(error)
                    else:
                        step = branch.program.send(reply)
                elif isinstance(step, Chunk):
                    branch.said.append(step.text)
                    step = branch.program.send(None)
                elif self._asks(branch, asked := _asked(branch, step)):
                    return
                else:
                    step = _replied(branch.program, asked)
        except StopIteration as done:
            branch.ended, branch.result = True, done.value
        except Exception as error:
            branch.ended, branch.error = True, error
            branch.program.close()

    def _asks(self, branch: Branch, asked: _Asked) -> bool:
        """Whether a branch now waits for answers. Past the deadline it is told at once."""
        branch.text = ""
        if self.late:
            asked.calls = [_failed(call, NotAsked(LATE)) for call in asked.calls]
        if asked.ended:
            return False
        self._asked[branch] = asked
        self._waiting.extend(asked.calls)
        return True


def gather(
    what: Iterable[Request | Program], *, at_once: int = 8, deadline: float | None = None
) -> Generator[Step, Reply, list[Branch]]:
    """Carry out requests and programs side by side; their branches, in the same order, ended.

    Read the `result` of each, or its `error`. Raises ConfigError when `at_once` is not positive.
    """
    forks = Forks(at_once=at_once, deadline=deadline)
    return (yield from forks.gather([forks.fork(one) for one in what]))


def _soonest(deadline: float | None, calls: Iterable[_Call]) -> float | None:
    """The first moment at which a call is to be broken off."""
    limits = [deadline, *(call.branch.deadline for call in calls)]
    return min((limit for limit in limits if limit is not None), default=None)


def _bounded(request: Request, until: Until | None) -> Until:
    """Enough also when a backend does not keep to `max_tokens`."""
    longest = LONGEST_TOKEN * request.max_tokens

    def enough(text: str) -> bool:
        return len(text) > longest or (until is not None and until(text))

    return enough


def _failed(call: _Call, error: Exception) -> _Call:
    call.error = error
    return call


def _asked(branch: Branch, step: Step) -> _Asked:
    """The calls that a step asks for. Raises StageError when it is none of a branch's."""
    if isinstance(step, Listen | Fork):
        return _Asked(step, [_Call(branch, step.request, step.until)])
    if isinstance(step, Sequence):
        return _Asked(step, [_Call(branch, request, None) for request in step])
    raise StageError(f"a branch can't wait for others ({step!r}): do so in the plan that forks")


def _replied(program: Program, asked: _Asked | None) -> Step:
    """Tell a program what came of its step; what it wants next."""
    if asked is None:
        return next(program)
    errors = [call.error for call in asked.calls if call.error is not None]
    heard = [call.heard for call in asked.calls]
    if isinstance(asked.step, Fork):
        return program.send(Event(branch=0, completion=heard[0], error=next(iter(errors), None)))
    if isinstance(asked.step, Listen):
        if errors and not (isinstance(errors[0], OutOfTime) and heard[0].text):
            return program.throw(errors[0])
        return program.send(heard[0])
    return program.throw(errors[0]) if errors else program.send(heard)
