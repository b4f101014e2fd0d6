"""Carry out a plan, also where there is no backend for it to ask."""

from __future__ import annotations

from tersely.contracts import Completion, Context
from tersely.errors import ConfigError
from tersely.middleware.drive import drive
from tersely.plans import Steps


def carried(steps: Steps, context: Context) -> Completion:
    """Carry out a plan, also where there is no backend for it to ask."""
    if context.backend is not None:
        return drive(steps, context.backend)
    try:
        step = next(steps)
    except StopIteration as done:
        made: Completion = done.value
        return made
    steps.close()
    raise ConfigError(f"history: its writer asks a backend and there is none (it asked {step!r})")
