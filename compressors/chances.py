"""How likely a trained classifier is to keep each token of a text, in one pass over the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from tersely.compressors.memory import Memory, key_of
from tersely.compressors.paced import Pace, width_of
from tersely.compressors.self_information import TokenScores
from tersely.contracts import Context
from tersely.errors import ModelError
from tersely.models import resolve
from tersely.units import Floats, Ints, Unit, Units, blanks, split
from tersely.weights import TokenClassifier, encode, plain, token_classifier

if TYPE_CHECKING:
    import torch

Pool = Literal["mean", "max"]
"""How the chances of its tokens make the chance of a unit."""

WINDOW = 512
"""Tokens that are read together at most: what classifiers of this sort are trained on."""

NEAR = 64
"""How far from its even share of the tokens a window looks for the end of a sentence."""

BATCH = 4096
"""Tokens in one call of the model."""

REMEMBERED = 1_000_000
"""Tokens whose chances are kept for the next time."""


class Chances(TokenScores):
    """The chance of each token to be kept, and the characters that it belongs to."""

    __slots__ = ()

    def of(self, units: Units, pool: Pool = "mean") -> Floats:
        """The chance of each unit; 0 for one that the classifier does not see. Shape: (units,)."""
        first = np.searchsorted(self.ends, units.starts, "right")
        after = np.searchsorted(self.starts, units.ends, "left")
        if pool == "mean":
            sums = np.append(0, np.cumsum(self.scores))
            return np.asarray((sums[after] - sums[first]) / np.maximum(after - first, 1))
        ranges = np.column_stack((first, after)).ravel()
        if not len(ranges):
            return np.zeros(0)
        highest = np.maximum.reduceat(np.append(self.scores, 0), ranges)[::2]
        return np.where(after > first, highest, 0.0)


MEMORY: Memory[Chances] = Memory(REMEMBERED)
"""A text that is scored again is not read again."""

PACE = Pace()
"""So that work which can't be done in time is not begun."""


def chances_of(texts: Sequence[str], name: str, context: Context) -> list[Chances]:
    """The chances of all tokens of every text, each different text read once.

    Chances of texts that were seen lately are remembered. Raises OutOfTime between two calls of
    the model, and what `tersely.weights.token_classifier` raises.
    """
    classifier, folder = _binary(name), str(resolve(name))
    keys = [key_of(folder, text) for text in texts]
    known = {key: MEMORY.get(key) for key in keys}
    new = {key: text for key, text in zip(keys, texts, strict=True) if known[key] is None}
    for key, read in zip(new, chances(list(new.values()), classifier, context), strict=True):
        MEMORY.put(key, read)
        known[key] = read
    return [found for key in keys if (found := known[key]) is not None]


def chances(
    texts: Sequence[str], classifier: TokenClassifier, context: Context
) -> Iterator[Chances]:
    """The chances of all tokens of some texts, read as one set of windows."""
    tokens = [tokens_of(text, classifier) for text in texts]
    cut = [
        _Window(i, start, one.ids[start:end])
        for i, (one, text) in enumerate(zip(tokens, texts, strict=True))
        for start, end in windows(text, one, classifier.max_length - _special(classifier))
    ]
    found = [np.zeros(len(one.ids)) for one in tokens]
    size = lambda window: _width(window, classifier)  # noqa: E731
    for batch in PACE.batches(cut, size, BATCH, reader=classifier, context=context, even=True):
        for window, read in zip(batch, _read(batch, classifier), strict=True):
            found[window.text][window.start : window.start + len(read)] = read
    for one, read in zip(tokens, found, strict=True):
        yield Chances(one.starts[one.solid], one.ends[one.solid], read[one.solid])


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text, white space at their beginning left out. Shape: (tokens,) each."""

    ids: Ints
    starts: Ints
    ends: Ints

    @property
    def solid(self) -> Ints:
        """Those that hold more than white space."""
        return np.flatnonzero(self.starts < self.ends)


def tokens_of(text: str, classifier: TokenClassifier) -> Tokens:
    """A text as the classifier reads it."""
    ids, offsets = encode(text, classifier)
    solid = np.append(np.flatnonzero(~blanks(text)), len(text))
    starts = solid[np.searchsorted(solid, offsets[:, 0])]
    return Tokens(ids, np.minimum(starts, offsets[:, 1]), offsets[:, 1])


def windows(text: str, tokens: Tokens, longest: int) -> list[tuple[int, int]]:
    """Ranges of tokens that are read together: of like length, cut between sentences if it goes."""
    longest = min(longest, WINDOW)
    size = len(tokens.ids)
    cuts = [0]
    while size - cuts[-1] > longest:
        cuts.append(_cut(text, tokens.starts, cuts[-1], longest))
    return list(pairwise([*cuts, size])) if size else []


def around(classifier: TokenClassifier) -> tuple[Ints, Ints]:
    """The special tokens that stand before and after every input."""
    encoded = plain(classifier.tokenizer).encode("a", add_special_tokens=True)
    own = np.flatnonzero(np.array(encoded.special_tokens_mask) == 0)
    ids = np.array(encoded.ids, np.int64)
    return ids[: own[0]], ids[own[-1] + 1 :]


@cache
def _special(classifier: TokenClassifier) -> int:
    """How many special tokens an input has."""
    return sum(map(len, around(classifier)))


def _cut(text: str, starts: Ints, at: int, longest: int) -> int:
    """Where a window that begins at a token ends: near to an even share of what is left."""
    left = len(starts) - at
    aim = at + -(-left // -(-left // longest))
    low, high = max(aim - NEAR, at + 1), min(aim + NEAR, at + longest, len(starts) - 1)
    passage = text[starts[low] : starts[high]]
    units: tuple[Unit, ...] = ("sentence", "word")
    for unit in units:
        inside = split(passage, unit).starts[1:] + starts[low]
        if len(places := np.searchsorted(starts, inside)):
            return int(places[np.argmin(np.abs(places - aim))])
    return aim


@dataclass(frozen=True, slots=True)
class _Window:
    """Some tokens of a text, from `start` on."""

    text: int
    start: int
    ids: Ints


def _read(batch: Sequence[_Window], classifier: TokenClassifier) -> list[Floats]:
    """The chances of each window's tokens."""
    import torch

    before, after = around(classifier)
    inputs = [np.concatenate((before, window.ids, after)) for window in batch]
    ids, mask = padded(inputs, classifier, _width(batch[0], classifier))
    with torch.inference_mode():
        logits = classifier.model(input_ids=ids, attention_mask=mask).logits.float()
        kept = (logits[..., 1] - logits[..., 0]).double().sigmoid().cpu().numpy()
    return [
        row[len(before) : len(before) + len(window.ids)]
        for row, window in zip(kept, batch, strict=True)
    ]


def _width(window: _Window, classifier: TokenClassifier) -> int:
    """The tokens that an input is filled up to, special ones included."""
    return width_of(len(window.ids) + _special(classifier), classifier.max_length)


def padded(
    inputs: Sequence[Ints], classifier: TokenClassifier, width: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs as one batch, and where they are not filled up. Shape: (inputs, longest) each.

    They are filled up to `width` if it is more than the longest has.
    """
    import torch

    sizes = np.array([len(one) for one in inputs])
    mask = np.arange(max(width, sizes.max())) < sizes[:, None]
    ids = np.full(mask.shape, classifier.tokenizer.pad_token_id or 0, np.int64)
    ids[mask] = np.concatenate(inputs)
    device = classifier.device
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask.astype(np.int64)).to(device)


def _binary(name: str) -> TokenClassifier:
    """The classifier of that name. Raises ModelError when it does not choose between two."""
    classifier = token_classifier(name)
    if classifier.model.config.num_labels != 2:
        raise ModelError(
            f"{name!r} sorts tokens into {classifier.model.config.num_labels} classes:"
            " a classifier of two is needed, drop and keep"
        )
    return classifier
