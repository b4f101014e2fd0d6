"""Turns about a text that the model makes itself, so that it can be learned without any data.

Self-study after Cartridges (Eyuboglu et al. 2025, https://arxiv.org/abs/2506.06266): the model is
shown pieces of the text and asked for what a user could say about each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import regex

from tersely.compressors.soft_reading import Rendering, begun, spoken
from tersely.units import split

ASKS = (
    "Write one short question about this text.",
    "Write a question of a customer or reader that only this text answers.",
    "Write a message of somebody who wants to do what this text is about.",
    "Describe in one sentence, in the first person, a problem that this text decides.",
    "Write a question that asks whether something is allowed or true, by this text.",
)
"""What the model is asked for, with a piece of the text before it."""

TEMPLATES = (
    "Complete this sentence, word for word: {half}",
    "What else belongs to this: {sentence}",
    "Is this right? {sentence}",
    "Summarise what you were told about this in one sentence: {half}",
    "What follows from this rule: {sentence}",
)
"""Turns that need no model: a sentence of the text, or the first half of one."""

PLAIN = 0.25
"""The share of turns that are made from templates."""

PIECE = 500
"""Characters of text that the model is shown at a time, at least."""

WORDS = (3, 60)
"""How many words a turn must have, and may have."""

HEAT = 0.8
"""The temperature at which the model writes turns."""

LONGEST = 40
"""Tokens of a turn that the model writes."""

ROUNDS = 4
"""How often the whole text is gone through before templates fill what is missing."""

DRESS = regex.compile(
    r"^(?:[\s\"'“”*#>-]|\d+[.)]\s|(?:here (?:is|are)|sure|certainly)[^:\n]{0,80}:"
    r"|(?:question|message|user|customer|q)\s*:)+",
    regex.IGNORECASE,
)
"""What stands before a turn and is no part of it."""


def self_study(rendering: Rendering, text: str, count: int, seed: int) -> list[str]:
    """Up to `count` different turns about a text, the same ones for the same seed.

    A share of them is made from the text's sentences alone; so is what the model does not manage.
    Few sentences make fewer turns.
    """
    plain = list(from_templates(text, seed))
    made = dict.fromkeys(plain[: round(count * PLAIN)])
    for number in range(ROUNDS):
        if len(made) >= count:
            break
        made |= dict.fromkeys(_written(rendering, text, count - len(made), seed + number))
    for turn in plain:
        if len(made) >= count:
            break
        made[turn] = None
    return list(made)[:count]


def from_templates(text: str, seed: int) -> Iterator[str]:
    """Turns that quote a sentence of the text, in an order by the seed."""
    sentences = [one.strip() for one in split(text, "sentence").texts]
    sentences = [one for one in sentences if WORDS[0] <= len(one.split()) <= WORDS[1]]
    pairs = [(one, way) for one in sentences for way in range(len(TEMPLATES))]
    for i in np.random.default_rng(seed).permutation(len(pairs)).tolist():
        sentence, way = pairs[i]
        words = sentence.split(" ")
        half = " ".join(words[: -(-len(words) // 2)])
        yield TEMPLATES[way].format(sentence=sentence, half=half)


def pieces(text: str) -> list[str]:
    """The text in runs of whole paragraphs, or of sentences where these are long."""
    made: list[str] = []
    for paragraph in split(text, "paragraph").texts:
        for part in _parts(paragraph):
            if made and len(made[-1]) < PIECE:
                made[-1] += f"\n{part}"
            else:
                made.append(part)
    return [one.strip() for one in made if one.strip()]


def _parts(paragraph: str) -> list[str]:
    whole = len(paragraph) <= 2 * PIECE
    return [paragraph] if whole else split(paragraph, "sentence").texts


def usable(said: str) -> str:
    """What of an answer is a turn: its first line without what introduces it; else nothing."""
    lines = [DRESS.sub("", line).strip().strip("\"'“”*") for line in said.splitlines()]
    line = next((one for one in lines if one), "")
    return line if WORDS[0] <= len(line.split()) <= WORDS[1] else ""


def _written(rendering: Rendering, text: str, count: int, seed: int) -> Iterator[str]:
    """What the model writes about pieces that are drawn by the seed."""
    import torch

    lm, draw = rendering.lm, np.random.default_rng(seed)
    shown = pieces(text)
    if not shown:
        return
    asked = [
        rendering.asked(f"{shown[i]}\n\n{ASKS[way]}")[: lm.max_length - LONGEST]
        for i, way in _pairs(len(shown), count, draw)
    ]
    with torch.inference_mode():
        start = begun(lm, asked[0][:1])
    rests: Sequence[Sequence[int]] = [one[1:] for one in asked]
    for said in spoken(lm, start, rests, most=LONGEST, temperature=HEAT, seed=seed):
        if turn := usable(lm.tokenizer.decode(said, skip_special_tokens=True)):
            yield turn


def _pairs(shown: int, count: int, draw: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Pieces with what is asked of each: every piece as often as any other, or once more."""
    for at in range(0, count, shown):
        order = draw.permutation(shown)[: count - at]
        ways = draw.integers(len(ASKS), size=len(order)).tolist()
        yield from zip(order.tolist(), ways, strict=True)
