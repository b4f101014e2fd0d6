"""How many demonstrations a question needs, and which are nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tersely.artefact import PAGE, About, check_model, load, page
from tersely.errors import ModelError, require
from tersely.lexical import relevance
from tersely.models import resolve
from tersely.units import Floats
from tersely.weights import encoder

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Sequential

RECIPE = "dynaicl"

Choose = Literal["nearest", "lexical", "first"]
"""Which demonstrations go first: nearest by the encoder, by their words, or as they stand."""


def nearness(texts: Sequence[str], question: str, choose: Choose, model: str) -> Floats:
    """What each demonstration is worth to a question; without one the first are worth most.

    Shape: (texts,).
    """
    if choose == "first" or not question.strip() or not texts:
        return -np.arange(len(texts), dtype=np.float64)
    if choose == "lexical":
        return relevance(texts, question)
    vectors = encoder(model).vectors([question, *texts]).astype(np.float64)
    return np.asarray(vectors[1:] @ vectors[0], np.float64)


def ready(choose: Choose, model: str) -> None:
    """Raise MissingExtra, UnknownName or ModelError when the choice can't be made here."""
    if choose == "nearest":
        require("sentence_transformers", extra="rag")
        resolve(model)


def looks(questions: Sequence[str]) -> Floats:
    """What a question looks like: its length, its words, how long they are, its digits.

    Shape: (questions, 4).
    """
    rows = []
    for text in questions:
        words = text.split()
        digits = sum(map(str.isdigit, text)) / max(len(text), 1)
        sizes = [np.log1p(len(text)), np.log1p(len(words))]
        rows.append([*sizes, len("".join(words)) / max(len(words), 1), digits])
    return np.array(rows, np.float64).reshape(-1, 4)


def perceptron(wide: int, hidden: int, classes: int, seed: int) -> Sequential:
    """A network of one hidden layer, the same for the same seed."""
    import torch
    from torch.nn import Linear, ReLU, Sequential

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return Sequential(Linear(wide, hidden), ReLU(), Linear(hidden, classes))


@dataclass(frozen=True, slots=True, eq=False)
class Controller:
    """Tells how many demonstrations questions need.

    `ladder` are the numbers that it chooses from, `model` is its encoder, and `tensors` hold the
    network and what the looks of questions are measured against.
    """

    ladder: tuple[int, ...]
    model: str
    tensors: dict[str, Tensor]

    def counts(self, questions: Sequence[str], sure: float) -> list[int]:
        """The smallest number for each question that is enough with a probability of `sure`."""
        import torch

        network = perceptron(*self._sizes(), seed=0)
        network.load_state_dict(self._part("network."))
        with torch.inference_mode():
            chances = network(self.inputs(questions)).softmax(-1).cumsum(-1)
        rungs = (chances < sure).sum(-1).clamp(max=len(self.ladder) - 1)
        return [self.ladder[rung] for rung in rungs.tolist()]

    def inputs(self, questions: Sequence[str]) -> Tensor:
        """What the network reads of each question. Shape: (questions, width)."""
        import torch

        plain = torch.from_numpy(looks(questions)).float()
        plain = (plain - self.tensors["looks.mean"]) / self.tensors["looks.deviation"]
        return torch.cat((torch.from_numpy(encoder(self.model).vectors(questions)), plain), 1)

    def _part(self, name: str) -> dict[str, Tensor]:
        found = [(key, t) for key, t in self.tensors.items() if key.startswith(name)]
        return {key.removeprefix(name): t for key, t in found}

    def _sizes(self) -> tuple[int, int, int]:
        first, last = self.tensors["network.0.weight"], self.tensors["network.2.weight"]
        return first.shape[1], first.shape[0], last.shape[0]


def controller(folder: str) -> Controller:
    """A trained controller; read once as long as it stays the same.

    Raises MissingExtra, UnknownName, and ModelError that tells what is missing or wrong.
    """
    path = Path(folder).expanduser()
    page(path, RECIPE)
    return _read(path, (path / PAGE).stat().st_mtime_ns)


@cache
def _read(path: Path, changed: int) -> Controller:
    about, tensors = load(path, RECIPE)
    check_model(about, resolve(about.model))
    return _of(about, tensors)


def _of(about: About, tensors: dict[str, Any]) -> Controller:
    try:
        made = Controller(tuple(about.settings["ladder"]), about.model, tensors)
        fitting = made._sizes()[2] == len(made.ladder)
    except (KeyError, IndexError, TypeError) as error:
        raise ModelError(f"the controller is damaged: {error!r}; train it again") from error
    if not fitting:
        raise ModelError("the controller is damaged: its ladder has another length; train it again")
    return made
