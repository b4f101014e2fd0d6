"""What the plans of retrieval spend, save and answer, beside no retrieval and every passage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.harness import MODEL, mean_interval, options, save, show
from benchmarks.pruning_sets import Item, holds, items
from benchmarks.reader import Reader, exact, overlap

SETS = ("nq", "hotpot")
COUNT, QUICK = 8, 1
ANSWER = 24
"""Tokens of an answer."""

SAMPLES = 8
"""Answers on which `theta` is found."""

SHORT = "\n\nAnswer with a few words."
NONE, ALL = "no retrieval", "every passage"
SHOWN = (
    *("way", "prompt", "made", "calls", "saved"),
    *("in evidence", "in answer", "F1", "likelihood", "CPU s"),
)
"""What is shown; the file holds more."""

PLANS: dict[str, dict[str, Any]] = {
    "rag": {},
    "flare": {},
    "self_rag": {},
    "two_hop": {},
    "replug": {},
}


@dataclass(frozen=True, slots=True)
class Run:
    """One question answered in one way."""

    text: str
    evidence: str
    prompt: int
    completion: int
    wasted: int
    calls: int
    searches: int
    saved: int
    seconds: float
    notes: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    if given.data is None:
        print("rag_active: needs the folder of public evaluation sets: --data DIR")
        return
    reader = Reader(MODEL)
    rows: list[dict[str, Any]] = []
    for name in SETS:
        asked = items(name, given.data, "test", QUICK if given.quick else COUNT)
        held = items(name, given.data, "dev", 1 if given.quick else SAMPLES)
        theta = calibrated(held)
        runs = {way: [answered(way, item, theta) for item in asked] for way in (NONE, ALL, *PLANS)}
        found = [told(name, way, asked, done, reader) for way, done in runs.items()]
        title = f"{name}, {len(asked)} questions; tokens of one question, theta={theta:.2f}"
        show(title, [{column: row[column] for column in SHOWN} for row in found])
        rows += found
    save("rag_active", given, {"model": MODEL, "answer_tokens": ANSWER, "rows": rows})


def told(
    name: str, way: str, asked: Sequence[Item], runs: Sequence[Run], reader: Reader
) -> dict[str, Any]:
    """What one way came to, over all questions."""
    pairs = list(zip(asked, runs, strict=True))
    read = [
        reader.read(run.evidence, item.question, item.answers).likelihood for item, run in pairs
    ]
    return {
        "set": name,
        "way": way,
        "n": len(runs),
        "prompt": fmean(run.prompt for run in runs),
        "made": fmean(run.completion for run in runs),
        "wasted": fmean(run.wasted for run in runs),
        "calls": fmean(run.calls for run in runs),
        "searches": fmean(run.searches for run in runs),
        "saved": fmean(run.saved for run in runs),
        "in evidence": fmean(holds(run.evidence, item.answers) for item, run in pairs),
        "in answer": fmean(holds(run.text, item.answers) for item, run in pairs),
        "exact": fmean(exact(run.text, item.answers) for item, run in pairs),
        "F1": fmean(overlap(run.text, item.answers) for item, run in pairs),
        "likelihood": fmean(read),
        "likelihood, interval": mean_interval(read),
        "CPU s": fmean(run.seconds for run in runs),
        "notes": sorted({note for run in runs for note in run.notes})[:5],
    }


def answered(way: str, item: Item, theta: float) -> Run:
    """One question, in one way. Its passages are what is searched."""
    from tersely.middleware.answer import answer
    from tersely.rag.searchers import as_searcher
    from tersely.registry import backend, plan

    start = time.process_time()
    if way in (NONE, ALL):
        return _plainly(item, way)
    settings = PLANS[way] | ({"theta": theta, "mask": theta} if way == "flare" else {})
    found = answer(
        _asking(item),
        searcher=as_searcher(list(item.documents)),
        backend=backend("local", model=MODEL),
        plan=plan(way, **settings),
        max_tokens=ANSWER,
    )
    account = found.account
    return Run(
        text=found.text,
        evidence=found.evidence,
        prompt=account.prompt,
        completion=account.completion,
        wasted=account.wasted,
        calls=len(account.calls),
        searches=account.searches,
        saved=_whole(item) - account.spent,
        seconds=time.process_time() - start,
        notes=account.notes,
    )


def _plainly(item: Item, way: str) -> Run:
    """The question by itself, or with every passage."""
    from tersely.contracts import Request
    from tersely.registry import backend

    start = time.process_time()
    context = item.context if way == ALL else ""
    request = Request(prompt=_asking(item, context), max_tokens=ANSWER)
    (said,) = backend("local", model=MODEL).complete([request])
    spent = said.prompt_tokens + said.completion_tokens
    return Run(
        text=said.text,
        evidence=context,
        prompt=said.prompt_tokens,
        completion=said.completion_tokens,
        wasted=0,
        calls=1,
        searches=0,
        saved=_whole(item) - spent,
        seconds=time.process_time() - start,
    )


def _whole(item: Item) -> int:
    """The tokens of one call with every passage in it."""
    from tersely.tokens import counter

    return counter(MODEL)(f"{item.context}\n\n{item.question}{SHORT}") + ANSWER


def calibrated(held: Sequence[Item]) -> float:
    """The `theta` of the model, found on answers to other questions."""
    from tersely.contracts import Request
    from tersely.rag.doubt import calibrated as quantile
    from tersely.registry import backend

    requests = [Request(prompt=_asking(item), max_tokens=ANSWER, logprobs=True) for item in held]
    return quantile(backend("local", model=MODEL).complete(requests), 0.3)


def _asking(item: Item, context: str = "") -> Any:
    """The question as it is asked in every way."""
    from tersely.prompt import Prompt, Segment

    text = f"{context}\n\n{item.question}{SHORT}".strip()
    return Prompt((Segment(text=text, locked=True),), item.question, turns=1)


if __name__ == "__main__":
    main()
