"""How faithful something shorter is to the full text: on turns held out, and for facts by cloze."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tersely.compressors.soft_reading import Begun, Rendering, length, logits
from tersely.errors import ConfigError
from tersely.facts import facts_of
from tersely.fidelity import Figures, Interval
from tersely.prompt import Span
from tersely.units import Floats, split
from tersely.weights import encode

if TYPE_CHECKING:
    from torch import Tensor

REDRAWN = 1000
"""How often turns are redrawn for an interval."""

BETWEEN = (2.5, 97.5)
"""The percentiles of redrawn means that bound an interval."""

FACTS = 40
"""Facts that are looked for in a text where none are listed."""

LEAD = 4
"""Words that stand before a fact at least where it is asked for: else the sentence before, too."""

RECITE = "Repeat what you were told, word for word."
"""The turn in which a fact is asked for."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn behind the text, and its answer, as tokens."""

    rest: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def row(self) -> tuple[int, ...]:
        return self.rest + self.answer


@dataclass(frozen=True, slots=True)
class Cloze:
    """A fact, and the text's own words up to it; both as tokens. `fact` is for people."""

    fact: str
    row: tuple[int, ...]
    size: int


def figures(
    rendering: Rendering,
    beginnings: Mapping[str, Begun],
    turns: Sequence[Turn],
    clozes: Sequence[Cloze],
    *,
    batch: int,
    seed: int,
) -> dict[str, Figures]:
    """How near each beginning comes to the first of them, which has read the full text.

    Divergence and agreement are taken at the tokens of the answers, where the model has to decide,
    over the whole vocabulary; their means over turns, with bootstrap intervals. A fact is given
    when the model, asked to repeat the text and given its words up to the fact, finds each token of
    the fact likeliest; of those that the full text makes it give, the lost ones are told.
    """
    full, *others = beginnings
    nearness = _near(rendering, beginnings, turns, batch)
    given = {name: _given(rendering, one, clozes, batch) for name, one in beginnings.items()}
    return {
        name: Figures(
            tokens=length(beginnings[name]),
            kl=_interval(nearness[name][:, 0], seed),
            agreement=_interval(nearness[name][:, 1], seed),
            facts=len(given[full]),
            lost=tuple(one for one in given[full] if one not in given[name]),
        )
        for name in others
    }


def clozes_of(rendering: Rendering, text: str, facts: Sequence[str]) -> list[Cloze]:
    """Where facts are asked for: those listed, else numbers, names, dates and more in the text.

    Raises ConfigError for a listed one that is not in the text.
    """
    spans = list(_listed(text, facts)) if facts else _thinned(list(_found(text)))
    rest = rendering.rest(RECITE)
    return [_cloze(rendering, rest, text, start, end) for start, end in spans]


def _near(
    rendering: Rendering, beginnings: Mapping[str, Begun], turns: Sequence[Turn], batch: int
) -> dict[str, Floats]:
    """The mean divergence and agreement of each turn's answer. Shape: (turns, 2) each."""
    import torch

    full, *others = beginnings
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in others}
    order = sorted(turns, key=lambda one: len(one.row))
    for at in range(0, len(order), batch):
        some = order[at : at + batch]
        with torch.inference_mode():
            wanted = [one.log_softmax(-1) for one in _answers(rendering, beginnings[full], some)]
            for name in others:
                made = _answers(rendering, beginnings[name], some)
                found[name] += [_apart(p, q) for p, q in zip(wanted, made, strict=True)]
    return {name: np.array(pairs) for name, pairs in found.items()}


def _answers(rendering: Rendering, beginning: Begun, turns: Sequence[Turn]) -> Iterator[Tensor]:
    """What the model expects at each token of the answers. Shape: (tokens, vocabulary) each."""
    made = logits(rendering.lm, beginning, [one.row[:-1] for one in turns])
    for one, turn in zip(made, turns, strict=True):
        yield one[-len(turn.answer) :].float()


def _apart(wanted: Tensor, made: Tensor) -> tuple[float, float]:
    reached = made.log_softmax(-1)
    kl = (wanted.exp() * (wanted - reached)).sum(-1).mean()
    return float(kl), float((wanted.argmax(-1) == made.argmax(-1)).float().mean())


def _given(
    rendering: Rendering, beginning: Begun, clozes: Sequence[Cloze], batch: int
) -> dict[str, None]:
    """The facts that the model gives."""
    import torch

    given: dict[str, None] = {}
    order = sorted(clozes, key=lambda one: len(one.row))
    for at in range(0, len(order), batch):
        some = order[at : at + batch]
        with torch.inference_mode():
            read = logits(rendering.lm, beginning, [one.row[:-1] for one in some])
        for one, made in zip(some, read, strict=True):
            if made[-one.size :].argmax(-1).tolist() == list(one.row[-one.size :]):
                given[one.fact] = None
    return given


def _interval(values: Floats, seed: int) -> Interval:
    draw = np.random.default_rng(seed)
    means = values[draw.integers(len(values), size=(REDRAWN, len(values)))].mean(axis=1)
    low, high = np.percentile(means, BETWEEN).tolist()
    return Interval(mean=float(values.mean()), low=low, high=high)


def _listed(text: str, facts: Sequence[str]) -> Iterator[Span]:
    for fact in facts:
        at = text.find(fact)
        if at < 0 or not fact:
            raise ConfigError(f"the fact {fact!r} does not stand in the text word for word")
        yield at, at + len(fact)


def _found(text: str) -> Iterator[Span]:
    """Facts that can be told from what stands before them, each once."""
    seen: set[str] = set()
    units = split(text, "sentence")
    for start, sentence in zip(units.starts.tolist(), units.texts, strict=True):
        for fact in facts_of(sentence):
            if fact.start and fact.text not in seen:
                seen.add(fact.text)
                yield start + fact.start, start + fact.end


def _thinned(found: Sequence[Span]) -> list[Span]:
    """As many as are asked for at most, evenly spread."""
    places = np.linspace(0, len(found) - 1, min(len(found), FACTS)).astype(int).tolist()
    return [found[i] for i in places]


def _cloze(rendering: Rendering, rest: Sequence[int], text: str, start: int, end: int) -> Cloze:
    """The fact behind its sentence's beginning, or behind the sentence before where that is short.

    The tokens of the fact are those that hold a character of it.
    """
    units = split(text, "sentence")
    own = int(np.searchsorted(units.starts, start, "right")) - 1
    if own > 0 and len(text[units.starts[own] : start].split()) < LEAD:
        own -= 1
    begins = int(units.starts[own]) if own >= 0 else 0
    ids, offsets = encode(text[begins:end], rendering.lm)
    size = int((offsets[:, 1] > start - begins).sum())
    return Cloze(text[start:end], (*rest, *ids.tolist()), size)
