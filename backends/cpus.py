"""How many threads a model may use here."""

from __future__ import annotations

import os
from contextlib import suppress

from tersely.backends.memory import CGROUP


def threads() -> int:
    """As many as there are cores for this process; one at least.

    That is by its affinity, by a container's quota and by `OMP_NUM_THREADS`, whichever is least:
    threads that wait for one another in a loop are ruinous where they share a core.
    """
    return max(1, min(_cores(), _quota(), _wished()))


def _cores() -> int:
    """The cores that this process may run on."""
    with suppress(AttributeError, OSError):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> int:
    """The whole cores' time that a container is given."""
    with suppress(OSError, ValueError):
        given, period = (CGROUP / "cpu.max").read_text().split()
        return int(given) // int(period)  # "max" where there is no limit
    return 2**31


def _wished() -> int:
    with suppress(KeyError, ValueError):
        return int(os.environ["OMP_NUM_THREADS"]) or 1
    return 2**31
