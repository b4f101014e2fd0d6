"""How well questions that suit parallel points are told from others, on labels never trained on.

The labels are people's, from github.com/imagination-research/sot (MIT): files `label;request` named
`vicuna_router.csv`, and `lima_router.csv` and `wizardlm_router.csv` where they are at hand. Their
questions are Vicuna's (Apache-2.0), LIMA's (CC BY-NC-SA or stricter) and WizardLM's (not for
commerce): they are measured with and nothing that ships has learned from them. The shipped weights
come from `router_questions.jsonl` beside this file, written and labelled for tersely.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time

import numpy as np

from benchmarks.harness import Options, Row, options, save, show
from tersely.sot.classifier import Classifier, classifier, vectors
from tersely.sot.router import Router
from tersely.sot.rules import ruled
from tersely.sot.train_router import RouterTrainer, auc
from tersely.training import Training
from tersely.units import Floats

SETS = ("vicuna", "wizardlm", "lima")

Labels = tuple[list[str], Floats]


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    if given.data is None:
        print("sot_router: needs the folder of public evaluation sets: --data DIR")
        return
    sets = {name: found for name in SETS if (found := labelled(given.data, name)) is not None}
    made = {"": classifier()}
    if "lima" in sets and not given.quick:
        made[", trained on LIMA's labels"] = trained(sets["lima"])
    rows = [row for name, labels in sets.items() for row in measured(name, labels, made)]
    show("which questions suit parallel points", rows)
    save("sot_router", given, {"trained_on": "router_questions.jsonl", "rows": rows})
    _milliseconds(given, sets)


def labelled(data: Path, name: str) -> Labels | None:
    """Questions and their labels, if the file is there."""
    path = data / "sot" / f"{name}_router.csv"
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, delimiter=";") if len(row) == 2][1:]
    return [row[1] for row in rows], np.array([float(row[0]) for row in rows])


def measured(name: str, labels: Labels, made: Mapping[str, Classifier]) -> list[Row]:
    """Each way of telling on one set; LIMA's own classifier is no test on LIMA."""
    questions, suits = labels
    told: dict[str, Floats] = {"majority": np.full(len(suits), float(suits.mean() > 0.5))}
    told["rules"] = by_rules(questions)
    read = vectors("minilm", questions)
    for which, one in made.items():
        if which and name == "lima":
            continue
        words = told[f"n-grams{which}"] = one.by_words(questions)
        meaning = told[f"MiniLM{which}"] = one.by_meaning(read)
        both = told[f"mean of both{which}"] = (words + meaning) / 2
        verdicts = [ruled(question) for question in questions]
        decided = [b if v is None else v.chance for b, v in zip(both, verdicts, strict=True)]
        told[f"router: rules, then the mean{which}"] = np.array(decided)
    return [_row(name, way, suits, chance) for way, chance in told.items()]


def by_rules(questions: Sequence[str]) -> Floats:
    """What the rules say; where they say nothing, not quite no."""
    verdicts = [ruled(question) for question in questions]
    return np.array([0.3 if verdict is None else verdict.chance for verdict in verdicts])


def trained(labels: Labels) -> Classifier:
    """A classifier that learned from labels, for this run only."""
    rows = [{"question": q, "suits": bool(y)} for q, y in zip(*labels, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        RouterTrainer().train(Training(rows=rows, out=Path(folder)))
        return classifier(folder)


def _row(name: str, way: str, suits: Floats, chance: Floats) -> Row:
    """Accuracy and AUC with intervals, and what counts for a filter: precision and recall."""
    yes, right = chance >= 0.5, (chance >= 0.5) == (suits > 0.5)
    hits = float((yes & (suits > 0.5)).sum())
    return {
        "labels": name,
        "n": len(suits),
        "way": way,
        "accuracy": _interval(right.astype(np.float64), suits, chance, accuracy=True),
        "auc": _interval(right.astype(np.float64), suits, chance, accuracy=False),
        "precision": hits / max(float(yes.sum()), 1.0),
        "recall": hits / float((suits > 0.5).sum()),
    }


def _interval(
    right: Floats, suits: Floats, chance: Floats, *, accuracy: bool
) -> tuple[float, float, float]:
    """A figure and its 95 % bootstrap interval over questions."""

    def figure(rows: Floats) -> float:
        places = rows.astype(np.int64)
        return float(right[places].mean()) if accuracy else auc(suits[places], chance[places])

    picks = np.random.default_rng(0).integers(0, len(suits), (2000, len(suits)))
    low, high = np.percentile([figure(pick) for pick in picks], [2.5, 97.5])
    return figure(np.arange(len(suits), dtype=np.float64)), float(low), float(high)


def _milliseconds(given: Options, sets: Mapping[str, Labels]) -> None:
    """What a question costs, once everything is loaded."""
    questions = [question for labels in sets.values() for question in labels[0]][:80]
    rows: list[Row] = []
    for way, router in {"words": Router(meaning=False), "words and meaning": Router()}.items():
        router.routed(questions[0])
        start = process_time()
        for question in questions:
            router.routed(question)
        cost = (process_time() - start) * 1e3 / len(questions)
        rows.append({"router": way, "CPU ms a question": cost})
    show("cost", rows)


if __name__ == "__main__":
    main()
