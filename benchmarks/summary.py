"""Summaries of meetings beside their references, and what a small model invents in its own.

Every row is kept as soon as it is measured, so that the work can be stopped and resumed.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import summary_guard, summary_methods
from benchmarks.harness import RESULTS, THREADS, Options, Row, mean_interval, save, show
from benchmarks.summary_methods import COUNT, METHODS, OURS, Method
from benchmarks.summary_scores import SCORES, check, scores
from benchmarks.summary_sets import Item, few, items, sources

RATIOS = (0.1, 0.2)
GROUPS = ("words", "meaning", "models", "guard")
TEXTS = 6
"""Texts of each kind that the model tells of, at each temperature."""

Kept = dict[tuple[Any, ...], dict[str, Any]]
"""What was measured, by what it was measured of."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet, print tables and write `summary.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of public evaluation sets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--quick", action="store_true", help="two meetings")
    parser.add_argument("--group", choices=GROUPS, action="append", help="only these methods")
    parser.add_argument("--report", action="store_true", help="only sum up what was measured")
    given = parser.parse_args(argv)
    if given.data is None:
        print("summary: needs --data, a folder with summ/qmsum_val.jsonl")
        return
    logging.disable(logging.INFO)  # rouge-score's logger wakes others
    chosen = items(given.data, given.quick)
    file = _kept_at(given.quick)
    if not given.report:
        measure(given, chosen, file)
    report(Options(given.data, given.out, given.quick), chosen, _known(file))


def measure(given: argparse.Namespace, chosen: Sequence[Item], file: Path) -> None:
    """Measure what is lacking; one row for each item, method and ratio."""
    import torch

    torch.set_num_threads(THREADS)
    file.parent.mkdir(parents=True, exist_ok=True)
    groups = given.group or GROUPS
    with file.open("a", encoding="utf-8") as out:
        for row in _new(given, chosen, _known(file), groups):
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()


def _new(
    given: argparse.Namespace, chosen: Sequence[Item], known: Kept, groups: Sequence[str]
) -> Iterator[dict[str, Any]]:
    quick = [method for method in METHODS if not method.few and method.group in groups]
    for at, item in enumerate(chosen):
        if quick and at % 40 == 0:
            print(f"summary: question {at + 1} of {len(chosen)}", flush=True)
        for method in quick:
            for ratio in RATIOS:
                if (method.name, ratio, at) not in known:
                    yield from _rows(method, ratio, {at: item})
    for method in METHODS if "models" in groups else ():
        for ratio in RATIOS if method.few else ():
            places = few(list(chosen), 2 if given.quick else method.few)
            left = {at: chosen[at] for at in places if (method.name, ratio, at) not in known}
            if left:
                print(f"summary: {method.name} at {ratio:.0%}", flush=True)
                yield from _rows(method, ratio, left)
    if "guard" in groups:
        yield from _guarded(given, known)


def _rows(method: Method, ratio: float, work: Mapping[int, Item]) -> Iterator[dict[str, Any]]:
    """What a method makes of some items, measured."""
    started = perf_counter()
    made = method.make([*work.values()], ratio)
    seconds = (perf_counter() - started) / len(work)
    for (at, item), text in zip(work.items(), made, strict=True):
        row: dict[str, Any] = {"method": method.name, "ratio": ratio, "item": at}
        row |= {**scores(item.answer, text), "kept": COUNT(text) / COUNT(item.meeting)}
        if method.group == "models":
            row |= {"seconds": seconds, "text": text}
        if at == 0:
            check(item.answer, text)
        yield row
    while summary_methods.OVERHEAD:
        beside, model = summary_methods.OVERHEAD.pop()
        yield {"overhead": ratio, "beside": beside, "model": model}


def _guarded(given: argparse.Namespace, known: Kept) -> Iterator[dict[str, Any]]:
    """What the model tells of texts full of facts; all of them at once, so all or none is known."""
    if any(key[0] == "guard" for key in known):
        return
    print("summary: guard", flush=True)
    texts = sources(given.data, 2 if given.quick else TEXTS)
    for at, row in enumerate(summary_guard.measured(texts)):
        yield row | {"guard": at}


def report(given: Options, chosen: Sequence[Item], known: Kept) -> None:
    """Sum up what was measured."""
    rows = [row for row in known.values() if "method" in row]
    table = [made for name, ratio in _cells(rows) if (made := _row(name, ratio, rows))]
    paired = {
        "all": _paired(rows, set(range(len(chosen)))),
        "held out": _paired(rows, {i for i, one in enumerate(chosen) if one.held_out}),
        "about all of a meeting": _paired(rows, {i for i, one in enumerate(chosen) if one.whole}),
    }
    show("QMSum: summaries beside the references", [_brief(row) for row in table])
    for name, found in paired.items():
        if found:
            show(f"{OURS}, less the other, question by question: {name}", found)
    found = _invented([row for row in known.values() if "guard" in row], chosen, rows)
    if found:
        show("What SmolLM2 says that the text does not", [_without(one) for one in found])
    spent = [row for row in known.values() if "overhead" in row]
    results = {
        "questions": len(chosen),
        "held out": sum(one.held_out for one in chosen),
        "meetings": len({one.meeting for one in chosen}),
        "table": table,
        "paired": paired,
        "invented": found,
        "seconds": {name: sum(row[name] for row in spent) for name in ("beside", "model")},
    }
    save("summary", given, results)


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    return [
        (method.name, ratio)
        for ratio in RATIOS
        for method in METHODS
        if any(row["method"] == method.name and row["ratio"] == ratio for row in rows)
    ]


def _row(name: str, ratio: float, rows: Sequence[Mapping[str, Any]]) -> Row:
    own = [row for row in rows if row["method"] == name and row["ratio"] == ratio]
    made: dict[str, Any] = {"method": name, "ratio": ratio, "n": len(own)}
    made |= {key: mean_interval([row[key] for row in own]) for key in SCORES}
    made["kept"] = float(np.mean([row["kept"] for row in own]))
    if seconds := [row["seconds"] for row in own if "seconds" in row]:
        made["seconds"] = float(np.median(seconds))
    return made


def _brief(row: Row) -> Row:
    return {key: row[key] for key in ("method", "ratio", "n", "rouge1", "rouge2", "similarity")}


def _paired(rows: Sequence[Mapping[str, Any]], wanted: set[int]) -> list[Row]:
    """What ours is ahead by, on the questions that both were asked."""
    found: list[Row] = []
    for name, ratio in _cells(rows):
        own = {row["item"]: row for row in rows if (row["method"], row["ratio"]) == (OURS, ratio)}
        other = [row for row in rows if (row["method"], row["ratio"]) == (name, ratio)]
        pairs = [(own[row["item"]], row) for row in other if row["item"] in wanted & own.keys()]
        if name != OURS and pairs:
            made: dict[str, Any] = {"than": name, "ratio": ratio, "n": len(pairs)}
            for key in SCORES:
                made[key] = mean_interval([a[key] - b[key] for a, b in pairs])
            found.append(made)
    return found


def _invented(
    guarded: Sequence[Mapping[str, Any]],
    chosen: Sequence[Item],
    rows: Sequence[Mapping[str, Any]],
) -> list[Row]:
    """The table of the guard, and what the summaries of whole meetings say besides."""
    found = summary_guard.table(guarded) if guarded else []
    for name in (summary_methods.ABSTRACTIVE, summary_methods.LANGCHAIN):
        own = [row for row in rows if row["method"] == name]
        texts = [(row["text"], chosen[row["item"]].meeting) for row in own]
        if texts:
            side = "on" if name == summary_methods.ABSTRACTIVE else "none"
            found.append(summary_guard.side(name, 0.0, side, texts))
    return found


def _without(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "examples"}


def _kept_at(quick: bool) -> Path:
    """Where rows lie until they are summed up."""
    from tersely.models import home

    return home() / "benchmarks" / f"summary{'-quick' if quick else ''}.jsonl"


def _known(file: Path) -> Kept:
    """What was measured."""
    found: Kept = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else ()
    for row in map(json.loads, lines):
        if "method" in row:
            found[row["method"], row["ratio"], row["item"]] = row
        elif "guard" in row:
            found["guard", row["guard"]] = row
        else:
            found["overhead", row["overhead"], row["model"]] = row
    return found


if __name__ == "__main__":
    main()
