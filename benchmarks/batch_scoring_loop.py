"""A batch job beside a plain loop over `llmlingua.compress_prompt` on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.batch_scoring_rows import (
    BLOCK,
    SHARE,
    Asked,
    Job,
    joined,
    paragraphs,
)
from benchmarks.harness import (
    MODEL,
    Cost,
    Options,
    Row,
    in_turns,
    mean_interval,
    show,
    times,
)
from benchmarks.pruning_peers import PeerFailed, llmlingua2, peers
from benchmarks.pruning_sets import holds


def loop(folder: Path, given: Options, classifier: Path) -> list[Row]:
    """Rows a second of the job and of a plain loop over the package, and what both keep."""
    assert given.data is not None
    many = 1 if given.quick else 4
    sets = {
        "passages, each once": joined(given.data, many * BLOCK),
        "paragraphs, each for several questions": paragraphs(given.data, many * BLOCK),
    }
    rows: list[Row] = []
    for name, asked in sets.items():
        rows += _measured(folder, name, asked, classifier)
        show(name, rows[-len(WAYS) :])
    return rows


LONGER = ", as long as the package's"
"""Added to the name of a stage that keeps as many tokens of a block as the package did."""

WAYS = (
    "llmlingua-2 (package), float32",
    "llmlingua-2 (package)",
    "llmlingua2",
    f"llmlingua2{LONGER}",
    "llmlingua (package)",
    "llmlingua",
    f"llmlingua{LONGER}",
    "truncate",
    "random",
    "none",
)
OURS = {
    "llmlingua-2 (package)": "llmlingua2",
    "llmlingua-2 (package), float32": "llmlingua2",
    "llmlingua (package)": "llmlingua",
}
"""Each package's mode, and ours of the same method."""

MATCHED = {"llmlingua-2 (package)": "llmlingua2", "llmlingua (package)": "llmlingua"}


def _measured(folder: Path, name: str, asked: Sequence[Asked], classifier: Path) -> list[Row]:
    """Every way on every block of a set, in turns."""
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    made: dict[str, list[str]] = {way: [] for way in WAYS}
    blocks = [asked[at : at + BLOCK] for at in range(0, len(asked), BLOCK)]
    for i, block in enumerate([blocks[0][:2], *blocks]):  # the first loads the models
        works = _works(folder, block, classifier)
        found: dict[str, list[str]] = {}

        def kept(way: str, work: Callable[[], list[str]], found: Any = found) -> Any:
            return lambda: found.update({way: work()})

        ways = {way: kept(way, works[way]) for way in WAYS if way in works}
        for package, ours in MATCHED.items():
            job = partial(_as_long, folder, block, classifier, ours, found, package)
            ways[f"{ours}{LONGER}"] = kept(f"{ours}{LONGER}", job)
        spent = in_turns({way: ways[way] for way in WAYS}, dict.fromkeys(ways, 1))
        for way in WAYS if i else ():
            costs[way] += spent[way]
            made[way] += found[way]
    return [_told(name, way, asked, made[way], costs) for way in WAYS]


def _works(folder: Path, block: Sequence[Asked], classifier: Path) -> dict[str, Any]:
    """Every way to make the texts of a block shorter."""
    jobs: dict[str, Any] = {}
    for way in ("llmlingua2", "llmlingua", "truncate", "random", "none"):
        (place := folder / way).mkdir(exist_ok=True)
        share = 1.0 if way == "none" else SHARE
        jobs[way] = Job(place, _stage(way, classifier), block, budget=share)
    rivals = {
        "llmlingua-2 (package)": llmlingua2(classifier),
        "llmlingua-2 (package), float32": llmlingua2(classifier, "float32"),
        "llmlingua (package)": peers()["llmlingua (package)"],
    }

    def looped(peer: Any) -> Callable[[], list[str]]:
        def work() -> list[str]:
            made = []
            for one in block:
                try:
                    made.append(peer([one.text], one.question, SHARE))
                except PeerFailed:
                    made.append(one.text)
            return made

        return work

    return jobs | {way: looped(peer) for way, peer in rivals.items()}


def _stage(name: str, classifier: Path) -> Any:
    return {name: {"model": str(classifier)}} if name == "llmlingua2" else name


def _as_long(
    folder: Path,
    block: Sequence[Asked],
    classifier: Path,
    ours: str,
    found: dict[str, list[str]],
    package: str,
) -> list[str]:
    """What ours makes of a block when it keeps as many tokens as a package did."""
    before, after = (sum(_counts(texts)) for texts in ([a.text for a in block], found[package]))
    (place := folder / f"{ours}-longer").mkdir(exist_ok=True)
    return Job(place, _stage(ours, classifier), block, budget=min(after / before, 1.0)).again()


def _counts(texts: Sequence[str]) -> list[int]:
    from tersely.tokens import counter

    return counter(MODEL).many(texts)


def _told(
    name: str, way: str, asked: Sequence[Asked], made: Sequence[str], costs: dict[str, list[Cost]]
) -> Row:
    """A way's pace, what it is to ours of the same method, and what it keeps."""
    before, after = (np.array(_counts(texts)) for texts in ([a.text for a in asked], made))
    paces: Row = {"rows/s (CPU)": "-"}
    if not way.endswith(LONGER):  # those find what was scored right before
        ours = costs[OURS.get(way, way)]
        paces = {
            "rows/s (wall)": len(asked) / sum(wall for _, wall in costs[way]),
            "rows/s (CPU)": len(asked) / sum(cpu for cpu, _ in costs[way]),
            "ours is so many times faster (CPU)": times(costs[way], ours, 0),
            "ours is so many times faster (wall)": times(costs[way], ours, 1),
        }
    return {
        "rows": name,
        "way": way,
        "n": len(asked),
        "tokens a row": float(before.mean()),
        **paces,
        "kept": float(after.sum() / before.sum()),
        "answers kept": mean_interval(
            [float(holds(text, one.answers)) for text, one in zip(made, asked, strict=True)]
        ),
    }
