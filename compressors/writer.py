"""A model with an adapter writes vectors for a text that it has not seen, and the plain one reads.

What ICAE, AutoCompressors and gist tokens share: behind a text stand summary tokens, with learned
embeddings; what the model makes of them, by a LoRA of its own, stands in the text's place.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tersely.errors import ConfigError, MissingExtra, ModelError
from tersely.weights import CausalLM, caching, empty_cache

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Layers = Sequence[tuple["Tensor", "Tensor"]]
"""Keys and values for each layer. Shape: heads x length x width, each."""

AT_ONCE = 4096
"""Tokens that are written from at once."""

NOISE = 0.02
"""How far summary tokens that begin alike are apart at first, in the embeddings' own spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large a writer is.

    `tokens` are written for each text, by a LoRA of `rank` and `alpha` (see peft) on the layers
    named in `targets`; rank 0: the model itself writes. With `anchored` each begins as one of the
    text's own tokens, the last of its share; else all as the token that ends a text.
    """

    tokens: int
    rank: int = 16
    alpha: float = 32
    targets: str = "all-linear"
    anchored: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """A base model twice, its weights once: plain for reading, with an adapter for writing.

    `module` holds what learns: `adapter` (if any), `summary` (what stands behind a text), `gain`
    (from hidden states to vectors) and `cue` (asks for the text itself). `closing` comes behind
    whatever is written.
    """

    lm: CausalLM
    module: Module
    shape: Shape
    closing: Tensor

    @property
    def model(self) -> Any:
        """The model that writes."""
        adapter: Any = getattr(self.module, "adapter", None)
        return self.lm.model if adapter is None else adapter.base_model.model

    def embedded(self, ids: Sequence[int]) -> Tensor:
        """The model's own embeddings of tokens. Shape: (tokens, hidden size)."""
        import torch

        row = torch.tensor(list(ids), dtype=torch.long, device=self.lm.device)
        found: Tensor = self.lm.model.get_input_embeddings()(row)
        return found

    def vectors(self, texts: Sequence[Sequence[int]], known: Sequence[Tensor] = ()) -> list[Tensor]:
        """What stands for each text, one vector for each summary token.

        `known` are vectors that are read before each. Gradients reach all that learns. Shape:
        (tokens, hidden size) each.
        """
        rows = [self._row(text) for text in texts]
        starts = [len(row) - self.shape.tokens for row in rows]
        if known:
            rows = [self._joined(*pair) for pair in zip(known, rows, strict=True)]
            starts = [len(row) - self.shape.tokens for row in rows]
        read = self.model.base_model(inputs_embeds=_padded(rows)).last_hidden_state
        made = []
        for text, start, hidden in zip(texts, starts, read, strict=True):
            vectors = hidden[start : start + self.shape.tokens] * self.module.gain
            if self.shape.anchored:
                vectors = vectors + self._anchors(text)
            made.append(vectors)
        return made

    def kept(self, texts: Sequence[Sequence[int]]) -> list[Layers]:
        """The keys and values of the summary tokens behind each text, at positions from 0 on.

        The text stands at positions below 0, so that what follows is as far from the summary as
        it was when both stood behind the text.
        """
        import torch

        check_turns(self.lm)
        past, rows = empty_cache(self.lm), [self._row(text) for text in texts]
        length = max(map(len, rows))
        places = torch.arange(length, device=self.lm.device)
        positions = torch.stack([places - len(text) for text in texts])
        self.model(
            inputs_embeds=_padded(rows),
            position_ids=positions,
            logits_to_keep=1,
            **caching(self.model, past),
        )
        spans = [slice(len(text), len(text) + self.shape.tokens) for text in texts]
        return [
            [(layer.keys[i][:, span], layer.values[i][:, span]) for layer in past.layers]
            for i, span in enumerate(spans)
        ]

    def closed(self, vectors: Tensor) -> Tensor:
        """Vectors with what comes behind all that is written."""
        return self._joined(vectors, self.closing) if len(self.closing) else vectors

    def _row(self, text: Sequence[int]) -> Tensor:
        """A text, and the summary tokens behind it."""
        summary: Any = self.module.summary
        if self.shape.anchored:
            summary = summary + self._anchors(text)
        return self._joined(self.embedded(text), summary)

    def _anchors(self, text: Sequence[int]) -> Tensor:
        """For each summary token the last token of its share of the text."""
        edges = np.linspace(0, len(text), self.shape.tokens + 1).astype(int)[1:] - 1
        return self.embedded([text[max(at, 0)] for at in edges])

    def _joined(self, one: Tensor, other: Tensor) -> Tensor:
        import torch

        return torch.cat((one.to(self.lm.dtype), other.to(self.lm.dtype)))


def new_writer(lm: CausalLM, shape: Shape, seed: int) -> Writer:
    """A writer that has learned nothing yet; what it draws at random depends on the seed.

    Raises MissingExtra without peft, and ConfigError for targets that the model does not have.
    """
    import torch

    weights = lm.model.get_input_embeddings().weight
    width, spread = weights.shape[1], weights.float().std()
    module = torch.nn.Module()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if shape.rank:
            module.adapter = _adapter(lm, shape)
        summary = torch.randn(shape.tokens, width) * NOISE * spread.cpu()
        cue = torch.randn(1, width) * NOISE * spread.cpu()
    end = weights[lm.tokenizer.eos_token_id or 0].float().cpu()
    loud = 0.0 if shape.anchored else float(spread) / _loudness(lm)
    told = {
        "summary": summary if shape.anchored else summary + end,
        "gain": torch.full((width,), loud),
        "cue": cue + end,
    }
    for name, values in told.items():
        module.register_parameter(name, torch.nn.Parameter(values.to(lm.device)))
    return Writer(lm, module, shape, torch.zeros((0, width)))


def check_turns(lm: CausalLM) -> None:
    """Raise ConfigError unless the model tells places apart by turning keys and queries."""
    layers = {type(layer).__name__ for layer in getattr(empty_cache(lm), "layers", [])}
    turns = any(name.endswith("rotary_emb") for name, _ in lm.model.named_modules())
    if not turns or layers != {"DynamicLayer"}:
        raise ConfigError(
            "keys and values can be written by models with rotary positions and plain attention"
            " only: write vectors instead (`form: embeds`)"
        )


def batches(texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The places of texts that are written from at once: such of like length, not too many."""
    batch: list[int] = []
    for i in sorted(range(len(texts)), key=lambda at: -len(texts[at])):
        if batch and (len(batch) + 1) * len(texts[batch[0]]) > AT_ONCE:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _adapter(lm: CausalLM, shape: Shape) -> Module:
    """The model once more, with the same weights and a new LoRA."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtra("peft", "train") from error
    own = {id(one): one for one in (*lm.model.parameters(), *lm.model.buffers())}
    targets = shape.targets if shape.targets == "all-linear" else shape.targets.split(",")
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,  # type: ignore[arg-type]  # it divides it, and no more
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old names in transformers, and of what it mends
            return get_peft_model(copy.deepcopy(lm.model, own), config)
    except ValueError as error:
        raise ConfigError(f"targets {shape.targets!r}: {error}") from error


def _loudness(lm: CausalLM) -> float:
    """The spread of the model's last hidden states."""
    import torch

    with torch.inference_mode():
        ids = torch.arange(min(64, lm.max_length), device=lm.device)[None]
        return float(lm.model.base_model(ids).last_hidden_state.float().std())


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows filled up at their ends, where causal attention does not look: no mask is needed."""
    import torch

    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def behind(lm: CausalLM, beginnings: Sequence[Layers]) -> Any:
    """A cache in which each row has read keys and values of its own, all of one length."""
    import torch

    lengths = {one[0][0].shape[1] for one in beginnings}
    if len(lengths) != 1:
        raise ModelError(f"keys and values that are read at once have one length, had {lengths}")
    past = empty_cache(lm)
    for at in range(len(beginnings[0])):
        keys = torch.stack([one[at][0] for one in beginnings])
        values = torch.stack([one[at][1] for one in beginnings])
        past.update(keys, values, at)
    return past


def predicted(
    lm: CausalLM,
    beginnings: Sequence[Tensor] | Sequence[Layers],
    rows: Sequence[Sequence[int]],
) -> list[Tensor]:
    """What the plain model expects behind each token of some rows, each with its own beginning.

    A beginning is vectors, or keys and values of one length for all. Gradients reach them. Shape:
    (tokens, vocabulary) each.
    """
    import torch

    ids = [torch.tensor(list(row), dtype=torch.long, device=lm.device) for row in rows]
    table = lm.model.get_input_embeddings()
    embeds = [table(one) for one in ids]
    starts, past = [0] * len(rows), None
    if isinstance(beginnings[0], torch.Tensor):
        fronts: Any = beginnings
        starts = [len(front) for front in fronts]
        embeds = [
            torch.cat((front.to(lm.dtype), own)) for front, own in zip(fronts, embeds, strict=True)
        ]
    else:
        past = behind(lm, beginnings)  # type: ignore[arg-type]
    padded = _padded(embeds)
    first = min(starts)
    read = lm.model(
        inputs_embeds=padded,
        logits_to_keep=padded.shape[1] - first,
        **caching(lm.model, past),
    ).logits
    return [
        made[start - first : start - first + len(row)]
        for made, start, row in zip(read, starts, rows, strict=True)
    ]
