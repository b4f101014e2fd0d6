"""Soft input as a model here reads it, and how it is made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

from tersely.backends.places import Places
from tersely.backends.prefix import can_share, prefilled
from tersely.backends.read import Piece
from tersely.contracts import Request
from tersely.errors import ConfigError
from tersely.soft import KVPrefix, SoftPrompt, check_model, check_vectors
from tersely.weights import CausalLM

READY = 4
"""KV prefixes that are kept where and how their model calculates."""


def places(request: Request, lm: CausalLM, model: str) -> Places:
    """What a request's soft input means to a model.

    Raises ConfigError that names both sizes when the model can't read it.
    """
    made = Places()
    for soft in request.vectors:
        check_vectors(soft, lm.model.get_input_embeddings().weight.shape[1], model)
        made.vectors.update(zip(soft.places, soft.vectors.to(lm.device, lm.dtype), strict=True))
    if (prefix := request.prefix) is not None:
        _check_prefix(prefix, lm, model)
        made.prefixes[prefix.places] = _pieces(prefix, lm)
    return made


def embedded(lm: CausalLM, text: str, model: str) -> SoftPrompt:
    """The model's own embeddings of a text's tokens."""
    import torch

    ids = torch.tensor(lm.tokenizer.encode(text, add_special_tokens=False), dtype=torch.long)
    with torch.no_grad():
        vectors = lm.model.get_input_embeddings()(ids.to(lm.device))
    return SoftPrompt(vectors, model)


def read_prefix(lm: CausalLM, text: str, model: str) -> KVPrefix:
    """What the model keeps of a text that it has read, with the tokens it begins any text with."""
    _check_shares(lm, model)
    layers = prefilled(lm, lm.tokenizer.encode(text), 1).layers
    return KVPrefix([(layer.keys[0], layer.values[0]) for layer in layers], model)


def _check_prefix(prefix: KVPrefix, lm: CausalLM, model: str) -> None:
    check_model(prefix, model)
    _check_shares(lm, model)
    if prefix.shapes != (own := _shapes(lm)):
        raise ConfigError(
            f"the KV prefix has {_told(prefix.shapes)}, and {model!r} has {_told(own)}"
        )


def _check_shares(lm: CausalLM, model: str) -> None:
    if not can_share(lm):
        raise ConfigError(f"{model!r} has a window or a state of its own, and takes no KV prefix")


@lru_cache(READY)
def _pieces(prefix: KVPrefix, lm: CausalLM) -> list[Piece]:
    """A KV prefix as pieces of a row that was read."""
    return [
        (keys[None].to(lm.device, lm.dtype), values[None].to(lm.device, lm.dtype))
        for keys, values in prefix.layers
    ]


@cache
def _shapes(lm: CausalLM) -> tuple[tuple[int, int, int], ...]:
    """For each layer the heads, and the widths of a key and a value, as the model makes them."""
    made = [(layer.keys, layer.values) for layer in prefilled(lm, [0], 1).layers]
    return tuple((keys.shape[1], keys.shape[3], values.shape[3]) for keys, values in made)


def _told(shapes: Sequence[tuple[int, int, int]]) -> str:
    heads, keys, values = shapes[0]
    widths = f"{keys}" if keys == values else f"{keys} and {values}"
    same = "" if len(set(shapes)) == 1 else " in the first"
    return f"{len(shapes)} layers of {heads} heads{same}, {widths} wide"
