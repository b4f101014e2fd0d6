"""Points side by side beside one answer of as many tokens, on one engine at fixed lengths.

Rows are kept as soon as they are measured, so that the work can be stopped and gone on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any

from rich.progress import track

from benchmarks.harness import Cost
from benchmarks.sot_engines import Engine
from benchmarks.sot_fixed import Fixed, checked, question
from benchmarks.sot_kept import Found, Kept
from benchmarks.sot_limits import Job, unread
from tersely.contracts import Context, Request
from tersely.middleware.drive import stream
from tersely.prompt import Prompt, Segment
from tersely.sot.plan_sot import Sot

SKELETON = 36
JOBS = tuple(
    Job(points=points, tokens=tokens, skeleton=SKELETON)
    for tokens in (80, 20)
    for points in (6, 3, 10)
)
MAIN = JOBS[0]
UNEVEN = replace(MAIN, parts=(0.5, 0.7, 0.9, 1.1, 1.3, 1.5))
"""As answers are: not every point is as long. Their order changes from turn to turn."""

QUICK = Job(points=3, tokens=24, skeleton=18)
TURNS, MAIN_TURNS = 3, 4
"""How often a job is measured; the main one more often."""

STEPS = (1, 2, 4, 6, 8, 16)
SHORT, LONG = 4, 36
"""Tokens of the answers whose difference tells what a step costs."""

BRIEF, WORDY = 20, 100
"""Lines of the prompts whose difference tells what reading costs."""

PLAIN, PIPED, WHOLE, ALONE = "one answer", "piped", "whole", "one after another"
WAYS: dict[str, dict[str, Any]] = {
    PIPED: {"launch": "piped"},
    WHOLE: {"launch": "whole"},
    ALONE: {"launch": "whole", "at_once": 1},
}

CURVE, READING = "steps", "reading"

Key = tuple[str, str, int]
"""Engine, what was measured, and the turn."""

_salts = count(1)


@dataclass(frozen=True, slots=True)
class Turn:
    """What was measured of one engine in one turn, all of it next to each other.

    `costs` are seconds by the engine's unit and by the clock; `facts` are numbers of tokens.
    """

    engine: str
    what: str
    turn: int
    unit: str
    costs: dict[str, Cost]
    facts: dict[str, float]


def measured(engines: Sequence[Engine], kept: Kept, *, quick: bool) -> list[Turn]:
    """All turns of these engines: those that were kept, and what was still to be measured."""
    found = []
    for (engine, what, turn), measure in track([*work(engines, quick=quick)], "sot, time"):
        row = kept.once(f"{engine}, {what}, {turn}", partial(_row, measure))
        costs = {way: (float(one), float(wall)) for way, (one, wall) in row["costs"].items()}
        found.append(Turn(engine, what, turn, row["unit"], costs, row["facts"]))
    return found


def _row(measure: Callable[[], Turn]) -> Found:
    done = measure()
    return {"unit": done.unit, "costs": done.costs, "facts": done.facts}


def work(engines: Sequence[Engine], *, quick: bool) -> Iterator[tuple[Key, Callable[[], Turn]]]:
    """What is to be measured, turn by turn, so that all engines meet the same machine."""
    jobs = [QUICK] if quick else [*JOBS, UNEVEN]
    for turn in range(1 if quick else MAIN_TURNS):
        for engine in engines:
            yield (engine.name, CURVE, turn), partial(steps, engine, turn, quick=quick)
            yield (engine.name, READING, turn), partial(reading, engine, turn)
            for job in jobs:
                if turn < TURNS or job in (MAIN, UNEVEN):
                    yield (engine.name, job.name, turn), partial(side_by_side, engine, job, turn)


def shuffled(job: Job, turn: int) -> Job:
    """The job of one turn: each point is the longest in one of them."""
    at = turn % job.points
    return replace(job, parts=job.parts[at:] + job.parts[:at])


def side_by_side(engine: Engine, job: Job, turn: int) -> Turn:
    """One job in every way; the order changes from turn to turn."""
    ways = [PLAIN, *WAYS] if job in (MAIN, QUICK) else [PLAIN, PIPED, WHOLE]
    costs: dict[str, Cost] = {}
    facts: dict[str, float] = {}
    for way in ways if turn % 2 == 0 else ways[::-1]:
        prompt = question(next(_salts))
        if way == PLAIN:
            costs[way] = engine.cost(partial(one_answer, engine, job, prompt, facts))
        else:
            fixed = Fixed(engine.backend, shuffled(job, turn))
            costs[way] = engine.cost(partial(by_points, engine, fixed, prompt, way, facts))
            facts[f"read, {way}"] = unshared(fixed)
    return Turn(engine.name, job.name, turn, engine.unit, costs, facts)


def one_answer(engine: Engine, job: Job, prompt: Prompt, facts: dict[str, float]) -> None:
    """As many tokens in one piece."""
    request = Request(prompt=prompt, max_tokens=job.total)
    (made,) = engine.backend.complete([request])
    checked(made, request)
    facts["read, plain"] = float(made.prompt_tokens)


def by_points(
    engine: Engine, fixed: Fixed, prompt: Prompt, way: str, facts: dict[str, float]
) -> None:
    """The plan, as it is. Raises ValueError when it took another way."""
    began = perf_counter()
    job = fixed.job
    plan = Sot(gate="off", items=False, skeleton_tokens=max(job.skeleton, 16), **WAYS[way])
    request = Request(prompt=prompt, max_tokens=128 * job.points)
    context = Context(count=engine.count, backend=fixed)
    for chunk in stream(plan.steps(request, context), fixed):
        if chunk.text:
            facts.setdefault(f"first text, {way}", perf_counter() - began)
    if len(fixed.asked) != job.points + 1:
        raise ValueError(f"{job.name} took {len(fixed.asked)} calls, not {job.points + 1}")


def unshared(fixed: Fixed) -> float:
    """Tokens of the prompts that none before them begins with."""
    texts = [request.prompt.text for request in fixed.asked]
    return fixed.read * unread(texts) / max(sum(map(len, texts)), 1)


def steps(engine: Engine, turn: int, *, quick: bool) -> Turn:
    """Answers of two lengths, so many at once: what is between them is steps alone."""
    costs: dict[str, Cost] = {}
    sizes, long = (STEPS[:3], 20) if quick else (STEPS, LONG)
    for branches in sizes if turn % 2 == 0 else sizes[::-1]:
        for tokens in (SHORT, long):
            requests = [_talk(f"Part {i}", BRIEF, tokens) for i in range(branches)]
            costs[f"{branches}, {tokens}"] = engine.cost(partial(_answers, engine, requests))
    return Turn(engine.name, CURVE, turn, engine.unit, costs, {"tokens": long - SHORT})


def reading(engine: Engine, turn: int) -> Turn:
    """Prompts of two lengths."""
    costs: dict[str, Cost] = {}
    facts: dict[str, float] = {}
    for lines in (BRIEF, WORDY):
        request = _talk("Part", lines, 1)
        (made,) = engine.backend.complete([request])
        facts[str(lines)] = float(made.prompt_tokens) or 8.0 * lines
        again = _talk("Part", lines, 1)
        costs[str(lines)] = engine.cost(partial(_answers, engine, [again]))
    return Turn(engine.name, READING, turn, engine.unit, costs, facts)


def _answers(engine: Engine, requests: Sequence[Request]) -> None:
    for made, request in zip(engine.backend.complete(requests), requests, strict=True):
        checked(made, request)


def _talk(name: str, lines: int, tokens: int) -> Request:
    """A prompt of some lines that begins as none before."""
    told = " ".join(f"{name} has a river and {i} stones." for i in range(lines))
    text = f"{next(_salts):05d}: {told}"
    return Request(prompt=Prompt((Segment(text=text),), text, turns=1), max_tokens=tokens)
