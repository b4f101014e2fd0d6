"""How well a model goes on behind what was written, beside the same number of the text's tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tersely.compressors.asking import scored
from tersely.compressors.soft_reading import begun, spoken
from tersely.compressors.writer import Layers, Writer, batches, predicted
from tersely.compressors.writer_lessons import WriterLesson

if TYPE_CHECKING:
    from torch import Tensor

Written = Sequence["Tensor"] | Sequence[Layers]
"""What stands for some texts: vectors, or keys and values."""

SPOKEN = 16
"""Tokens of an answer that the model makes up itself."""

Choice = Callable[[WriterLesson, int], Sequence[int]]
"""The tokens of a lesson's text that stand for it, when so many may."""

BASELINES: Mapping[str, Choice] = {
    "none": lambda lesson, size: (),
    "first": lambda lesson, size: lesson.text[:size],
    "last": lambda lesson, size: lesson.text[-size:],
    "random": lambda lesson, size: by_chance(lesson.text, size),
    "full": lambda lesson, size: lesson.text,
}
"""What stands in the place of a text when nothing was learned: tokens of its own."""


def by_chance(text: Sequence[int], size: int) -> list[int]:
    """So many tokens of a text, in order; the same ones each time."""
    draw = np.random.default_rng(len(text))
    places = np.sort(draw.choice(len(text), min(size, len(text)), replace=False))
    return [text[at] for at in places.tolist()]


def fronts(writer: Writer, lessons: Sequence[WriterLesson], written: Written) -> Written:
    """What a model reads before the rest: vectors behind what stands before the text."""
    import torch

    made: list[Tensor] = []
    for lesson, one in zip(lessons, written, strict=True):
        if not isinstance(one, torch.Tensor):
            return written  # keys and values stand for what is before, too
        made.append(torch.cat((writer.embedded(lesson.before), one.to(writer.lm.dtype))))
    return made


def told(writer: Writer, lessons: Sequence[WriterLesson], written: Written) -> list[Tensor]:
    """What the plain model expects for each token that is to be told.

    Gradients reach what was written. Shape: (tokens, vocabulary) each.
    """
    rows = [lesson.rest for lesson in lessons]
    found = predicted(writer.lm, fronts(writer, lessons, written), rows)
    return [own[len(own) - len(one.told) :] for own, one in zip(found, lessons, strict=True)]


def surprises(found: Sequence[Tensor], wanted: Sequence[Sequence[int]]) -> Tensor:
    """The negative log-likelihood of each token, in nats. Shape: (tokens of all rows,)."""
    import torch
    from torch.nn.functional import cross_entropy

    logits = torch.cat(list(found)).float()
    targets = torch.tensor([token for row in wanted for token in row], device=logits.device)
    return cross_entropy(logits, targets, reduction="none")


def figures(
    writer: Writer,
    lessons: Sequence[WriterLesson],
    write: Callable[[Sequence[WriterLesson]], Written],
) -> dict[str, float]:
    """How well the model goes on behind what is written.

    `loss` and `answer_loss` are nats a token, of continuations and of answers; `f1` is how alike
    its own answers are, 0 to 1 (ROUGE-L). Those without lessons are left out.
    """
    import torch

    losses: dict[bool, list[float]] = {False: [], True: []}
    alike: list[float] = []
    with torch.inference_mode():
        for batch in batches([(*one.before, *one.text, *one.rest) for one in lessons]):
            some = [lessons[i] for i in batch]
            written = write(some)
            found = told(writer, some, written)
            for lesson, logits in zip(some, found, strict=True):
                losses[bool(lesson.answer)] += surprises([logits], [lesson.told]).tolist()
            alike += _alike(writer, some, written)
    made = {"loss": losses[False], "answer_loss": losses[True], "f1": alike}
    return {name: float(np.mean(values)) for name, values in made.items() if values}


def baseline(
    writer: Writer, lessons: Sequence[WriterLesson], sizes: Sequence[int], choice: Choice
) -> dict[str, float]:
    """The same for tokens of the text, as many as there would be vectors."""
    known = dict(zip(lessons, sizes, strict=True))
    return figures(
        writer, lessons, lambda some: [writer.embedded(choice(one, known[one])) for one in some]
    )


def _alike(writer: Writer, lessons: Sequence[WriterLesson], written: Written) -> list[float]:
    """How alike the answers of the model are to the right ones."""
    import torch

    made = []
    for lesson, front in zip(lessons, fronts(writer, lessons, written), strict=True):
        if not lesson.answer:
            continue
        if isinstance(front, torch.Tensor):
            start = begun(writer.lm, (), front)
        else:
            start = [(keys[None], values[None]) for keys, values in front]
        said = next(iter(spoken(writer.lm, start, [lesson.after], most=SPOKEN)))
        text = writer.lm.tokenizer.decode(said, skip_special_tokens=True)
        made.append(scored("rouge_l", text, [lesson.answer]))
    return made
