"""How much the words of a question look at each token of a text: one pass, ended early.

Some attention heads of a language model look from a question back at what answers it. Read the
texts and then the question, take these heads' attention in the layers that see relevance, and
stop: the layers after them, and the vocabulary, are never computed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tersely.compressors.memory import Memory, key_of
from tersely.compressors.paced import Pace
from tersely.compressors.self_information import BATCH, TokenScores, opening
from tersely.contracts import Context
from tersely.errors import ModelError
from tersely.units import Floats, Ints, split
from tersely.weights import CausalLM, causal_lm, encode

if TYPE_CHECKING:
    import torch

Head = tuple[int, int]
"""A layer and a head in it, counted from 0."""

WINDOW = 1024
"""Tokens of text that are read together with the question: they compete for its attention."""

TAIL = 192
"""Tokens of the question that are read at most, from its end."""

ASKED = "\n\nQuestion: {question}\nAnswer:"
"""What follows the texts."""

APART = "\n\n"
"""What stands between two texts."""

REMEMBERED = 1_000_000
"""Tokens whose scores are kept for the next time."""

MEMORY: Memory[TokenScores] = Memory(REMEMBERED)
PACE = Pace()


def attention(
    texts: Sequence[str], question: str, lm: str, heads: Sequence[Head], context: Context
) -> list[TokenScores]:
    """The attention that each token of each text gets from the question, summed over heads.

    Texts are read in windows, the question after each; windows of like length are read
    together. Scores of texts that were read lately with the same question are remembered, as
    long as they stand among the same texts. Raises OutOfTime between two calls of the model, and
    ModelError for a model whose attention can't be taken.
    """
    model = causal_lm(lm)
    named = ",".join(f"{layer}.{head}" for layer, head in heads)
    keys = [key_of(lm, named, question, str(i), *texts) for i in range(len(texts))]
    known = [MEMORY.get(key) for key in keys]
    found = [scores for scores in known if scores is not None]
    if len(found) == len(texts):
        return found
    check(model)
    read = _Reading(model, tuple(heads), question, context).of(texts)
    for key, scores in zip(keys, read, strict=True):
        MEMORY.put(key, scores)
    return read


@dataclass(frozen=True, slots=True)
class _Reading:
    """One set of texts that is read with one question."""

    lm: CausalLM
    heads: tuple[Head, ...]
    question: str
    context: Context

    def of(self, texts: Sequence[str]) -> list[TokenScores]:
        """The attention to each token of each text."""
        encoded = [encode(text, self.lm) for text in texts]
        apart = encode(APART, self.lm)[0]
        ids = np.concatenate([np.append(own, apart) for own, _ in encoded])
        edges = _edges(len(ids), _breaks(texts, [offsets for _, offsets in encoded], len(apart)))
        scores = np.zeros(len(ids))
        for start, end, found in self._read(ids, edges):
            scores[start:end] = found.sum(axis=0)
        cuts = np.cumsum([len(own) + len(apart) for own, _ in encoded])[:-1]
        return [
            TokenScores(offsets[:, 0], offsets[:, 1], own[: len(offsets)])
            for (_, offsets), own in zip(encoded, np.split(scores, cuts), strict=True)
        ]

    def _read(self, ids: Ints, edges: Sequence[int]) -> Iterator[tuple[int, int, Floats]]:
        """Each window with the attention of every head to its tokens. Shape: (heads, tokens)."""
        asked, _ = encode(ASKED.format(question=self.question.strip()), self.lm)
        tail = asked[-TAIL:]
        size = lambda window: window[1] - window[0] + len(tail)  # noqa: E731
        reader = (self.lm, self.heads)
        windows = list(pairwise(edges))
        for some in PACE.batches(windows, size, BATCH, reader=reader, context=self.context):
            found = looks(self.lm, [ids[start:end] for start, end in some], tail, self.heads)
            for (start, end), scores in zip(some, found, strict=True):
                yield start, end, scores


def looks(lm: CausalLM, texts: Sequence[Ints], tail: Ints, heads: Sequence[Head]) -> list[Floats]:
    """How much a tail looks at each token of the text that it follows, by each head.

    The attention of all tokens of the tail is added up. Layers after the last head's are not
    computed. Shape: (heads, tokens of the text) each.
    """
    import torch

    width = max(len(text) for text in texts) + len(tail) + 1
    rows = np.zeros((len(texts), width), np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text) + len(tail) + 1] = np.concatenate(([opening(lm)], text, tail))
    ends = torch.tensor([[len(text) + 1] for text in texts], device=lm.device)
    asking = ends + torch.arange(len(tail), device=lm.device)
    with torch.inference_mode():
        weights = _attended(lm, torch.from_numpy(rows).to(lm.device), asking, heads)
        sums = weights.sum(2).cpu().numpy().astype(np.float64)
    return [one[:, 1 : len(text) + 1] for one, text in zip(sums, texts, strict=True)]


def _attended(
    lm: CausalLM, ids: torch.Tensor, asking: torch.Tensor, heads: Sequence[Head]
) -> torch.Tensor:
    """The attention of some rows in some heads.

    Rows are padded at their end, where causal attention does not look: no mask is needed to read
    them. Shape: (batch, tokens), (batch, asking) -> (batch, heads, asking, tokens).
    """
    import torch

    base = lm.model.base_model
    hidden = lm.model.get_input_embeddings()(ids)
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    around = base.rotary_emb(hidden, positions)
    by_layer = {layer: [h for at, h in heads if at == layer] for layer, _ in heads}
    found: dict[int, torch.Tensor] = {}
    for at, layer in enumerate(base.layers[: max(by_layer) + 1]):
        if at in by_layer:
            found[at] = _in_layer(layer, hidden, around, asking, by_layer[at])
        if at < max(by_layer):
            made = layer(hidden, position_ids=positions, position_embeddings=around)
            hidden = made[0] if isinstance(made, tuple) else made
    order = [(layer, by_layer[layer].index(head)) for layer, head in heads]
    return torch.stack([found[layer][:, at] for layer, at in order], dim=1)


def _in_layer(
    layer: Any, hidden: torch.Tensor, around: Any, asking: torch.Tensor, heads: Sequence[int]
) -> torch.Tensor:
    """The attention of some rows in some heads of one layer, after softmax."""
    import torch

    attention = layer.self_attn
    turn = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    row = torch.arange(len(asking), device=asking.device)[:, None]
    normed = layer.input_layernorm(hidden)
    queries = _split(attention, "q", normed[row, asking])
    keys = _split(attention, "k", normed)
    cos, sin = (part.expand(len(asking), -1, -1) for part in around)
    queries = turn(queries, queries, cos[row, asking], sin[row, asking])[0][:, list(heads)]
    keys = turn(keys, keys, cos, sin)[0]
    shared = attention.num_key_value_groups
    keys = keys[:, [head // shared for head in heads]]
    weights = (queries @ keys.transpose(-1, -2)).float() * attention.scaling
    later = torch.arange(hidden.shape[1], device=asking.device) > asking[:, None, :, None]
    shares: torch.Tensor = weights.masked_fill(later, float("-inf")).softmax(-1)
    return shares


def _split(attention: Any, which: str, states: torch.Tensor) -> torch.Tensor:
    """Queries or keys by head. Shape: (batch, tokens, width) -> (batch, heads, tokens, size)."""
    made: torch.Tensor = getattr(attention, f"{which}_proj")(states)
    made = made.view(*states.shape[:2], -1, attention.head_dim)
    norm = getattr(attention, f"{which}_norm", None)
    return (made if norm is None else norm(made)).transpose(1, 2)


def _edges(size: int, breaks: Ints) -> list[int]:
    """Where windows begin and end: of nearly the same length, between documents if they can."""
    count = -(-size // WINDOW)
    edges = [0]
    for wanted in np.linspace(0, size, count + 1)[1:-1]:
        near = breaks[np.abs(breaks - wanted) <= WINDOW // 4]
        edges.append(int(near[np.abs(near - wanted).argmin()] if len(near) else wanted))
    return sorted({*edges, size})


def _breaks(texts: Sequence[str], offsets: Sequence[Ints], apart: int) -> Ints:
    """The tokens with which documents begin, counted through all texts."""
    breaks: list[Ints] = []
    before = 0
    for text, own in zip(texts, offsets, strict=True):
        starts = split(text, "paragraph").starts
        breaks.append(np.searchsorted(own[:, 1], starts, "right") + before)
        before += len(own) + apart
    return np.concatenate(breaks)


def check(lm: CausalLM) -> None:
    """Raise ModelError when the attention of a model can't be taken."""
    base = lm.model.base_model
    attention = getattr(next(iter(getattr(base, "layers", [])), None), "self_attn", None)
    parts = ("q_proj", "k_proj", "head_dim", "num_key_value_groups", "scaling")
    lacking = [part for part in parts if not hasattr(attention, part)]
    if not hasattr(base, "rotary_emb") or lacking:
        raise ModelError(
            f"the attention of a {type(base).__name__} can't be taken: take a model of the Llama,"
            " Qwen or Mistral family"
        )
