"""Made-up questions over real text, for finding out what a model looks at without any data."""

from __future__ import annotations

import pydoc_data.topics as topics
from collections.abc import Iterator

import numpy as np

from tersely.training import Row
from tersely.units import split

PEOPLE = (
    "Ada Brandt",
    "Otto Lindqvist",
    "Mira Kovac",
    "Jonas Weber",
    "Leila Haddad",
    "Pavel Novak",
)
THINGS = ("garden", "workshop", "boat", "library", "bakery", "observatory")
FEATS = (
    ("founded", "Who founded the {thing}?", "The {thing} was founded by {person} in {year}."),
    (
        "painted",
        "Who painted the {thing}?",
        "{person} painted the {thing} in the summer of {year}.",
    ),
    ("year", "When was the {thing} sold?", "In {year}, {person} finally sold the {thing}."),
)
HAY = ("with", "while", "lambda", "try", "import", "class", "numbers", "naming", "debugger")
SENTENCES = 26
"""Of real text around the made-up ones."""


def riddles(count: int, seed: int) -> Iterator[Row]:
    """Rows of a question, a context and an answer: one sentence answers, others nearly do."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        told = [
            (feat, thing, str(draw.choice(PEOPLE)), str(draw.integers(1700, 2000)))
            for feat in range(len(FEATS))
            for thing in draw.choice(THINGS, 3, replace=False).tolist()
        ]
        feat, thing, person, year = told[int(draw.integers(len(told)))]
        facts = [FEATS[f][2].format(thing=t, person=p, year=y) for f, t, p, y in told]
        hay = split(topics.topics[str(draw.choice(HAY))], "sentence").texts
        start = int(draw.integers(max(len(hay) - SENTENCES, 1)))
        lines = hay[start : start + SENTENCES]
        for fact in facts:
            lines.insert(int(draw.integers(len(lines) + 1)), fact)
        yield {
            "question": FEATS[feat][1].format(thing=thing),
            "context": " ".join(lines),
            "answer": FEATS[feat][2].format(thing=thing, person=person, year=year),
        }
