"""Answers by points beside answers in one piece: what a judge says, and what can be counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import regex
from rich.progress import track

from benchmarks.harness import Row, mean_interval, show
from benchmarks.sot_judge import judged, outcome, same_letter
from benchmarks.sot_kept import Found, Kept
from benchmarks.sot_skeletons import asking, questions
from tersely.account import SotAnswer
from tersely.contracts import Backend, Context
from tersely.lexical import terms_of
from tersely.middleware.drive import drive
from tersely.sot.cutting import run_on
from tersely.sot.plan_sot import Sot
from tersely.tokens import counter
from tersely.units import split

COUNT, QUICK = 40, 2
"""Questions."""

TOKENS = 400
FEWEST_TERMS = 3
NUMBERED = regex.compile(r"^[ \t]*(?:[*_#]+[ \t]*)?\d{1,2}[.)]", regex.MULTILINE)
WARNING = (
    "The judge is the small model that wrote the answers: its verdicts are a check that all parts"
    " work, and say nothing about quality. For one that can tell: --judge-url, --judge-model."
)


def main_rows(
    backend: Backend, model: str, judge: Backend | None, data: Path, kept: Kept, *, quick: bool
) -> dict[str, Any]:
    """Print the tables; what goes into the file. Without a `judge` the backend judges itself."""
    asked = questions(data)[: QUICK if quick else COUNT]
    rows = [
        kept.once(question, partial(_row, backend, judge or backend, model, question, kind))
        for kind, question in track(asked, "sot, quality")
    ]
    by_points = [row for row in rows if row["route"] != "plain"]
    reasons = Counter(row["notes"][-1] for row in rows if row["route"] == "plain")
    counted = [_counted(f"points ({len(by_points)})", [row["by points"] for row in by_points])]
    counted.append(_counted(f"one piece ({len(rows)})", [row["plain"] for row in rows]))
    show(f"{model}: answers to {len(rows)} questions", [row for row in counted if row["n"]])
    told = _verdicts(by_points)
    show("by points against one piece, in both orders", [told])
    if judge is None:
        print(WARNING)
    return {
        "model": model,
        "warning": WARNING if judge is None else "",
        "questions": len(rows),
        "plain, and why": dict(reasons),
        "counted": counted,
        "judged": told,
    }


def _row(backend: Backend, judge: Backend, model: str, question: str, kind: str) -> Found:
    """One question answered both ways, and judged where the ways differ."""
    request = asking(question, TOKENS)
    context = Context(count=counter(model), backend=backend)
    (plain,) = backend.complete([request])
    done = drive(Sot().steps(request, context), backend)
    if not isinstance(done, SotAnswer):
        raise TypeError(f"the plan gave {done!r}")
    row: Found = {
        "kind": kind,
        "route": done.account.route,
        "notes": done.account.notes,
        "plain": measures(plain.text, context) | {"cut": float(plain.finish_reason == "length")},
        "by points": measures(done.text, context) | of_points(done),
    }
    if done.account.route != "plain":
        row["verdicts"] = judged(judge, question, done.text, plain.text)
    return row


def measures(text: str, context: Context) -> dict[str, float]:
    """What can be counted of any answer."""
    return {"tokens": float(context.count(text)), "said again": said_again(text)}


def of_points(done: SotAnswer) -> dict[str, float]:
    """What can be counted of points: the share that is empty, cut, or runs on into others."""
    points = done.account.points
    made = max(done.account.completion, 1)
    return {
        "points": float(len(points)),
        "empty": _share([not one.text.strip() for one in points]),
        "cut": _share([one.state == "cut" for one in points]),
        "runs on": _share([runs_on(one.text, one.number) for one in points]),
        "thrown away": done.account.wasted / made,
    }


def said_again(text: str) -> float:
    """The share of sentences that were said before, in other words or not, by what they are of."""
    units = split(text, "sentence")
    spans = zip(units.starts.tolist(), units.ends.tolist(), strict=True)
    terms = [tuple(terms_of(text[start:end])) for start, end in spans]
    keys = [key for key in terms if len(key) >= FEWEST_TERMS]
    return 1 - len(set(keys)) / len(keys) if keys else 0.0


def runs_on(text: str, number: int) -> bool:
    """Whether a point goes on with others, or with a list of its own."""
    return run_on(text, number) < len(text.rstrip()) or bool(NUMBERED.search(text))


def _share(found: Sequence[bool]) -> float:
    return fmean(found) if found else 0.0


MEASURES = ("tokens", "said again", "points", "empty", "cut", "runs on", "thrown away")


def _counted(name: str, found: Sequence[Mapping[str, float]]) -> Row:
    each = {m: [one[m] for one in found if m in one] for m in MEASURES}
    means = {m: mean_interval(values) if values else "" for m, values in each.items()}
    return {"answers": name, "n": len(found), **means}


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> Row:
    """Wins, ties and losses; what could not be read is left out of the shares."""
    pairs = [tuple(row["verdicts"]) for row in rows]
    outcomes = [outcome(*pair) for pair in pairs]
    read = [one for one in outcomes if one != "unread"]
    shares = {
        name: mean_interval([float(one == name) for one in read]) if read else ""
        for name in ("win", "tie", "loss")
    }
    unread = len(outcomes) - len(read)
    return {"n": len(read), **shares, "unread": unread, "same place twice": same_letter(pairs)}
