"""First the demonstrations that help, then the words in them that matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import regex
from pydantic import Field

from tersely.compressors.controller import Choose, nearness
from tersely.compressors.controller import ready as can_choose
from tersely.compressors.policy import Pooled, policy_at, pooled, require_policy
from tersely.compressors.prune import Pruner, apart
from tersely.contracts import Context, StageModel
from tersely.documents import documents_of
from tersely.lexical import STOPWORDS, TERM
from tersely.prompt import Kind, Prompt, Segment, Span
from tersely.units import Bools, Floats, Ints, Unit, Units, split

if TYPE_CHECKING:
    from torch import Tensor

NAME = "cot_influx"
SHOTS, WORDS = "shots", "words"
"""The policy's heads."""

OPERATOR = regex.compile(r"(?<!\w)[-−+*/×÷=<>≤≥^%]{1,3}+(?!\w)|\S{0,64}?=\S{0,64}+")  # noqa: RUF001


class CoTInflux(StageModel):
    """CoT-Influx: keeps the demonstrations that help most, then the words in them that matter.

    A demonstration is what stands between blank lines. Those of the highest score are admitted
    whole until they have `coarse` times as many tokens as the budget; from these, words are
    dropped until the budget is met exactly. At `coarse=1` only whole ones are kept; a higher
    value keeps more of them with fewer words each. Numbers, operators, other facts and the last
    sentence of each demonstration, where its answer stands, go last.

    `policy` is the folder of a trained artefact (`tersely train demonstrations`). The stage is
    of use without one: then demonstrations are ranked as `choose` says (`lexical`: by the words
    they share with the question, `nearest`: by the `encoder`, `first`: as they stand), and stop
    words are dropped first, then the words that are said most often.

    What differs from the paper: the score of a demonstration knows the question; words are
    dropped rather than the encoder's tokens; selection is exact packing under one budget rather
    than a sample from the policy; the encoder is a sentence encoder.
    """

    name = NAME
    paper = "Huang et al. 2023, https://arxiv.org/abs/2312.08901"

    kinds: tuple[Kind, ...] = ("example", "context")
    policy: str = ""
    choose: Choose = "lexical"
    encoder: str = "minilm"
    coarse: float = Field(default=1.2, ge=1)

    def ready(self) -> None:
        if self.policy:
            require_policy(self.policy, self.name, "demonstrations")
        else:
            can_choose(self.choose, self.encoder)

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        if context.limit is None or context.tokens(prompt) <= context.limit:
            return prompt
        self.ready()
        shots = _Shots(policy=self.policy, choose=self.choose, encoder=self.encoder)
        if self.coarse == 1:
            return shots(prompt, context)
        closed = context.tokens(prompt.with_texts(dict.fromkeys(prompt.open, "")))
        wide = closed + int(self.coarse * max(context.limit - closed, 0))
        return _Words(policy=self.policy)(shots(prompt, context.within(wide)), context)


class _Shots(Pruner):
    """Keeps whole demonstrations."""

    name = NAME

    unit: Literal["paragraph"] = "paragraph"
    fill: Unit | None = None
    policy: str
    choose: Choose
    encoder: str

    def marks(self, segment: Segment, facts: Sequence[Span]) -> Sequence[Span]:
        """A demonstration in which something is marked is kept whole."""
        units = split(segment.text, "paragraph", atoms=[*facts, *segment.spans])
        held = units.touching(segment.spans)
        return list(zip(units.starts[held].tolist(), units.ends[held].tolist(), strict=True))

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        texts = [text for one in units for text in one.texts]
        if self.policy:
            policy = policy_at(self.policy, NAME)
            asked, *read = pooled(
                [whole(t) for t in (prompt.question, *texts)], policy.encoder, context
            )
            scores = policy.log_odds(SHOTS, features(read, asked))
        else:
            scores = nearness(texts, prompt.question, self.choose, self.encoder)
        return apart(scores, units)


class _Words(Pruner):
    """Keeps the words that matter of the demonstrations that are left."""

    name = NAME

    unit: Literal["word"] = "word"
    policy: str

    def values(self, units: Sequence[Units], prompt: Prompt, context: Context) -> Sequence[Floats]:
        if not self.policy:
            return _rarity(units)
        policy = policy_at(self.policy, NAME)
        pieces = [each for one in units for each in _by_document(one)]
        read = pooled(pieces, policy.encoder, context)
        scores = np.concatenate([policy.log_odds(WORDS, one.states) for one in read])
        return apart(scores, units)

    def ranks(self, units: Units, facts: Sequence[Span]) -> Ints:
        """What carries the reasoning goes before all other words."""
        return fixed(units, facts).astype(np.int64)


def fixed(units: Units, facts: Sequence[Span]) -> Bools:
    """The words that carry the reasoning: facts, operators, and what is said last.

    Shape: (units,).
    """
    operators = [match.span() for match in OPERATOR.finditer(units.text)]
    return units.touching([*facts, *operators, *_endings(units.text)])


def features(shots: Sequence[Pooled], asked: Pooled) -> Tensor:
    """What the head for demonstrations sees: each one, and what it has in common with the question.

    Shape: (shots, 2 * width).
    """
    import torch
    from torch.nn.functional import normalize

    width = asked.states.shape[1]
    rows = [shot_state(one) for one in shots]
    told = normalize(torch.stack(rows) if rows else torch.zeros(0, width), dim=1) * width**0.5
    question = normalize(shot_state(asked), dim=0) * width**0.5
    return torch.cat([told, told * question], dim=1)


def shot_state(read: Pooled) -> Tensor:
    """The mean state over the tokens of a text. Shape: (width,)."""
    import torch

    tokens = torch.from_numpy(read.tokens).float()
    return tokens @ read.states / tokens.sum().clamp(min=1)


def whole(text: str) -> Units:
    """A text as one unit."""
    return Units(text, np.array([0]), np.array([len(text)]))


def _endings(text: str) -> list[Span]:
    """The last sentence of each demonstration."""
    sentences = split(text, "sentence")
    numbers = documents_of([sentences])
    last = np.append(numbers[1:] != numbers[:-1], True)[: len(numbers)]
    return list(zip(sentences.starts[last].tolist(), sentences.ends[last].tolist(), strict=True))


def _by_document(units: Units) -> list[Units]:
    """The words of each demonstration, with its text alone: it is read as it was in training."""
    numbers = documents_of([units])
    groups = np.split(np.arange(len(units)), np.flatnonzero(np.diff(numbers)) + 1)
    pieces = []
    for group in groups if len(units) else []:
        start, end = int(units.starts[group[0]]), int(units.ends[group[-1]])
        text = units.text[start:end]
        pieces.append(Units(text, units.starts[group] - start, units.ends[group] - start))
    return pieces


def _rarity(units: Sequence[Units]) -> list[Floats]:
    """Stop words below all others, and each word the lower the more often it is said."""
    words = [[" ".join(TERM.findall(text.lower())) for text in one.texts] for one in units]
    often = Counter(word for row in words for word in row)
    return [
        np.array([(not STOPWORDS.fullmatch(word)) + 1 / (1 + often[word]) for word in row])
        for row in words
    ]
