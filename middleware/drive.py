"""Carry out plans: the only place where their steps meet a backend, sync or async."""

from __future__ import annotations

from tersely.contracts import Backend, Completion, Steps


def drive(steps: Steps, backend: Backend) -> Completion:
    """Carry out a plan and return its answer.

    An error of the backend is raised inside the plan, at the step that asked, so that the plan
    may go on without; what it does not handle is raised here. The plan is closed in any case.
    """
    try:
        requests = next(steps)
        while True:
            try:
                completions = backend.complete(requests)
            except Exception as error:
                requests = steps.throw(error)
            else:
                requests = steps.send(completions)
    except StopIteration as done:
        answer: Completion = done.value
        return answer
    finally:
        steps.close()


async def adrive(steps: Steps, backend: Backend) -> Completion:
    """Carry out a plan without blocking; as `drive`. Cancelling closes the plan."""
    try:
        requests = next(steps)
        while True:
            try:
                completions = await backend.acomplete(requests)
            except Exception as error:
                requests = steps.throw(error)
            else:
                requests = steps.send(completions)
    except StopIteration as done:
        answer: Completion = done.value
        return answer
    finally:
        steps.close()
