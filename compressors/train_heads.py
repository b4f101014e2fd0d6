"""Find the attention heads of a model that look at what answers a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from tersely.artefact import About, save, weights_hash
from tersely.calibration import RECIPE
from tersely.compressors.heads import ASKED, TAIL, WINDOW, Head, check, looks
from tersely.compressors.riddles import riddles
from tersely.compressors.self_information import TokenScores
from tersely.documents import documents_of
from tersely.errors import ConfigError, require
from tersely.lexical import standardised
from tersely.models import resolve
from tersely.nearby import smoothed
from tersely.training import Row, TrainerModel, Training
from tersely.units import Bools, Floats, split
from tersely.weights import CausalLM, causal_lm, encode

CANDIDATES = 24
"""Heads that are tried together: the best by themselves."""

WITHIN = 0.25
"""The share of the text within which an answer is to be found."""

REACH = 500.0
"""Characters over which neighbours count, as in the recipe."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What every head sees in one text. Shape: (heads, sentences), (sentences,) twice."""

    looks: Floats
    answers: Bools
    sizes: Floats

    def worth(self, heads: Sequence[int]) -> float:
        """How high the best sentence that answers is ranked, and whether it is within reach."""
        order = np.argsort(-self.looks[list(heads)].sum(axis=0), kind="stable")
        rank = int(np.flatnonzero(self.answers[order])[0])
        before = float(self.sizes[order][:rank].sum()) / float(self.sizes.sum())
        return 1 / (1 + rank) + (before <= WITHIN)


class HeadsTrainer(TrainerModel):
    """Finds which heads of a model look from a question back at what answers it.

    Rows hold a `question`, a `context` and an `answer` that stands in it word for word; without
    rows they are made up. Heads in the first `depth` of the layers are tried one by one, then
    the best together, as long as one more of them ranks the sentences that answer higher. The
    figures were measured on the same questions: `worth` is the mean reciprocal rank of the
    sentence that answers, plus how often it is within a quarter of the text.
    """

    name = "heads"
    needs = frozenset({"causal_lm"})
    paper = "after EHPC, https://arxiv.org/abs/2501.12959"
    columns: ClassVar[tuple[str, ...]] = ("question", "context", "answer")

    model: str = "smollm2"
    depth: float = Field(default=0.65, gt=0, le=1)
    most: int = Field(default=6, ge=1)
    questions: int = Field(default=40, ge=4)

    def ready(self) -> None:
        require("torch", "transformers", extra="local")
        resolve(self.model)

    def train(self, training: Training, /) -> Path:
        lm = causal_lm(self.model)
        check(lm)
        layers = int(lm.model.config.num_hidden_layers)
        heads = [
            (layer, head)
            for layer in range(max(1, int(layers * self.depth)))
            for head in range(int(lm.model.config.num_attention_heads))
        ]
        seen = list(self._seen(training, lm, heads))
        if not seen:
            raise ConfigError("no row holds its answer word for word in its context")
        chosen, worth = _together(seen, self.most)
        about = About(
            recipe=RECIPE,
            model=self.model,
            model_sha256=weights_hash(resolve(self.model)),
            settings={"heads": [heads[i] for i in chosen], "layers": layers},
            figures={"worth": worth, "worth of the best alone": _mean(seen, chosen[:1])},
            rows=len(seen),
        )
        return save(training.out, about)

    def _seen(self, training: Training, lm: CausalLM, heads: Sequence[Head]) -> Iterator[_Seen]:
        """What the heads see in each row; rows that were read before are not read again."""
        import torch

        rows = list(training.rows) or list(riddles(self.questions, self.seed))
        checkpoints = self.checkpoints(training)
        found = checkpoints.load()
        looked = {int(n): t.numpy() for n, t in found[0].items()} if found else {}
        for at, row in enumerate(rows):
            units = split(str(row["context"]), "sentence")
            answers = np.array([str(row["answer"]) in text for text in units.texts], np.bool_)
            if not answers.any():
                continue
            if at not in looked:
                looked[at] = _looked(row, lm, heads)
                if at % 10 == 9:
                    tensors = {str(n): torch.from_numpy(one) for n, one in looked.items()}
                    checkpoints.save(tensors, {})
            yield _Seen(looked[at], answers, (units.ends - units.starts).astype(np.float64))
            training.progress(at + 1, len(rows), {})
        checkpoints.clear()


def _looked(row: Row, lm: CausalLM, heads: Sequence[Head]) -> Floats:
    """How much each head looks at each sentence and its neighbours. Shape: (heads, sentences)."""
    text = str(row["context"])
    ids, offsets = encode(text, lm)
    tail = encode(ASKED.format(question=str(row["question"]).strip()), lm)[0][-TAIL:]
    units = split(text, "sentence")
    found = [
        looks(lm, [ids[start : start + WINDOW]], tail, heads)[0]
        for start in range(0, len(ids), WINDOW)
    ]
    groups = documents_of([units])
    sums = [
        TokenScores(offsets[:, 0], offsets[:, 1], scores).sums(units)
        for scores in np.concatenate(found, axis=1)
    ]
    return np.stack([smoothed(standardised(one), [units], groups, REACH) for one in sums])


def _together(seen: Sequence[_Seen], most: int) -> tuple[list[int], float]:
    """The heads that do best together, added one by one."""
    alone = np.array([_mean(seen, [head]) for head in range(len(seen[0].looks))])
    candidates = np.argsort(-alone, kind="stable")[:CANDIDATES].tolist()
    chosen, best = [candidates[0]], float(alone[candidates[0]])
    while len(chosen) < most:
        more = {head: _mean(seen, [*chosen, head]) for head in candidates if head not in chosen}
        if not more or max(more.values()) <= best:
            break
        added = max(more, key=lambda head: more[head])
        chosen, best = [*chosen, added], more[added]
    return chosen, best


def _mean(seen: Sequence[_Seen], heads: Sequence[int]) -> float:
    return float(np.mean([one.worth(heads) for one in seen]))
