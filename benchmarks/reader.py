"""A small model that reads what pruning left: how likely it finds the answer, and what it says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from tersely.weights import caching, causal_lm, empty_cache

ASKED = "Answer the question from the text.\n\n{context}\n\nQuestion: {question}\nAnswer:"
ANSWER_TOKENS = 128
"""Tokens of an answer that are scored."""

SAID_TOKENS = 16
SPELLINGS = 2
"""Spellings of an answer that are scored: the likeliest counts."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The mean log-likelihood of an answer's tokens in nats, and what the model said itself."""

    likelihood: float
    said: str = ""


class Reader:
    """Reads a prompt once, then scores its answers and, if asked, answers itself."""

    def __init__(self, model: str) -> None:
        self.lm = causal_lm(model)

    def read(
        self, context: str, question: str, answers: Sequence[str], *, speak: bool = False
    ) -> Reading:
        import torch

        ids = self._ids(ASKED.format(context=context, question=question))
        ids = [self.lm.tokenizer.bos_token_id or 0, *ids[-(self.lm.max_length - 256) :]]
        with torch.inference_mode():
            cache = empty_cache(self.lm)
            base = self.lm.model.base_model
            base(torch.tensor([ids[:-1]]), **caching(base, cache))
            spellings = list(dict.fromkeys(answers))[:SPELLINGS]
            best = max(self._likelihood(ids[-1], answer, cache) for answer in spellings)
            return Reading(best, self._said(ids[-1], cache) if speak else "")

    def _likelihood(self, last: int, answer: str, cache: Any) -> float:
        import torch

        wanted = self._ids(f" {answer.strip()}")[:ANSWER_TOKENS]
        base = self.lm.model.base_model
        own = deepcopy(cache)  # the next answer goes on from the same place
        hidden = base(torch.tensor([[last, *wanted]]), **caching(base, own)).last_hidden_state
        logits = self.lm.model.get_output_embeddings()(hidden[0, :-1]).float()
        found = logits.log_softmax(-1)[range(len(wanted)), wanted]
        return float(found.mean())

    def _said(self, last: int, cache: Any) -> str:
        """The first line that the model itself would write."""
        import torch

        made: list[int] = []
        ends = {self.lm.tokenizer.eos_token_id}
        while len(made) < SAID_TOKENS and last not in ends:
            row = torch.tensor([[last]])
            logits = self.lm.model(row, **caching(self.lm.model, cache)).logits
            last = int(logits[0, -1].argmax())
            made.append(last)
        told: str = self.lm.tokenizer.decode(made, skip_special_tokens=True)
        return told.strip().partition("\n")[0]

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.lm.tokenizer(text, add_special_tokens=False).input_ids
        return found


def exact(said: str, answers: Sequence[str]) -> float:
    """Whether what was said is one of the answers, as SQuAD compares them."""
    return float(any(_words(said) == _words(answer) for answer in answers))


def overlap(said: str, answers: Sequence[str]) -> float:
    """F1 of the words said and the words of the nearest answer, as SQuAD counts it."""
    return max(_f1(_words(said), _words(answer)) for answer in answers)


def _f1(said: list[str], wanted: list[str]) -> float:
    both = sum((Counter(said) & Counter(wanted)).values())
    return 2 * both / (len(said) + len(wanted)) if both else 0.0


def _words(text: str) -> list[str]:
    plain = re.sub(r"\b(a|an|the)\b", " ", re.sub(r"[^\w\s]", "", text.lower()))
    return plain.split()
