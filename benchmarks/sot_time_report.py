"""What the turns of `sot_time` come to: curve, limits, break-even, and how the targets are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks import sot_time
from benchmarks.harness import Row, median_interval, show
from benchmarks.sot_limits import Job, Reading, crossing, fewest, piped, whole
from benchmarks.sot_time import ALONE, CURVE, MAIN, PIPED, PLAIN, READING, WHOLE, Turn
from tersely.sot.profile import Profile

TARGETS = {"of one answer": 0.30, "of the limit": 1.15, "piped": 0.10}
SHOWN = ("job", "way", "n", "seconds", "of one answer", "limit", "of the limit", "first text, s")

Interval = tuple[float, float, float]


def told(turns: Sequence[Turn], probed: Mapping[str, Profile]) -> dict[str, Any]:
    """Print all tables; what goes into the file. `probed` is what the gate knows of engines."""
    found: dict[str, Any] = {"targets": TARGETS, "engines": {}}
    for name in dict.fromkeys(one.engine for one in turns):
        own = [one for one in turns if one.engine == name]
        found["engines"][name] = _engine(name, own, probed.get(name))
    found["best one answer"] = _best(turns)
    return found


def _engine(name: str, turns: Sequence[Turn], probe: Profile | None) -> dict[str, Any]:
    unit = turns[0].unit
    engine = curve(name, turns)
    steps = [
        {"branches": n, f"{unit}, ms a step": s * 1e3, "step(n)/step(1)": s / engine.step(1)}
        for n, s in engine.steps.items()
    ]
    show(f"{name}: what a step costs; reading: {engine.prefill * 1e3:.3g} ms a token", steps)
    rows = [row for job in _jobs(turns) for row in _rows(job, turns, engine)]
    show(f"{name}: {unit}", [{column: row[column] for column in SHOWN} for row in rows])
    even = breaking_even(turns, engine, probe)
    show(f"{name}: from where on points side by side pay", even)
    met = _met(rows)
    show(f"{name}: targets", met)
    return {
        "unit": unit,
        "steps": dict(engine.steps),
        "reading": engine.prefill,
        "rows": rows,
        "break-even": even,
        "targets": met,
    }


def curve(name: str, turns: Sequence[Turn]) -> Profile:
    """What was measured of an engine, as the gate keeps it; here all prompts share."""
    found: dict[int, list[float]] = {}
    for one in (turn for turn in turns if turn.what == CURVE):
        costs = {tuple(map(int, key.split(","))): cost[0] for key, cost in one.costs.items()}
        for branches, tokens in costs:
            if tokens != sot_time.SHORT:
                took = costs[branches, tokens] - costs[branches, sot_time.SHORT]
                found.setdefault(branches, []).append(took / one.facts["tokens"])
    steps = {branches: max(median(took), 1e-9) for branches, took in found.items()}
    return Profile(endpoint=name, model="", steps=steps, prefill=_prefill(turns), shared=1.0)


def _prefill(turns: Sequence[Turn]) -> float:
    brief, wordy = str(sot_time.BRIEF), str(sot_time.WORDY)
    each = [
        (one.costs[wordy][0] - one.costs[brief][0]) / (one.facts[wordy] - one.facts[brief])
        for one in turns
        if one.what == READING
    ]
    return max(median(each), 0.0)


def _jobs(turns: Sequence[Turn]) -> list[Job]:
    """The jobs that were measured."""
    names = {one.what for one in turns}
    known = (*sot_time.JOBS, sot_time.UNEVEN, sot_time.QUICK)
    return [job for job in known if job.name in names]


def _rows(job: Job, turns: Sequence[Turn], engine: Profile) -> list[dict[str, Any]]:
    """Every way of a job, beside one answer of the same turn and beside its limit."""
    own = [one for one in turns if one.what == job.name]
    rows = []
    for way in own[0].costs:
        seconds = [one.costs[way][0] for one in own]
        part = median_interval([one.costs[way][0] / one.costs[PLAIN][0] for one in own])
        limit = _limit(job, way, own, engine)
        rows.append(
            {
                "job": job.name,
                "way": way,
                "n": len(own),
                "seconds": median_interval(seconds),
                "of one answer": part,
                "limit": "" if limit is None else limit,
                "of the limit": part[0] / limit if limit is not None and way != PLAIN else "",
                "wall s": median(one.costs[way][1] for one in own),
                "first text, s": _first(own, way),
                "each": seconds,
            }
        )
    return rows


def _first(turns: Sequence[Turn], way: str) -> float | str:
    """Seconds until the caller sees the first text; one answer was not streamed."""
    known = [one.facts[f"first text, {way}"] for one in turns if way != PLAIN]
    return median(known) if known else ""


def _limit(job: Job, way: str, turns: Sequence[Turn], engine: Profile) -> float | None:
    """The least part of one answer's seconds that this way can take."""
    if way in (PLAIN, ALONE):
        return 1.0 if way == PLAIN else None
    best = piped if way == PIPED else whole
    read = _reading(turns, way)
    roads = [best(engine, sot_time.shuffled(job, one.turn), read) for one in turns]
    return median(one.sot / one.plain for one in roads)


def _reading(turns: Sequence[Turn], way: str) -> Reading:
    return Reading(
        plain=median(one.facts["read, plain"] for one in turns),
        sot=median(one.facts[f"read, {way}"] for one in turns),
    )


def breaking_even(turns: Sequence[Turn], engine: Profile, probe: Profile | None) -> list[Row]:
    """Points, and tokens of a point: as the profile predicts them, and as they were seen."""
    main = MAIN if any(one.what == MAIN.name for one in turns) else _jobs(turns)[0]
    read = _reading([one for one in turns if one.what == main.name], WHOLE)
    jobs = [job for job in _jobs(turns) if not job.parts]
    many = [job for job in jobs if job.tokens == main.tokens]
    long = [job for job in jobs if job.points == main.points]
    kinds = (
        (f"points of {main.tokens} tokens", True, [(job.points, job) for job in many]),
        (f"tokens of {main.points} points", False, [(job.tokens, job) for job in long]),
    )
    return [
        {
            "of": name,
            "by the steps": _number(fewest(engine, main, read, points=points)),
            "by the gate's probe": _number(fewest(probe, main, read, points=points))
            if probe
            else "not probed",
            "seen, whole": _seen(turns, sizes, WHOLE),
            "seen, piped": _seen(turns, sizes, PIPED),
        }
        for name, points, sizes in kinds
    ]


def _number(found: int | None) -> int | str:
    return found or "never"


def _seen(turns: Sequence[Turn], sizes: Sequence[tuple[int, Job]], way: str) -> float | str:
    """Where the seconds of both ways meet; below the first size, as the line goes on."""
    won = [
        median(one.costs[PLAIN][0] - one.costs[way][0] for one in turns if one.what == job.name)
        for _, job in sizes
    ]
    found = crossing([float(size) for size, _ in sizes], won)
    return "not seen" if found is None else found


def _met(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """What the main job came to, or the first where that was not measured."""
    name = MAIN.name if any(row["job"] == MAIN.name for row in rows) else rows[0]["job"]
    ways = {row["way"]: row for row in rows if row["job"] == name}
    fast, slow = ways[PIPED], ways[WHOLE]
    gain = median_interval([b / a - 1 for a, b in zip(fast["each"], slow["each"], strict=True)])
    part, limit = TARGETS["of one answer"], TARGETS["of the limit"]
    return [
        _target(f"{name}, piped, of one answer", fast["of one answer"], f"<= {part}"),
        _target(f"{name}, whole, of its limit", slow["of the limit"], f"<= {limit}"),
        _target(f"{name}, piped, of its limit", fast["of the limit"], f"<= {limit}"),
        _target(f"{name}, won by piping", gain, f">= {TARGETS['piped']}"),
        *_uneven(rows),
    ]


def _uneven(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """What piping wins where the last point is not always the longest."""
    ways = {row["way"]: row for row in rows if row["job"] == sot_time.UNEVEN.name}
    if not ways:
        return []
    pairs = zip(ways[PIPED]["each"], ways[WHOLE]["each"], strict=True)
    gain = median_interval([slow / fast - 1 for fast, slow in pairs])
    return [_target(f"{sot_time.UNEVEN.name}, won by piping", gain, f">= {TARGETS['piped']}")]


def _target(what: str, reached: float | Interval, wanted: str) -> Row:
    value = reached[0] if isinstance(reached, tuple) else reached
    sign, _, bound = wanted.partition(" ")
    met = value <= float(bound) if sign == "<=" else value >= float(bound)
    return {"what": what, "reached": reached, "wanted": wanted, "met": "yes" if met else "no"}


def _best(turns: Sequence[Turn]) -> dict[str, Any]:
    """The engine that gives one answer soonest, and how each engine's points stand beside it."""
    name = MAIN.name if any(one.what == MAIN.name for one in turns) else _jobs(turns)[0].name
    own = [one for one in turns if one.what == name]
    names = list(dict.fromkeys(one.engine for one in own))
    plain, points = (
        {n: median(one.costs[way][0] for one in own if one.engine == n) for n in names}
        for way in (PLAIN, PIPED)
    )
    best = min(plain, key=plain.__getitem__)
    rows = [
        {
            "engine": n,
            "one answer": plain[n],
            "piped": points[n],
            "piped, of the best one answer": points[n] / plain[best],
        }
        for n in names
    ]
    show(f"{name}: beside the best engine for one answer, {best}", rows)
    return {"engine": best, "rows": rows}
