"""Sum up what was measured of fixed prompts: tables, the targets, and a plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Row, mean_interval, show
from benchmarks.soft_quality import TEXTS

OF_TEXT = 0.2
"""The most that the divergence may be of the best text's of as many tokens."""

SIZES = (32, 128)
LEARNED = ("kv", "embeds")
FULL = "full"
Interval = tuple[float, float, float]


def summed(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each prompt, method and size: means over turns, with their intervals."""
    kept = {row["prompt"]: row["facts"] for row in rows if row["method"] == FULL}
    return [
        {
            "prompt": row["prompt"],
            "method": row["method"],
            "tokens": row["tokens"],
            "turns": len(row["kl"]),
            "positions": row["positions"],
            "KL": mean_interval(row["kl"]),
            "same token": mean_interval(row["agreement"]),
            "facts": _facts(row["facts"], kept[row["prompt"]]),
        }
        for row in rows
    ]


def targets(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each prompt how what was learned compares with the best texts, turn by turn."""
    found = []
    for name in dict.fromkeys(row["prompt"] for row in rows):
        mine = [row for row in rows if row["prompt"] == name]
        learned = [row for row in mine if row["method"] in LEARNED]
        found += [_target(row, mine) for row in learned]
    return found


def verdicts(target: Row) -> Iterator[str]:
    """Whether each target is met, or by how much it is missed."""
    name = f"{target['prompt']}, {target['method']} {target['tokens']}"
    for size, most in ((32, OF_TEXT), (128, 1.0)):
        text, (ratio, *_) = target[f"nearest text of {size}"], target[f"KL by text of {size}"]
        told = "met" if ratio <= most else f"missed by {ratio - most:.3f}"
        yield f"{name}: KL {ratio:.3f} of {text} {size}, at most {most}: {told}"
        text, (more, *_) = (
            target[f"likest text of {size}"],
            target[f"same token over text of {size}"],
        )
        told = "met" if more > 0 else f"missed by {abs(more):.3f}"
        yield f"{name}: same token {more:+.3f} over {text} {size}, above 0: {told}"


def tell(lines: Sequence[Row], compared: Sequence[Row]) -> None:
    """Print the tables and the targets of 32 vectors."""
    for name in dict.fromkeys(line["prompt"] for line in lines):
        mine = [line for line in lines if line["prompt"] == name]
        show(f"{name}: beside the full prompt", [_without(line, "prompt") for line in mine])
    for target in compared:
        if target["tokens"] == 32:
            print("\n".join(verdicts(target)))


def draw(lines: Sequence[Row], path: Path) -> None:
    """Divergence against tokens, a panel for each prompt."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(line["prompt"] for line in lines))
    figure, panels = pyplot.subplots(1, len(names), figsize=(5.5 * len(names), 4.5), squeeze=False)
    methods = list(dict.fromkeys(line["method"] for line in lines))
    for panel, name in zip(panels[0], names, strict=True):
        mine = [line for line in lines if line["prompt"] == name]
        for i, method in enumerate(methods):
            if own := [line for line in mine if line["method"] == method]:
                _line(panel, method, own, f"C{i % 10}" if i else "black")
        panel.set(title=name, xlabel="tokens in its place", ylabel="KL to the full prompt (nats)")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
    panels[0][-1].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _line(panel: Any, method: str, lines: Sequence[Row], colour: str) -> None:
    """One method; nothing at all is a level, what was learned is thick."""
    points = sorted((line["tokens"], line["KL"]) for line in lines)
    if method == FULL:
        return
    middle = [kl[0] for _, kl in points]
    if points[0][0] == 0:
        panel.axhline(middle[0], color="grey", linestyle="--", linewidth=1, label=method)
        return
    tokens = [count for count, _ in points]
    width = 2.5 if method in LEARNED else 1.0
    style: dict[str, Any] = {"marker": "o", "markersize": 4, "linewidth": width, "color": colour}
    panel.plot(tokens, middle, label=method, **style)
    if method in LEARNED:
        low, high = [kl[1] for _, kl in points], [kl[2] for _, kl in points]
        panel.fill_between(tokens, low, high, alpha=0.15, color=colour)


def _target(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """One that was learned beside the texts: by divergence the nearest, by tokens the likest."""
    made: dict[str, Any] = {name: row[name] for name in ("prompt", "method", "tokens")}
    for size in SIZES:
        texts = [one for one in rows if one["method"] in TEXTS and one["tokens"] == size]
        nearest = min(texts, key=lambda one: float(np.mean(one["kl"])))
        likest = max(texts, key=lambda one: float(np.mean(one["agreement"])))
        pairs = zip(row["agreement"], likest["agreement"], strict=True)
        made |= {
            f"nearest text of {size}": nearest["method"],
            f"KL by text of {size}": ratio_interval(row["kl"], nearest["kl"]),
            f"likest text of {size}": likest["method"],
            f"same token over text of {size}": mean_interval([a - b for a, b in pairs]),
        }
    return made


def ratio_interval(mine: Sequence[float], theirs: Sequence[float]) -> Interval:
    """The ratio of two means over the same turns, and its 95 % bootstrap interval."""
    both = np.asarray([mine, theirs], np.float64)
    picks = np.random.default_rng(0).integers(0, both.shape[1], (2000, both.shape[1]))
    means = both[:, picks].mean(axis=2)
    low, high = np.percentile(means[0] / means[1], [2.5, 97.5])
    middle = both.mean(axis=1)
    return float(middle[0] / middle[1]), float(low), float(high)


def _facts(given: Sequence[bool], full: Sequence[bool]) -> str:
    """Of the facts that the full prompt makes the model give, how many are kept; and all given."""
    kept = sum(one and other for one, other in zip(given, full, strict=True))
    return f"{kept} of {sum(full)}, {sum(given)} of {len(given)} in all"


def _without(row: Row, name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
