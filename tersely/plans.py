"""Ways of asking that take several calls, and what they say to whoever carries them out.

A plan is a generator. It does no I/O: it yields what it wants done and is sent what came of it.
The helpers here do one of both and give the result its type.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tersely.contracts import Backend, Chunk, Completion, Context, Request
from tersely.errors import StageError
from tersely.retrieval import Passage

Until = Callable[[str], bool]
"""Whether an answer, as far as it came, is long enough."""

LONGEST_TOKEN = 32
"""Characters of an answer for each token asked for, after which it is broken off: a backend that
does not keep `max_tokens` must not talk for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Ask one request and listen while the answer is made.

    It is broken off as soon as `until` says so. What is said `aloud` is shown to the caller as it
    comes.
    """

    request: Request
    until: Until | None = None
    aloud: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Ask several requests for one answer; `weights` add up to 1 (see `contracts.Mixing`)."""

    requests: tuple[Request, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Look for passages."""

    question: str
    k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Begin to ask a request beside whatever is under way; `branch` is the plan's name for it.

    It is broken off as soon as `until` says so, as in `Listen`.
    """

    branch: int
    request: Request
    until: Until | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hear:
    """Wait for the next piece of any branch, at most up to `deadline` (of `time.monotonic`)."""

    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Break a branch off: nothing more is made of it, and nothing more is heard."""

    branch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened on a branch: a piece came, it ended, or it failed.

    The last piece carries the whole completion, and after it or an `error` nothing more comes.
    `branch` is None when the deadline passed, or when no branch is under way.
    """

    branch: int | None = None
    text: str = ""
    completion: Completion | None = None
    error: Exception | None = None


Step = Sequence[Request] | Listen | Mix | Search | Fork | Hear | Drop | Chunk
"""Requests to answer side by side, or one of the above; a Chunk is shown to the caller."""

Reply = Sequence[Completion] | Completion | Sequence[Passage] | Event | None

Steps = Generator[Step, Reply, Completion]
"""A conversation with a backend and a searcher, that returns the answer."""


@runtime_checkable
class Plan(Protocol):
    """A way of asking that takes several calls. It does no I/O itself."""

    def steps(self, request: Request, context: Context, /) -> Steps: ...


def ask(requests: Sequence[Request]) -> Generator[Step, Reply, list[Completion]]:
    """The answers to some requests, in their order."""
    found = yield list(requests)
    if not isinstance(found, Sequence) or not all(isinstance(one, Completion) for one in found):
        raise StageError(f"a plan asked {len(requests)} requests and was sent {found!r}")
    return [one for one in found if isinstance(one, Completion)]


def listen(
    request: Request, *, until: Until | None = None, aloud: bool = False
) -> Generator[Step, Reply, Completion]:
    """The answer to one request, or its beginning up to where `until` was content."""
    return _completion((yield Listen(request=request, until=until, aloud=aloud)))


def mix(
    requests: Sequence[Request], weights: Sequence[float]
) -> Generator[Step, Reply, Completion]:
    """One answer to several requests."""
    return _completion((yield Mix(requests=tuple(requests), weights=tuple(weights))))


def search(question: str, k: int) -> Generator[Step, Reply, list[Passage]]:
    """The best passages for a question."""
    found = yield Search(question=question, k=k)
    if not isinstance(found, Sequence):
        raise StageError(f"a plan searched for {question!r} and was sent {found!r}")
    return [one for one in found if isinstance(one, Passage)]


def fork(
    branch: int, request: Request, *, until: Until | None = None
) -> Generator[Step, Reply, None]:
    """Begin to ask a request beside whatever is under way."""
    yield Fork(branch=branch, request=request, until=until)


def hear(deadline: float | None = None) -> Generator[Step, Reply, Event]:
    """The next thing that happens on any branch."""
    found = yield Hear(deadline=deadline)
    if not isinstance(found, Event):
        raise StageError(f"a plan waited for its branches and was sent {found!r}")
    return found


def drop(branch: int) -> Generator[Step, Reply, None]:
    """Break a branch off."""
    yield Drop(branch=branch)


def say(text: str) -> Generator[Step, Reply, None]:
    """Show a piece of the answer to the caller."""
    yield Chunk(text=text)


def _completion(found: Reply) -> Completion:
    if not isinstance(found, Completion):
        raise StageError(f"a plan listened to one answer and was sent {found!r}")
    return found


def asked_together(plans: Sequence[Steps], backend: Backend) -> list[Completion]:
    """Carry out plans that only ask, all side by side: what they want asked is asked in one call.

    For a stage, which has a backend and no driver. What plans show the caller is not shown. An
    error of the backend is raised here and closes them all. Raises StageError for a plan that
    does more than ask.
    """
    replies: dict[int, Reply] = dict.fromkeys(range(len(plans)))
    found: dict[int, Completion] = {}
    try:
        while replies:
            wanted: dict[int, Sequence[Request]] = {}
            for i, reply in replies.items():
                try:
                    wanted[i] = _wanted(plans[i], reply)
                except StopIteration as done:
                    found[i] = done.value
            asked = [one for some in wanted.values() for one in some]
            heard = iter(backend.complete(asked) if asked else ())
            replies = {i: [next(heard) for _ in some] for i, some in wanted.items()}
    finally:
        for plan in plans:
            plan.close()
    return [found[i] for i in range(len(plans))]


def _wanted(plan: Steps, reply: Reply) -> Sequence[Request]:
    """The requests that a plan wants answered next."""
    step = plan.send(reply)
    while isinstance(step, Chunk):
        step = next(plan)
    if not isinstance(step, Sequence):
        raise StageError(f"a stage only asks, and its plan wanted {type(step).__name__}")
    return step
