"""How often a model writes a usable skeleton, and what the plan does where it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import regex
from rich.progress import track

from benchmarks.harness import MODEL, Row, mean_interval, read_lines, show
from benchmarks.sot_kept import Found, Kept
from tersely.account import SotAnswer
from tersely.backends.scripted import ScriptedBackend
from tersely.contracts import Backend, Capability, Completion, Context, Request
from tersely.lexical import terms_of
from tersely.middleware.drive import drive
from tersely.plans import Fork
from tersely.prompt import Prompt, Segment
from tersely.sot.grammar import grammar
from tersely.sot.plan_sot import Sot
from tersely.sot.templates import CHAT, Layout
from tersely.tokens import counter

FILE = Path("sot", "vicuna80_question.jsonl")
"""Vicuna's questions (Apache-2.0), in the folder of evaluation sets."""

MOST, TOKENS = 10, 160
FEWEST, LONGEST, DISTINCT = 3, 10, 0.8
"""Points at least; words of a point at most; the share of points that differ."""

PENALTY = 1.15
TARGET = 0.9
POINT = "This is what there is to say on it. It has two sentences."
LINE = regex.compile(r"(\d+)[.)][ \t]+(\S.*)")

FORM = grammar(MOST)
"""The plan's own grammar: a list of three to ten lines, of three to six words each."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a skeleton is asked for, what a backend must be able to do for it, and its beginning."""

    name: str
    needs: frozenset[Capability]
    ask: Callable[[Request, Backend], Request]
    opening: str = ""


def main_rows(
    backend: Backend, model: str, data: Path, kept: Kept, *, quick: bool
) -> dict[str, Any]:
    """Print the table; what goes into the file."""
    asked = questions(data)[: 4 if quick else None]
    rows: list[Row] = []
    for way in track(WAYS, "sot, skeletons"):
        if missing := way.needs - backend.capabilities:
            rows.append(_absent(way, missing))
            continue
        found = kept.once(way.name, partial(_written, way, backend, asked))
        rows.append(_row(way, asked, found))
    show(f"{model}: skeletons of {len(asked)} questions", [_shown(row) for row in rows])
    return {"model": model, "target": TARGET, "rows": rows}


def questions(data: Path) -> list[tuple[str, str]]:
    """Categories and questions, one of each category in turn."""
    found: dict[str, list[str]] = {}
    for row in read_lines(data / FILE):
        found.setdefault(row["category"], []).append(row["turns"][0])
    turns = range(max(map(len, found.values())))
    return [(kind, own[i]) for i in turns for kind, own in found.items() if i < len(own)]


def asking(question: str, tokens: int = 400) -> Request:
    """A question as a user asks it."""
    turn = Segment(text=question, kind="question", locked=True, path=("question",))
    return Request(prompt=Prompt((turn,), question, turns=1), max_tokens=tokens)


def usable(text: str, prompt: str, *, stopped: bool) -> str:
    """What is wrong with a skeleton, or "".

    It is usable with 3 to 10 points, numbered from 1 and nothing between them, each short, hardly
    one said twice, none taken from the prompt, and ended by the model itself.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [LINE.fullmatch(line) for line in lines]
    points = [one[2] for one in found if one]
    numbers = [int(one[1]) for one in found if one]
    if len(points) < len(lines) or numbers != [*range(1, len(points) + 1)]:
        return "not numbered"
    if not FEWEST <= len(points) <= MOST:
        return "too few points" if len(points) < FEWEST else "too many points"
    if any(len(point.split()) > LONGEST for point in points):
        return "long points"
    if len({tuple(sorted(set(terms_of(point)))) for point in points}) < DISTINCT * len(points):
        return "said twice"
    if any(len(point.split()) >= FEWEST and point.casefold() in prompt for point in points):
        return "copied from the prompt"
    return "" if stopped else "did not stop"


def outline(request: Request, backend: Backend | None, *, goes_on: bool) -> Request:
    """The prompt that the plan has for a skeleton, without what it adds where a backend can."""
    layout = Layout(request, CHAT, goes_on=goes_on)
    return replace(layout.outline(MOST), max_tokens=TOKENS)


def planned(request: Request, backend: Backend) -> Request:
    """The call by which the plan itself begins on this backend."""
    context = Context(count=counter(MODEL), backend=backend)
    steps = Sot(gate="off", items=False, points=MOST).steps(request, context)
    try:
        step = next(steps)
        while not isinstance(step, Fork):
            step = steps.send(None)
        return step.request
    finally:
        steps.close()


def _formed(request: Request, backend: Backend, penalty: float = 1.0) -> Request:
    asked = outline(request, backend, goes_on=False)
    return replace(asked, grammar=FORM, repetition_penalty=penalty)


WAYS = (
    Way("free", frozenset(), partial(outline, goes_on=False)),
    Way("prefill", frozenset({"prefill"}), partial(outline, goes_on=True), CHAT.opening),
    Way("grammar", frozenset({"grammar"}), _formed),
    Way(
        f"grammar, penalty {PENALTY}",
        frozenset({"grammar", "repetition_penalty"}),
        partial(_formed, penalty=PENALTY),
    ),
    Way("as the plan asks", frozenset(), planned),
)


def _written(way: Way, backend: Backend, asked: Sequence[tuple[str, str]]) -> Found:
    """The skeletons that the model writes."""
    calls = [way.ask(asking(question), backend) for _, question in asked]
    made = backend.complete(calls)
    return {"skeletons": [_told(*pair) for pair in zip(calls, made, strict=True)]}


def _told(call: Request, made: Completion) -> Found:
    last = call.prompt.segments[-1]
    opening = last.text if last.role == "assistant" else ""
    return {
        "text": made.text,
        "opening": opening,
        "wrong": usable(
            opening + made.text, call.prompt.text.casefold(), stopped=made.finish_reason == "stop"
        ),
    }


def _row(way: Way, asked: Sequence[tuple[str, str]], found: Found) -> Row:
    told: Sequence[Mapping[str, str]] = found["skeletons"]
    pairs = [(q, one) for (_, q), one in zip(asked, told, strict=True) if one["wrong"]]
    answers = [taken(question, one["text"], one["opening"]) for question, one in pairs]
    plain = [answer for answer in answers if answer.account.route == "plain"]
    return {
        "way": way.name,
        "n": len(told),
        "usable": mean_interval([float(not one["wrong"]) for one in told]),
        "not usable": len(pairs),
        "of them, plain": len(plain),
        "by their points": len(answers) - len(plain),
        "wrong": dict(Counter(one["wrong"] for _, one in pairs).most_common()),
        "why plain": dict(Counter(one.account.notes[-1] for one in plain).most_common(3)),
    }


def taken(question: str, text: str, opening: str) -> SotAnswer:
    """What the plan does with a skeleton; points and plain answers are written by nobody."""
    can: frozenset[Capability] = frozenset({"parallel", "stream"})
    first = [True]

    def answer(request: Request) -> str:
        return text if first and first.pop() else POINT

    backend = ScriptedBackend(answer, capabilities=can | ({"prefill"} if opening else set()))
    context = Context(count=counter(MODEL), backend=backend)
    done = drive(Sot(gate="off", items=False).steps(asking(question), context), backend)
    if not isinstance(done, SotAnswer):
        raise TypeError(f"the plan gave {done!r}")
    return done


def _absent(way: Way, missing: frozenset[Capability]) -> Row:
    return {"way": way.name, "not available": sorted(missing)}


def _shown(row: Row) -> Row:
    """A row as it is printed; the file has it all."""
    if "not available" in row:
        lacks = ", ".join(row["not available"])
        return {
            **dict.fromkeys(_COLUMNS, ""),
            "way": row["way"],
            "wrong": f"not available: {lacks}",
        }
    told = ", ".join(f"{what} {n}" for what, n in row["wrong"].items())
    why = ", ".join(f"{what} ({n})" for what, n in row["why plain"].items())
    return {**{name: row[name] for name in _COLUMNS[:-2]}, "wrong": told, "why plain": why}


_COLUMNS = (
    *("way", "n", "usable", "not usable", "of them, plain", "by their points"),
    *("wrong", "why plain"),
)
