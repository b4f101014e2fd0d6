"""Whether one text follows from another, by a model of natural language inference."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache

from tersely.errors import ModelError
from tersely.prompt import sendable
from tersely.weights import TokenClassifier, pair_classifier

_reading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Inference:
    """Whether a source says what a sentence says, by a classifier of pairs.

    `model` is a folder or hub id of a model trained for natural language inference: one of its
    labels must begin with `entail`. A sentence must follow from its source with the chance `least`
    at least (0 to 1). A source that is too long for the model is cut, the sentence is not. It is
    loaded on first use, once for all, and read by one thread at a time. Raises MissingExtra, and
    ModelError that tells what is wrong with the model.
    """

    model: str
    least: float = 0.5

    def __call__(self, sentence: str, source: str, /) -> bool:
        return self.chance(sentence, source) >= self.least

    def chance(self, sentence: str, source: str, /) -> float:
        """How likely it is that the sentence follows from the source, 0 to 1."""
        import torch

        loaded = pair_classifier(self.model)
        label = _entailing(self.model)
        with _reading, torch.inference_mode():  # how the tokenizer cuts is a state of its own
            read = loaded.tokenizer(
                sendable(source),
                sendable(sentence),
                truncation="only_first",
                max_length=loaded.max_length,
                return_tensors="pt",
            ).to(loaded.device)
            logits = loaded.model(**read).logits[0].float()
        return float(logits.softmax(-1)[label])


@cache
def _entailing(model: str) -> int:
    """The number of the label that says that one follows from the other."""
    loaded: TokenClassifier = pair_classifier(model)
    labels = {int(i): str(name) for i, name in loaded.model.config.id2label.items()}
    found = [i for i, name in labels.items() if name.casefold().startswith("entail")]
    if len(found) != 1:
        told = ", ".join(labels.values())
        raise ModelError(
            f"{model!r} tells {told} apart: a model of natural language inference has one label"
            " that begins with `entail`"
        )
    return found[0]
