"""A small network on a frozen encoder that says what is worth keeping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import regex

from tersely.artefact import TENSORS, About, check_model, load, page, save, weights_hash
from tersely.compressors.paced import Pace
from tersely.contracts import Context
from tersely.errors import ModelError, require
from tersely.models import resolve
from tersely.prompt import Span, sendable
from tersely.units import Floats, Ints, Units
from tersely.weights import Encoder, encoder, plain, positions

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, ModuleDict

WINDOW = 254
"""Tokens that are read together at most, without the two that stand around them."""

OVERLAP = 32
"""Tokens of its neighbours that a window repeats at each end, as context."""

BATCH = 4096
"""Tokens in one call of the encoder."""

KEPT_AT_FIRST = 2.0
"""The log-odds from which learning starts: most is kept, so that answers are not all wrong."""

LABEL = regex.compile(r"(?m)^[^\S\n]*+(?:[-*#]{1,6}+[^\S\n]*+)?(?:\w{1,30}+[ \t]?+){1,3}+:")
"""What names the part of a prompt that follows it (`Instruction:`), at the start of a line."""

PACE = Pace()
"""So that work which can't be done in time is not begun."""


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """What an encoder makes of the units of a text: the mean state over the tokens of each.

    `tokens` is how many it has. Shape: (units, width), (units,).
    """

    states: Tensor
    tokens: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Heads on one frozen encoder: each gives the log-odds that a unit is kept."""

    encoder: str
    heads: ModuleDict

    def logits(self, head: str, features: Tensor) -> Tensor:
        """Log-odds, to be learned from. Shape: (units, features) -> (units,)."""
        found: Tensor = self.heads[head](features)[:, 0]
        return found

    def log_odds(self, head: str, features: Tensor) -> Floats:
        """The same as plain numbers. Shape: (units,)."""
        import torch

        with torch.no_grad():
            return self.logits(head, features).numpy().astype(np.float64)


def new_policy(name: str, widths: Mapping[str, int], *, hidden: int, seed: int) -> Policy:
    """Heads that have learned nothing yet, the same ones for the same seed.

    `widths` tells for each head how many times the encoder's width its features are.
    """
    import torch
    from torch import nn

    one = int(encoder(name).model[0].auto_model.config.hidden_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = {key: _head(times * one, hidden) for key, times in widths.items()}
    return Policy(name, nn.ModuleDict(heads))


def save_policy(policy: Policy, folder: Path, about: About) -> Path:
    """Write the heads as an artefact; of the encoder only its name and hash are kept."""
    told = {
        "model": policy.encoder,
        "model_sha256": weights_hash(resolve(policy.encoder)),
    }
    return save(folder, about.model_copy(update=told), policy.heads.state_dict())


def require_policy(folder: str, recipe: str, trainer: str) -> None:
    """Raise MissingExtra, UnknownName or ModelError unless a trained policy can be used here."""
    made = f"`tersely train {trainer} DATA --out FOLDER` makes one"
    if not folder:
        raise ModelError(f"{recipe} needs `policy`, the folder of a trained artefact: {made}")
    try:
        about = page(folder, recipe)
    except ModelError as error:
        raise ModelError(f"{error}; {made}") from error
    require_encoder(about.model)


def require_encoder(name: str) -> None:
    """Raise MissingExtra, UnknownName or ModelError unless an encoder can be used here."""
    require("torch", "transformers", extra="local")
    require("sentence_transformers", extra="rag")
    resolve(name)


def policy_at(folder: str, recipe: str) -> Policy:
    """The policy that lies in a folder, loaded once.

    Raises ModelError when it is missing, damaged, of another recipe, or when the encoder has
    other weights than those it was trained on.
    """
    path = Path(folder).expanduser()
    told = (path / TENSORS).stat() if (path / TENSORS).is_file() else None
    return _loaded(path, recipe, told.st_mtime_ns if told else 0)


def pooled(units: Sequence[Units], name: str, context: Context | None = None) -> list[Pooled]:
    """Read texts with a frozen encoder, long ones in windows, and pool the states of each unit.

    A unit that has no token of its own (a character that the encoder drops) gets zeros. Raises
    OutOfTime between two calls of the encoder.
    """
    import torch

    model = encoder(name)
    texts = [_Text(one, model) for one in units]
    windows = [window for i, text in enumerate(texts) for window in text.windows(i, model)]
    width = int(model.model[0].auto_model.config.hidden_size)
    sums = [torch.zeros(len(one), width) for one in units]
    size = lambda window: len(window.ids)  # noqa: E731
    for batch in PACE.batches(windows, size, BATCH, reader=model, context=context):
        for window, states in zip(batch, _read(batch, model), strict=True):
            tokens, owners = texts[window.text].pairs(window)
            sums[window.text].index_add_(0, owners, states[tokens])
    many = [torch.from_numpy(np.maximum(text.counts, 1)).float()[:, None] for text in texts]
    return [
        Pooled(total / count, text.counts)
        for total, count, text in zip(sums, many, texts, strict=True)
    ]


def labels(text: str) -> list[Span]:
    """Where a prompt names its parts: such words are no matter of choice."""
    return [match.span() for match in LABEL.finditer(text)]


@dataclass(frozen=True, slots=True)
class _Window:
    """Some tokens of a text: those from `start` to `end` are wanted, the others are context."""

    text: int
    ids: Ints
    before: int
    start: int
    end: int


class _Text:
    """A text as the encoder's tokens, and the unit that each belongs to."""

    def __init__(self, units: Units, model: Encoder) -> None:
        read = plain(model.model.tokenizer).encode(sendable(units.text), add_special_tokens=False)
        offsets = np.array(read.offsets, np.int64).reshape(-1, 2)
        first = np.searchsorted(offsets[:, 1], units.starts, "right")
        after = np.searchsorted(offsets[:, 0], units.ends, "left")
        many = np.maximum(after - first, 0)
        self.ids: Ints = np.array(read.ids, np.int64)
        self.counts: Floats = many.astype(np.float64)
        self.owners: Ints = np.repeat(np.arange(len(units)), many)
        before = np.repeat(np.cumsum(many) - many, many)
        self.tokens: Ints = np.repeat(first, many) + np.arange(many.sum()) - before

    def windows(self, text: int, model: Encoder) -> Iterator[_Window]:
        """The windows of the text, all of nearly the same length."""
        transformer = model.model[0].auto_model
        longest = min(WINDOW, positions(transformer, model.model.tokenizer) - 2)
        overlap = min(OVERLAP, longest // 4)
        many = len(self.ids)
        count = 1 if many <= longest else -(-many // (longest - 2 * overlap))
        edges = np.linspace(0, many, count + 1).astype(np.int64).tolist() if many else []
        for start, end in pairwise(edges):
            low = max(start - overlap, 0)
            yield _Window(text, self.ids[low : end + overlap], start - low, start, end)

    def pairs(self, window: _Window) -> tuple[Tensor, Tensor]:
        """The tokens of a window, counted from its start, and the units that they belong to."""
        import torch

        low, high = np.searchsorted(self.tokens, [window.start, window.end])
        tokens = self.tokens[low:high] - window.start
        return torch.from_numpy(tokens), torch.from_numpy(self.owners[low:high])


def _read(windows: Sequence[_Window], model: Encoder) -> list[Tensor]:
    """The last hidden states of the wanted tokens. Shape: (tokens, width) each."""
    import torch

    tokenizer, transformer = model.model.tokenizer, model.model[0].auto_model
    opening = [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id]
    closing = [] if tokenizer.sep_token_id is None else [tokenizer.sep_token_id]
    rows = [[*opening, *window.ids.tolist(), *closing] for window in windows]
    width = max(map(len, rows))
    padded = [row + [tokenizer.pad_token_id or 0] * (width - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    device = transformer.device
    with torch.no_grad():
        read = transformer(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=torch.tensor(mask, device=device),
        )
        hidden = read.last_hidden_state.float().cpu()  # pooling on a GPU has no fixed order
    starts = [len(opening) + window.before for window in windows]
    return [
        hidden[i, at : at + window.end - window.start]
        for i, (at, window) in enumerate(zip(starts, windows, strict=True))
    ]


def _head(width: int, hidden: int) -> Module:
    from torch import nn

    last = nn.Linear(hidden, 1)
    nn.init.constant_(last.bias, KEPT_AT_FIRST)
    norm = nn.LayerNorm(width, elementwise_affine=False)
    return nn.Sequential(norm, nn.Linear(width, hidden), nn.GELU(), last)


@cache
def _loaded(folder: Path, recipe: str, changed: int) -> Policy:
    from torch import nn

    about, tensors = load(folder, recipe)
    check_model(about, resolve(about.model))
    names = sorted({name.partition(".")[0] for name in tensors})
    try:
        shapes = {name: tensors[f"{name}.1.weight"].shape for name in names}
        heads = nn.ModuleDict({n: _head(wide, hidden) for n, (hidden, wide) in shapes.items()})
        heads.load_state_dict(tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f"{folder} holds no policy for {recipe}: {error}") from error
    return Policy(about.model, heads.eval().requires_grad_(False))
