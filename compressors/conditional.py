"""How likely a question is after each text: how well the text answers it, in one read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tersely.compressors.memory import key_of
from tersely.compressors.self_information import (
    MEMORY,
    PREFIX,
    Conditioned,
    TokenScores,
    Window,
    opening,
    read,
    windows,
)
from tersely.contracts import Context
from tersely.units import Floats, Ints
from tersely.weights import CausalLM, causal_lm, encode

AFTER = "after"
"""Sets what is remembered of a tail after a text apart from what is remembered of texts."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one read of a text tells: its own surprise, and that of a tail spoken after it."""

    own: TokenScores
    tail: TokenScores

    @property
    def likelihood(self) -> float:
        """The mean log-likelihood of the tail after the text; 0 for an empty one."""
        return float(-self.tail.scores.mean()) if len(self.tail) else 0.0


def answerability(texts: Sequence[str], tail: str, lm: str, context: Context) -> Floats:
    """The mean log-likelihood of a tail after each text. Shape: (texts,)."""
    return np.array([one.likelihood for one in with_tail(texts, tail, lm, context)])


def with_tail(texts: Sequence[str], tail: str, lm: str, context: Context) -> list[Heard]:
    """Score every token of every text, and of a tail that follows it, in one read of both.

    A text longer than a window is read in several, each followed by the tail: the window after
    which the tail is likeliest counts. A tail of more than PREFIX tokens is read from its end.
    What was read is remembered; the scores of the texts are those that `surprise` gives. Raises
    OutOfTime between two calls of the model.
    """
    return with_tails([(text, tail) for text in texts], lm, context)


def with_tails(asked: Sequence[Conditioned], lm: str, context: Context) -> list[Heard]:
    """The same for texts that are each followed by a tail of their own."""
    model = causal_lm(lm)
    keys = [(key_of(lm, "", text), key_of(lm, text, tail, AFTER)) for text, tail in asked]
    known = {key: found for key in keys if (found := _remembered(*key))}
    new = {key: one for key, one in zip(keys, asked, strict=True) if key not in known}
    for key, heard in zip(new, _hear(list(new.values()), model, context), strict=True):
        known[key] = heard
        MEMORY.put(key[0], heard.own)
        MEMORY.put(key[1], heard.tail)
    return [known[key] for key in keys]


def _remembered(own: bytes, tail: bytes) -> Heard | None:
    """What was read before, if all of it is still known."""
    text, said = MEMORY.get(own), MEMORY.get(tail)
    return None if text is None or said is None else Heard(text, said)


def _hear(asked: Sequence[Conditioned], lm: CausalLM, context: Context) -> list[Heard]:
    """The scores of some texts and of the tail after each."""
    encoded = [encode(text, lm) for text, _ in asked]
    tails = {tail: encode(tail, lm) for tail in dict.fromkeys(tail for _, tail in asked)}
    said = [tails[tail][0][-PREFIX:] for _, tail in asked]
    cut = [w for i, (ids, _) in enumerate(encoded) for w in _followed(i, ids, said[i], lm)]
    nats = [np.zeros(len(ids)) for ids, _ in encoded]
    best = [np.full(len(one), np.inf) for one in said]
    for window, scores in read(cut, lm, context, before=np.zeros(0, np.int64)):
        own, after = np.split(scores, [len(scores) - len(said[window.text])])
        nats[window.text][window.start : window.start + len(own)] = own
        if after.sum() < best[window.text].sum():
            best[window.text] = after
    return [
        Heard(_scored(spans, own), _scored(tails[tail][1][-PREFIX:], after))
        for (_, spans), (_, tail), own, after in zip(encoded, asked, nats, best, strict=True)
    ]


def _followed(text: int, ids: Ints, said: Ints, lm: CausalLM) -> list[Window]:
    """The windows of a text, each with the tail at its end."""
    first = np.array([opening(lm)])
    own = list(windows(text, ids, first, lm)) or [Window(text, 0, first, 1)]
    return [replace(window, ids=np.concatenate((window.ids, said))) for window in own]


def _scored(offsets: Ints, nats: Floats) -> TokenScores:
    return TokenScores(offsets[:, 0], offsets[:, 1], nats)
