"""How surprising each token of a text is to a language model, in one pass over the text."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tersely.compressors.memory import Memory, key_of
from tersely.compressors.paced import Pace, width_of
from tersely.contracts import Context
from tersely.units import Floats, Ints, Units, blanks
from tersely.weights import CausalLM, caching, causal_lm, empty_cache, encode

if TYPE_CHECKING:
    import torch

WINDOW = 512
"""Tokens that are read together: enough context, and attention stays cheap at any length."""

OVERLAP = 32
"""Tokens of context that a window repeats from the one before."""

PREFIX = 128
"""Tokens of a condition that are read at most, from its end."""

BATCH = 2048
"""Tokens in one call of the model."""

ROWS = 128
"""Tokens whose scores over the whole vocabulary are held at a time."""

REMEMBERED = 1_000_000
"""Tokens whose scores are kept for the next time."""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """A number for each token of a text, and the characters that it belongs to.

    Token `i` is `text[starts[i]:ends[i]]`. Shape: (tokens,) each.
    """

    starts: Ints
    ends: Ints
    scores: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def means(self, units: Units) -> Floats:
        """The mean over the tokens of each unit. Shape: (units,)."""
        return self.sums(units) / np.maximum(self.counts(units), 1e-9)

    def sums(self, units: Units) -> Floats:
        """The sum over the tokens of each unit. Shape: (units,)."""
        return _within(self._summed(self.scores, units.text), units)

    def counts(self, units: Units) -> Floats:
        """How many tokens each unit has, parts of tokens included. Shape: (units,)."""
        return _within(self._summed(np.ones(len(self.scores)), units.text), units)

    def _summed(self, amounts: Floats, text: str) -> Floats:
        """Sums up to each character; a token's amount is spread over its characters."""
        solid = np.append(np.flatnonzero(~blanks(text)), len(text))
        first = solid[np.searchsorted(solid, self.starts)]
        starts = np.where(first < self.ends, first, self.starts)
        width = np.maximum(self.ends - starts, 1)
        steps = np.zeros(len(text) + 2)
        np.add.at(steps, starts, amounts / width)
        np.add.at(steps, starts + width, -amounts / width)
        return np.append(0, np.cumsum(np.cumsum(steps)))


MEMORY: Memory[TokenScores] = Memory(REMEMBERED)
"""Shared by all recipes: a text that two of them score is read once."""

PACE = Pace()
"""So that work which can't be done in time is not begun."""


def _within(sums: Floats, units: Units) -> Floats:
    """What falls into each unit."""
    inside: Floats = sums[units.ends] - sums[units.starts]
    return inside


def surprise(
    texts: Sequence[str], lm: str, context: Context, *, condition: str = ""
) -> list[TokenScores]:
    """Score every token of every text given what stands before it, each text once.

    Texts are read in overlapping windows of a fixed length, batched, so that the cost grows
    with the length alone; only hidden states are kept, and the vocabulary is gone through a
    few tokens at a time. `condition` stands before a text of one window; before those of a longer
    one it is read once. Scores of texts that were seen lately are remembered. Raises OutOfTime
    between two calls of the model.
    """
    return surprises([(text, condition) for text in texts], lm, context)


Conditioned = tuple[str, str]
"""A text, and the condition on which it is read."""


def surprises(asked: Sequence[Conditioned], lm: str, context: Context) -> list[TokenScores]:
    """The same for texts that are each read on a condition of their own."""
    model = causal_lm(lm)
    keys = [key_of(lm, condition, text) for text, condition in asked]
    known = {key: MEMORY.get(key) for key in keys}
    new = {key: one for key, one in zip(keys, asked, strict=True) if known[key] is None}
    for key, scored in zip(new, _score(list(new.values()), model, context), strict=True):
        MEMORY.put(key, scored)
        known[key] = scored
    return [found for key in keys if (found := known[key]) is not None]


def _score(asked: Sequence[Conditioned], lm: CausalLM, context: Context) -> Iterator[TokenScores]:
    """The scores of some texts: those of one window are read as one set, whatever the condition."""
    encoded = [encode(text, lm) for text, _ in asked]
    before = {
        condition: np.append(opening(lm), encode(condition, lm)[0][-PREFIX:])
        for condition in dict.fromkeys(condition for _, condition in asked)
    }
    cut: dict[str, list[Window]] = {"": []}
    for i, ((ids, _), (_, condition)) in enumerate(zip(encoded, asked, strict=True)):
        own = list(windows(i, ids, before[condition], lm))
        if len(own) > 1 and condition:
            first = before[condition][-1:]
            cut.setdefault(condition, []).extend(windows(i, ids, first, lm))
        else:
            cut[""] += own
    nats = [np.zeros(len(ids)) for ids, _ in encoded]
    for condition, some in cut.items():
        ahead = before[condition][:-1] if condition else np.zeros(0, np.int64)
        for window, scores in read(some, lm, context, before=ahead):
            nats[window.text][window.start : window.start + len(scores)] = scores
    for (_, offsets), scores in zip(encoded, nats, strict=True):
        yield TokenScores(offsets[:, 0], offsets[:, 1], scores)


def read(
    cut: Sequence[Window], lm: CausalLM, context: Context, *, before: Ints
) -> Iterator[tuple[Window, Floats]]:
    """Each window with the negative log-likelihoods of its own tokens, in any order.

    `before` is read once, ahead of all windows. Raises OutOfTime between two calls of the model.
    """
    if not cut:
        return
    prefix: _Prefix | None = None
    most = lm.max_length - len(before)

    def size(window: Window) -> int:
        return width_of(len(window.ids), most)

    for batch in PACE.batches(cut, size, BATCH, reader=lm, context=context, even=True):
        prefix = prefix or _Prefix(lm, before)
        yield from zip(batch, prefix.score(batch, size(batch[0])), strict=True)


@dataclass(frozen=True, slots=True)
class Window:
    """Some tokens of a text: the first `known` are context, those from `start` on are scored."""

    text: int
    start: int
    ids: Ints
    known: int


def windows(text: int, ids: Ints, first: Ints, lm: CausalLM) -> Iterator[Window]:
    """The windows of one text, all of nearly the same length. `first` stands before its start."""
    longest = max(min(WINDOW, lm.max_length - PREFIX - 1), 2 * OVERLAP)
    count = max(1, -(-(len(ids) - OVERLAP) // (longest - OVERLAP))) if len(ids) else 0
    edges = np.linspace(0, len(ids), count + 1).astype(np.int64).tolist()
    for start, end in pairwise(edges):
        before = ids[max(start - OVERLAP, 0) : start] if start else first
        yield Window(text, start, np.concatenate((before, ids[start:end])), len(before))


class _Prefix:
    """What is read before every window: once, its keys and values shared by all."""

    def __init__(self, lm: CausalLM, ids: Ints) -> None:
        self.lm = lm
        self.past: Any = None
        if len(ids):
            import torch

            with torch.inference_mode():
                row = torch.from_numpy(ids)[None].to(lm.device)
                self.past = empty_cache(lm)
                lm.model.base_model(row, **caching(lm.model.base_model, self.past))

    def score(self, windows: Sequence[Window], width: int) -> list[Floats]:
        """The negative log-likelihoods of each window's own tokens, all filled up to a width."""
        import torch

        rows = np.zeros((len(windows), width), np.int64)
        for row, window in zip(rows, windows, strict=True):
            row[: len(window.ids)] = window.ids
        with torch.inference_mode():
            ids = torch.from_numpy(rows).to(self.lm.device)
            hidden = self._hidden(ids)
            places = np.arange(width)
            known, ends = np.array([(w.known, len(w.ids)) for w in windows]).T[..., None]
            asked = np.argwhere((known <= places) & (places < ends))
            row, at = torch.from_numpy(asked).to(ids.device).T
            nats = _nats(hidden[row, at - 1], ids[row, at], self.lm)
        sizes = [len(w.ids) - w.known for w in windows]
        return np.split(nats.cpu().numpy().astype(np.float64), np.cumsum(sizes)[:-1])

    def _hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """The last hidden states. Shape: (windows, tokens) -> (windows, tokens, width).

        Windows are padded at their end, where causal attention does not look: no mask is needed.
        """
        past = copy.deepcopy(self.past)
        if past is not None:
            past.batch_repeat_interleave(len(ids))
        read = self.lm.model.base_model(ids, **caching(self.lm.model.base_model, past))
        hidden: torch.Tensor = read.last_hidden_state
        return hidden


def _nats(hidden: torch.Tensor, ids: torch.Tensor, lm: CausalLM) -> torch.Tensor:
    """The negative log-likelihood of each id. Shape: (rows, width), (rows,) -> (rows,)."""
    import torch

    head = lm.model.get_output_embeddings()
    found = []
    for at in range(0, len(ids), ROWS):
        logits = head(hidden[at : at + ROWS]).float()
        wanted = ids[at : at + ROWS, None]
        found.append(logits.logsumexp(-1) - logits.gather(-1, wanted)[:, 0])
    return torch.cat(found)


def opening(lm: CausalLM) -> int:
    """The token that stands before the first one of a text."""
    known = (lm.tokenizer.bos_token_id, lm.tokenizer.eos_token_id)
    return next((int(token) for token in known if token is not None), 0)
