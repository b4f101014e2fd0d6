"""The engines on which points are timed, and how their seconds are told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks.harness import MODEL, Cost
from benchmarks.sot_fixed import endless, question
from tersely.backends.http import HttpBackend
from tersely.backends.local import LocalBackend
from tersely.contracts import Request, TokenCounter
from tersely.tokens import counter
from tersely.weights import LMPrecision, causal_lm

PRECISIONS: tuple[LMPrecision, ...] = ("float32", "bfloat16", "int8")
BRANCHES = 16
LEAST = 1e-4
"""Seconds of any work: the CPU seconds of other processes are told in hundredths."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A backend, what it is called, and the CPU seconds it has taken so far.

    Where nobody knows those (`cpu` is None), seconds are those of the clock. `forget` makes it
    forget what it has read. `count` counts tokens as the engine does, as far as is known.
    """

    name: str
    backend: Any
    count: TokenCounter
    cpu: Callable[[], float] | None
    forget: Callable[[], None] = lambda: None

    @property
    def unit(self) -> str:
        """What its seconds are."""
        return "CPU s" if self.cpu else "wall s"

    def cost(self, work: Callable[[], object]) -> Cost:
        """The seconds of some work, by its unit and by the clock, with nothing read before."""
        self.forget()
        now = self.cpu or perf_counter
        spent, wall = now(), perf_counter()
        work()
        return max(now() - spent, LEAST), perf_counter() - wall


@contextmanager
def engines(url: str, model: str, pid: int | None, *, quick: bool) -> Iterator[list[Engine]]:
    """A server's engine where there is a URL, else the embedded one in each precision."""
    if url:
        yield [served(url, model, pid)]
        return
    with ExitStack() as stack:
        found = []
        for precision in ("bfloat16",) if quick else PRECISIONS:
            lm = causal_lm(model or MODEL, precision=precision)
            stack.enter_context(endless(lm))
            on_cpu = lm.device.type == "cpu"
            found.append(embedded(model or MODEL, precision, on_cpu=on_cpu))
        yield found


def embedded(model: str, precision: LMPrecision, *, on_cpu: bool) -> Engine:
    """The engine of this process; on a GPU, CPU seconds would tell nothing.

    It guesses no tokens: a text that must not end repeats itself, and is foretold too well.
    """
    backend = LocalBackend(model=model, precision=precision, batch_size=BRANCHES, lookup=0)
    nothing = backend.model_copy(update={"prefix_tokens": 0})

    def forget() -> None:
        nothing.complete([Request(prompt=question(0), max_tokens=1)])

    cpu = process_time if on_cpu else None
    return Engine(f"embedded {precision}", backend, counter(model), cpu, forget)


def served(url: str, model: str, pid: int | None) -> Engine:
    """A server; it is asked not to end its answers early."""
    settings: dict[str, Any] = {"base_url": url, "model": model, "parallel": BRANCHES}
    backend = HttpBackend(**settings, extra={"ignore_eos": True}, retries=0).recognised()
    cpu = (lambda: process_seconds(pid)) if pid else None
    return Engine(f"{backend.engine}, {model}", backend, counter(model), cpu)


def process_seconds(pid: int) -> float:
    """CPU seconds of a process and of all below it. Raises OSError when there is none."""
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        number = int(path.parent.name)
        parents[number] = int(fields[1])
        spent[number] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    if pid not in spent:
        raise ProcessLookupError(f"no process has the id {pid}")
    return sum(seconds for one, seconds in spent.items() if _below(one, pid, parents))


def _below(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid and pid != root:
        pid = parents.get(pid, 0)
    return pid == root
