"""What a fixed prompt costs as a few vectors and as text: first token, decoding, memory.

Everything is measured in turns, in one process on one thread: what is compared meets the same
machine. The full prompt is read anew ("cold"), and gone on from where the engine remembers it
("cached"): the best that prefix caching can give.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.harness import MODEL, Cost, cost_of, in_turns, median_interval, times
from benchmarks.soft_prompts import Fixed
from tersely.backends.batch import Free
from tersely.backends.local import LocalBackend
from tersely.backends.memory import bytes_per_token
from tersely.backends.packing import packed
from tersely.backends.places import together
from tersely.backends.soft_input import places
from tersely.contracts import Request
from tersely.prompt import Prompt, Segment
from tersely.soft import KVPrefix, SoftPrompt
from tersely.weights import LMPrecision, causal_lm

AT_ONCE = 16
TARGETS = {"first token by cold": 0.07, "first token by cached": 0.65, "decode by full": 0.25}
"""The most that each may be of the full prompt's."""

Stands = str | SoftPrompt | KVPrefix | None


def asked(fixed: Fixed, stands: Stands, turn: str, tokens: int) -> Request:
    """A turn after the prompt, or after what stands in its place: a text, vectors, or nothing."""
    system: tuple[Segment, ...] = ()
    if isinstance(stands, str):
        system = (Segment(text=stands, role="system", kind="instruction"),)
    elif stands is not None:
        system = (Segment(text=fixed.text, role="system", kind="soft", soft=stands),)
    prompt = Prompt((*system, Segment(text=turn, role="user", turn=1)), turns=len(system) + 1)
    return Request(prompt=prompt, max_tokens=tokens)


def first_token(fixed: Fixed, soft: KVPrefix, *, quick: bool) -> dict[str, Any]:
    """CPU seconds to the first token, each time after another turn."""
    count = 2 if quick else 7
    cold = _in_turns(fixed, soft, LocalBackend(model=MODEL, prefix_tokens=0), count)
    remembering = LocalBackend(model=MODEL)
    remembering.complete([asked(fixed, fixed.text, "Hello!", 1)])
    cached = _in_turns(fixed, soft, remembering, 2 * count)
    return {
        "n cold": count,
        "first token by cold": times(cold["soft"], cold["full"], 0),
        "n cached": 2 * count,
        "first token by cached": times(cached["soft"], cached["full"], 0),
        "milliseconds, cold": _milliseconds(cold["full"]),
        "milliseconds, cached": _milliseconds(cached["full"]),
        "milliseconds, vectors": _milliseconds(cold["soft"]),
    }


class Endless:
    """Answers to sixteen turns, as the engine decodes them, but none of them ever ends."""

    def __init__(self, fixed: Fixed, stands: Stands, precision: LMPrecision) -> None:
        import torch

        self._lm = causal_lm(MODEL, precision=precision)
        backend = LocalBackend(model=MODEL, precision=precision)
        requests = [asked(fixed, stands, turn, 1) for turn in fixed.held[:AT_ONCE]]
        prompts = [backend.encode(request) for request in requests]
        given = together(places(request, self._lm, MODEL) for request in requests)
        self.held = sum(map(len, prompts))
        self._rows = Free(self._lm)
        with torch.inference_mode(), packed(self._lm):
            self._last = self._rows.enter(prompts, given).argmax(-1)

    def step(self) -> None:
        """Make the next token of each."""
        import torch

        with torch.inference_mode(), packed(self._lm):
            self._last = self._rows.scores(self._last).argmax(-1)


def decoding(
    fixed: Fixed, soft: KVPrefix, precision: LMPrecision, *, quick: bool
) -> dict[str, Any]:
    """CPU seconds of a step that makes a token of 16 answers, and what they hold in memory."""
    steps = 3 if quick else 24
    made = {
        "full": Endless(fixed, fixed.text, precision),
        "soft": Endless(fixed, soft, precision),
    }
    for answers in made.values():
        answers.step()
    costs = in_turns({name: one.step for name, one in made.items()}, dict.fromkeys(made, steps))
    held = {name: one.held + AT_ONCE * steps for name, one in made.items()}
    each = bytes_per_token(causal_lm(MODEL, precision=precision)) / 2**20
    return {
        "precision": precision,
        "n": steps,
        "decode by full": times(costs["soft"], costs["full"], 0),
        "milliseconds, full": _milliseconds(costs["full"]),
        "milliseconds, vectors": _milliseconds(costs["soft"]),
        "KV tokens, full": held["full"],
        "KV tokens, vectors": held["soft"],
        "KV MiB, full": held["full"] * each,
        "KV MiB, vectors": held["soft"] * each,
        "KV by full": held["soft"] / held["full"],
    }


def verdicts(row: dict[str, Any]) -> list[str]:
    """Whether each target that a row tells of is met, or by how much it is missed."""
    found = []
    for name, most in TARGETS.items():
        if name in row:
            over = row[name][0] - most
            told = "met" if over <= 0 else f"missed by {over:.3f}"
            found.append(f"{name} {row[name][0]:.3f}, at most {most}: {told}")
    return found


def _in_turns(
    fixed: Fixed, soft: KVPrefix, backend: LocalBackend, count: int
) -> dict[str, list[Cost]]:
    """Each of both after the same turns, one turn after the other."""
    costs: dict[str, list[Cost]] = {"full": [], "soft": []}
    ways: dict[str, Stands] = {"full": fixed.text, "soft": soft}
    for stands in ways.values():
        backend.complete([asked(fixed, stands, "Hello again!", 1)])
    for i, turn in enumerate(fixed.held[:count]):
        for name in ways if i % 2 else reversed(ways):
            request = asked(fixed, ways[name], turn, 1)
            costs[name].append(cost_of(partial(backend.complete, [request])))
    return costs


def _milliseconds(costs: Sequence[Cost]) -> tuple[float, float, float]:
    return median_interval([1000 * cpu for cpu, _ in costs])
