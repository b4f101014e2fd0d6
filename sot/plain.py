"""Answer a request as it came, where its points are not written side by side."""

from __future__ import annotations

from collections.abc import Generator

from tersely import plans
from tersely.account import SotAnswer
from tersely.contracts import Completion
from tersely.errors import OutOfTime
from tersely.plans import Reply, Step
from tersely.sot.branching import NotAsked, outcome
from tersely.sot.run import TRIES, Run


def plain(run: Run, reason: str) -> Generator[Step, Reply, SotAnswer]:
    """The answer to the request as it came, shown as it comes. What was begun is dropped.

    Raises what the backend raised, or OutOfTime, when nothing at all could be had.
    """
    run.route = "plain"
    run.tell(reason)
    said, error, heard = "", None, Completion(text="")
    for attempt in range(TRIES):
        branch = run.forks.fork(outcome(run.request))
        while not branch.ended:
            yield from run.forks.step()
            if new := branch.text[len(said) :]:
                said = branch.text
                yield from plans.say(new)
        heard, error = branch.result
        if heard.text.startswith(said) and (rest := heard.text[len(said) :]):
            said = heard.text
            yield from plans.say(rest)
        if not isinstance(error, NotAsked):
            purpose = "plain answer, again" if attempt else "plain answer"
            run.calls.note(purpose, run.request, heard, None)
        if said or isinstance(error, OutOfTime):
            break
    if error is not None and not said:
        raise error
    run.finish = heard.finish_reason
    if error is not None:
        run.tell(f"the plain answer broke off ({type(error).__name__}: {error})")
        run.finish = "length" if isinstance(error, OutOfTime) else "other"
    elif not said.strip():
        run.tell("the plain answer is empty")
    return run.answer(said)
