"""What writers of vectors learn in a short training: loss by steps, and what a model reads of it.

`python -m benchmarks.soft_online --data DIR` trains each of ICAE, AutoCompressor and Gist by the
project's own command on speeches and on passages with questions, and measures on others: how well
the plain model goes on behind eight times fewer vectors, beside as many tokens of the text.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import MODEL, THREADS, mean_interval, options, save, show, speeches
from tersely.compressors.writer import Writer
from tersely.compressors.writer_artefact import load_writer
from tersely.compressors.writer_figures import BASELINES, Choice, figures
from tersely.compressors.writer_lessons import Lessons, WriterLesson, WriterRow
from tersely.registry import trainer

TEXT, REST, VECTORS = 64, 24, 8
"""Tokens of a text, of what follows it, and what stands for the text."""

HALVES: Mapping[str, Any] = {"tokens": VECTORS // 2, "span": TEXT // 2}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "icae": {**HALVES, "spans": 2},
    "autocompressor": {**HALVES, "segments": 2},
    "gist": {"tokens": VECTORS, "span": TEXT},
}
COMMON: Mapping[str, Any] = {"rest": REST, "batch": 2, "rate": 0.001, "most_held": 8}
STEPS, QUICK_STEPS = 60, 2
LEARNED, HELD = 40, 12
"""Speeches to learn from, and lessons of each kind that are measured on."""

ARTICLES = 16
"""Articles to learn from; the others are measured on."""

PASSAGE = 260
"""Characters of a passage with the answer in it."""


def main() -> None:
    given = options("writers of vectors, trained for a short time", None)
    if given.data is None:
        sys.exit("soft_online needs --data DIR, with longctx/ and qa/ in it")
    steps = QUICK_STEPS if given.quick else STEPS
    held = 2 if given.quick else HELD
    learned, apart = rows(given.data, held)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in learned), encoding="utf-8")
        found = {name: method(name, file, steps, apart) for name in METHODS}
        beside = baselines(Path(folder) / next(iter(METHODS)), apart)
    measured = {name: one["measured"] for name, one in found.items()} | beside
    table = [{"stands for the text": name, **told(values)} for name, values in measured.items()]
    show(f"{TEXT} tokens as {VECTORS}, after {steps} steps", table)
    save(
        "soft_online",
        given,
        {
            "model": MODEL,
            "threads": THREADS,
            "text": TEXT,
            "vectors": VECTORS,
            "note": "a smoke test on a CPU: far fewer steps than a writer needs",
            "methods": found,
            "beside": beside,
        },
    )


def rows(data: Path, held: int) -> tuple[list[dict[str, str]], list[WriterRow]]:
    """What is learned from, and what is measured on: other speeches, other articles."""
    texts = speeches(data)
    articles = json.loads((data / "qa" / "xquad-en-dev.json").read_text(encoding="utf-8"))["data"]
    learned = [{"text": text} for text in texts[:LEARNED]]
    learned += [row for one in articles[:ARTICLES] for row in asked(one, 3)]
    others = [row for one in articles[ARTICLES:] for row in asked(one, 1)]
    at = np.linspace(0, len(others) - 1, held).astype(int).tolist()
    starts = [text[len(text) // 2 :][: PASSAGE * 4] for text in texts[LEARNED:]]
    some = np.linspace(0, len(starts) - 1, held).astype(int).tolist()
    apart = [{"text": starts[i]} for i in some] + [others[i] for i in at]
    return learned, [WriterRow.model_validate(row) for row in apart]


def asked(article: Mapping[str, Any], most: int) -> list[dict[str, str]]:
    """Questions about the paragraphs of an article, each with the passage that answers it."""
    made = []
    for paragraph in article["paragraphs"]:
        for one in paragraph["qas"][:most]:
            answer, text = one["answers"][0], paragraph["context"]
            middle = answer["answer_start"] + len(answer["text"]) // 2
            begin = max(0, text.rfind(" ", 0, max(0, middle - PASSAGE // 2)) + 1)
            end = text.find(" ", middle + PASSAGE // 2)
            passage = text[begin : end if end > 0 else len(text)]
            made.append({"text": passage, "question": one["question"], "answer": answer["text"]})
    return made


def method(name: str, file: Path, steps: int, apart: Sequence[WriterRow]) -> dict[str, Any]:
    """Train by the command, then measure on what nobody has seen."""
    settings = {**METHODS[name], **COMMON, "steps": steps, "measure": max(1, steps // 3)}
    out = file.parent / name
    words = ["train", name, str(file), "--out", str(out), "--quiet"]
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    started = time.perf_counter()
    subprocess.run([str(Path(sys.executable).with_name("tersely")), *words], check=True)
    seconds = time.perf_counter() - started
    about, writer = load_writer(out, name)
    lessons = cut(writer, apart)
    own = trainer(name, **settings)
    spelled = shlex.join(["tersely", *words]).replace(str(file), "rows.jsonl")
    return {
        "command": spelled.replace(str(out), name),
        "rows": about.rows,
        "seconds": round(seconds, 1),
        "curve": [dict(point) for point in about.curve],
        "own_figures": dict(about.figures),
        "measured": each(
            writer,
            lessons,
            lambda some: own.write(writer, some),  # type: ignore[attr-defined]
        ),
    }


def baselines(folder: Path, apart: Sequence[WriterRow]) -> dict[str, dict[str, Any]]:
    """The same for tokens of the text; nothing of a writer is used but its base model."""
    _, writer = load_writer(folder, folder.name)
    lessons = cut(writer, apart)
    return {what: each_of(writer, lessons, choice) for what, choice in BASELINES.items()}


def cut(writer: Writer, apart: Sequence[WriterRow]) -> list[WriterLesson]:
    """The first lesson of each row."""
    found = [Lessons(writer.lm, TEXT, REST, VECTORS).of([row])[:1] for row in apart]
    return [one for own in found for one in own]


def each_of(writer: Writer, lessons: Sequence[WriterLesson], choice: Choice) -> dict[str, Any]:
    return each(
        writer, lessons, lambda some: [writer.embedded(choice(one, VECTORS)) for one in some]
    )


def each(writer: Writer, lessons: Sequence[WriterLesson], write: Any) -> dict[str, Any]:
    """Figures with their intervals, over the lessons."""
    found = [figures(writer, [lesson], write) for lesson in lessons]
    names = sorted({name for one in found for name in one})
    return {
        name: [round(value, 4) for value in mean_interval([f[name] for f in found if name in f])]
        for name in names
    }


def told(values: Mapping[str, Sequence[float]]) -> dict[str, str]:
    return {name: f"{a:.2f} ({b:.2f}-{c:.2f})" for name, (a, b, c) in values.items()}


if __name__ == "__main__":
    main()
