"""Sum up the rows of the pruning benchmark: tables, JSON and a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Options, mean_interval, save, show

SETS = ("nq", "hotpot", "gsm8k", "qmsum")
MEASURES = ("likelihood", "gain", "f1", "em", "answer", "gold", "facts", "invented", "used")
OURS = "query"
FULL = "full prompt"
NONE = "none"

SURVIVES = {"nq": "answer", "hotpot": "gold", "gsm8k": "facts", "qmsum": "gold"}
"""What is drawn below the likelihood of each set."""

TITLES = {"gain": "likelihood less that of the full prompt", "answer": "answer still there"}

Rows = Sequence[Mapping[str, Any]]


def write(given: Options, rows: Rows, reader: str, names: Sequence[str]) -> None:
    """Print the tables, write the JSON, and draw the plot; methods in the order of `names`."""
    rows = [row for row in rows if row["method"] in names]
    if not rows:
        print("pruning: nothing is measured yet")
        return
    rows = _with_gains(rows)
    table = [summed(*key, rows) for key in _keys(rows, names)]
    ahead = [one for name in names for one in against(name, rows)]
    for name in SETS:
        if found := [_shown(row) for row in table if row["set"] == name]:
            show(f"{name}: what is left, and how likely the answer is to {reader}", found)
    if ahead:
        show(f"{OURS} less each other at a quarter, item by item (nats of likelihood)", ahead)
    label = "" if reader == "smollm2" else f"_{Path(reader).name}"
    path = save(f"pruning{label}", given, {"reader": reader, "table": table, "paired": ahead})
    draw(table, path.with_suffix(".png"))


def summed(name: str, method: str, ratio: float, rows: Rows) -> dict[str, Any]:
    """One line: the means over the items of a set, with their intervals."""
    mine = [r for r in rows if (r["set"], r["method"], r["ratio"]) == (name, method, ratio)]
    line: dict[str, Any] = {"set": name, "method": method, "ratio": ratio, "n": len(mine)}
    line["failed"] = sum("failed" in row for row in mine)
    for measure in MEASURES:
        if values := [row[measure] for row in mine if measure in row]:
            line[measure] = mean_interval(values)
            line[f"n {measure}"] = len(values)
    line["over budget"] = sum(row.get("used", 0) > 1 for row in mine if 0 < ratio < 1)
    return line


def against(method: str, rows: Rows, ratio: float = 0.25) -> list[dict[str, Any]]:
    """How much likelier the answer is from our default than from a method, on the same items.

    Each set by itself, and the mean over the four sets.
    """
    if method == OURS:
        return []
    mine = _likelihoods(rows, OURS, ratio)
    theirs = _likelihoods(rows, method, {FULL: 1.0, "none": 0.0}.get(method, ratio))
    line: dict[str, Any] = {"method": method}
    means: list[Any] = []
    for name in SETS:
        both = sorted(k for k in mine.keys() & theirs.keys() if k[0] == name)
        if gains := [mine[k] - theirs[k] for k in both]:
            line[name] = mean_interval(gains)
            line[f"n {name}"] = len(gains)
            means.append(np.asarray(gains))
    if len(means) == len(SETS):
        line["mean of sets"] = _mean_of_sets(means)
    return [line] if means else []


def _mean_of_sets(sets: Sequence[Any]) -> tuple[float, float, float]:
    """The mean of the sets' means, each set drawn anew by itself."""
    draw = np.random.default_rng(0)
    drawn = [one[draw.integers(0, len(one), (2000, len(one)))].mean(axis=1) for one in sets]
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return float(np.mean([one.mean() for one in sets])), float(low), float(high)


def draw(table: Rows, path: Path) -> None:
    """Quality against tokens kept, one line for each method and one panel for each set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods = list(dict.fromkeys(row["method"] for row in table))
    some = pyplot.get_cmap("tab20")
    colours = {name: some(i % 20) for i, name in enumerate(methods)} | {OURS: "black"}
    figure, panels = pyplot.subplots(2, 4, figsize=(18, 9.5))
    for column, name in enumerate(SETS):
        for line, measure in enumerate(("gain", SURVIVES[name])):
            rows = [row for row in table if row["set"] == name]
            _panel(panels[line][column], rows, measure, colours)
            panels[line][column].set_title(f"{name}: {TITLES.get(measure, measure)}")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=7, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _panel(panel: Any, rows: Rows, measure: str, colours: Mapping[str, Any]) -> None:
    """One set and measure; what was not pruned is a level, what has one point is a mark."""
    for method, colour in colours.items():
        points = sorted(
            (r["ratio"], r[measure]) for r in rows if r["method"] == method and measure in r
        )
        if not points:
            continue
        x = [ratio for ratio, _ in points]
        y, low, high = zip(*(value for _, value in points), strict=True)
        if method in (FULL, NONE):
            panel.axhline(y[0], color=colour, linestyle="--", label=method, linewidth=1.2)
            continue
        width = 3 if method == OURS else 1.2
        panel.plot(x, y, marker="o", markersize=5, label=method, color=colour, linewidth=width)
        if method == OURS:
            panel.fill_between(x, low, high, alpha=0.15, color=colour)
    panel.set_xlabel("share of tokens kept")
    panel.set_xlim(0.08, 0.55)


def _with_gains(rows: Rows) -> Rows:
    """Rows that also tell how much likelier the answer is than after the full prompt."""
    full = _likelihoods(rows, FULL, 1.0)
    return [
        {**row, "gain": row["likelihood"] - full[row["set"], row["item"]]}
        if "likelihood" in row and (row["set"], row["item"]) in full
        else row
        for row in rows
    ]


def _likelihoods(rows: Rows, method: str, ratio: float) -> dict[tuple[str, int], float]:
    return {
        (row["set"], row["item"]): row["likelihood"]
        for row in rows
        if row["method"] == method and row["ratio"] == ratio and "likelihood" in row
    }


def _keys(rows: Rows, names: Sequence[str]) -> Iterable[tuple[str, str, float]]:
    found = {(row["set"], row["method"], row["ratio"]) for row in rows}
    return sorted(found, key=lambda key: (SETS.index(key[0]), -key[2], names.index(key[1])))


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """What fits on a line of the terminal."""
    told = {"method": row["method"], "kept": row["ratio"], "n": row["n"]}
    for measure in ("gain", "answer", "gold", "facts"):
        told[measure] = row.get(measure, "")
    return told
