"""How hard a point is to write, by its line of the skeleton; and the model that this picks."""

from __future__ import annotations

from collections.abc import Sequence

import regex

from tersely.sot.skeleton import Point

PARENTS = 2
"""A point that builds on so many others brings them together."""

LONG = 9
"""Words of a line that says more than a heading does."""

DETAILS = 3
"""Nested lines below a point that is several in one."""

THINKING = regex.compile(
    r"\b(?:analy[sz]|assess|calculat|compar|conclu|contrast|deriv|diagnos|estimat|evaluat|implement"
    r"|interact|interpret|optimi[sz]|predict|proof|prove|root\ cause|solv|synthes|trade-?off|why)",
    regex.IGNORECASE,
)
"""Words of lines that want thought rather than knowledge."""


def difficulty(point: Point) -> list[str]:
    """What makes a point hard, each reason in some words; none where it is easy.

    After the sub-problems of Jin et al. 2024 (https://arxiv.org/abs/2402.12280), whose models are
    picked by the difficulty that the planner tells; here its tag is one reason, and what the line
    itself shows are others.
    """
    words = len(point.text.split())
    told = {
        "its line says that it is hard": point.hard,
        f"it builds on {len(point.needs)} others": len(point.needs) >= PARENTS,
        "it asks for thought": THINKING.search(point.text) is not None,
        f"its line has {words} words": words >= LONG,
        f"it is {len(point.details)} things in one": len(point.details) >= DETAILS,
    }
    return [reason for reason, holds in told.items() if holds]


def picked(point: Point, models: Sequence[str]) -> tuple[str, str]:
    """The model that a point goes to, of some from the weakest to the strongest, and why.

    Each reason is a step up; a line that is tagged as hard goes to the strongest at once. No model
    where none is given.
    """
    reasons = difficulty(point)
    if not models:
        return "", ""
    steps = len(models) - 1 if point.hard else min(len(reasons), len(models) - 1)
    return models[steps], ", ".join(reasons)


def next_model(model: str, models: Sequence[str]) -> str:
    """Who is asked where a model failed: the next stronger one, else the one below."""
    if model not in models or len(models) < 2:
        return model
    at = models.index(model)
    return models[at + 1] if at + 1 < len(models) else models[at - 1]
