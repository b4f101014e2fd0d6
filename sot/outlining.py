"""Have the skeleton of an answer written, and read it while it comes."""

from __future__ import annotations

from dataclasses import replace

from tersely.errors import OutOfTime
from tersely.plans import Until
from tersely.sot.branching import NotAsked, Program, outcome
from tersely.sot.cutting import joined
from tersely.sot.run import FEWEST, TRIES, Run
from tersely.sot.skeleton import Skeleton

UNENDED = "the skeleton did not end within its tokens"


def outlined(run: Run, tokens: int) -> Program:
    """The program that has the skeleton written. It returns why it could not, or ""."""
    reason = ""
    for attempt in range(TRIES):
        request = replace(run.layout.outline(run.skeleton.most), max_tokens=tokens)
        run.skeleton = _new(run)
        purpose = "skeleton, again" if attempt else "skeleton"
        heard, error = yield from outcome(request, until=_full(run))
        if not isinstance(error, NotAsked):
            run.calls.note(purpose, request, heard, None)
        if error is None and heard.finish_reason == "length":
            read(run, heard.text)
            return UNENDED
        if error is None:
            run.skeleton.end(joined(run.layout.opening, heard.text))
            return ""
        read(run, heard.text)
        reason = f"the skeleton broke off ({type(error).__name__}: {error})"
        if len(run.skeleton.points) >= FEWEST or isinstance(error, OutOfTime):
            break
        if attempt + 1 < TRIES:
            _unformed(run, error)
    return reason


def _unformed(run: Run, error: Exception) -> None:
    """Go on without the grammar where a backend that says it takes one has refused."""
    if run.layout.form is not None and not getattr(error, "retryable", False):
        run.layout.form = None
        run.tell(f"the skeleton was asked for again, without a grammar ({error})")


def read(run: Run, text: str) -> None:
    """Read what came of the skeleton so far."""
    run.skeleton.read(joined(run.layout.opening, text))


def _new(run: Run) -> Skeleton:
    return Skeleton(run.skeleton.most, run.skeleton.sieve)


def _full(run: Run) -> Until:
    """Whether a skeleton has all the points that it may."""
    opening = run.layout.opening

    def full(text: str) -> bool:
        skeleton = _new(run)
        skeleton.read(joined(opening, text))
        return skeleton.full

    return full
