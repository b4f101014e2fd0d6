"""Models in memory: loaded on first use, once, in the precision that is fastest here."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tersely.convert import muted, quiet
from tersely.errors import MissingExtra, ModelError, require
from tersely.int8 import quantize
from tersely.models import resolve
from tersely.prompt import sendable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from tersely.units import Ints

Precision = Literal["auto", "bfloat16", "float32"]
LMPrecision = Literal["auto", "bfloat16", "float16", "float32", "int8"]
"""Language models decode in `float16` too, for GPUs without bfloat16, and on a CPU in `int8`."""

_loading = threading.RLock()


@dataclass(frozen=True, slots=True, eq=False)
class CausalLM:
    """A language model ready to run. `max_length` is its context, in tokens."""

    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    max_length: int


def causal_lm(name: str = "smollm2", *, precision: LMPrecision = "auto") -> CausalLM:
    """The language model of that name, folder or hub id; loaded once, shared by all threads.

    `auto` is the precision that is fastest here without rounding weights, see `best_dtype`.
    Raises MissingExtra, UnknownName, ConfigError, and ModelError that tells how to get the weights.
    """
    folder = resolve(name)
    with _loading:
        return _load(folder, precision)


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A sentence encoder ready to run. Of several threads one reads at a time."""

    model: Any
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def width(self) -> int:
        """The length of a vector."""
        ask = getattr(self.model, "get_embedding_dimension", None)  # its newer name
        return int((ask or self.model.get_sentence_embedding_dimension)() or 1)

    def vectors(self, texts: Sequence[str], *, batch: int = 64) -> NDArray[np.float32]:
        """One vector of length 1 for each text; texts too long for the model are cut.

        `batch` texts are read at once. Shape: (texts, width).
        """
        import numpy as np

        if not texts:
            return np.zeros((0, 1), np.float32)
        with self.lock:  # how the tokenizer cuts and pads is a state of its own
            found = self.model.encode(
                [sendable(text) for text in texts],
                batch_size=batch,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return np.asarray(found, np.float32)


def encoder(name: str = "minilm", *, precision: Precision = "auto") -> Encoder:
    """The sentence encoder of that name, folder or hub id; loaded once, shared by all threads.

    Raises MissingExtra, UnknownName, and ModelError that tells how to get the weights.
    """
    require("sentence_transformers", extra="rag")
    folder = resolve(name)
    with _loading:
        return _load_encoder(folder, precision)


def prompts(loaded: Encoder) -> tuple[str, str]:
    """What the model wants to stand before a question, and before a text."""
    known = getattr(loaded.model, "prompts", None) or {}
    told = known.get("document") or known.get("passage") or ""
    return known.get("query") or "", told


@dataclass(frozen=True, slots=True, eq=False)
class TokenClassifier:
    """A classifier of tokens, or of pairs of texts, ready to run.

    `max_length` counts its own special tokens too.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    max_length: int


def token_classifier(name: str, *, precision: Precision = "auto") -> TokenClassifier:
    """The classifier of that folder or hub id; loaded once, shared by all threads.

    Raises MissingExtra, UnknownName, and ModelError that tells how to get the weights.
    """
    folder = resolve(name)
    with _loading:
        return _load_classifier(folder, precision, "Token", "token classifier")


def pair_classifier(name: str, *, precision: Precision = "auto") -> TokenClassifier:
    """The classifier of pairs of texts in that folder or hub id; as `token_classifier`."""
    folder = resolve(name)
    with _loading:
        return _load_classifier(folder, precision, "Sequence", "classifier of pairs")


def new_classifier(base: str, labels: Sequence[str]) -> TokenClassifier:
    """A classifier to be trained: an encoder's weights, and a head with nothing learned yet.

    It is in float32 and shared with nobody. The head is drawn at random, by torch's seed. Raises as
    `token_classifier` does.
    """
    names = dict(enumerate(labels))
    options = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    sort = "AutoModelForTokenClassification"
    made = _opened(sort, "encoder", resolve(base), "float32", options, new=True)
    return TokenClassifier(*made, positions(made[0], made[1]))


def encode(text: str, model: CausalLM | TokenClassifier) -> tuple[Ints, Ints]:
    """Ids and character offsets; special tokens in the text are read as plain text.

    Shape: (tokens,), (tokens, 2).
    """
    import numpy as np

    encoded = plain(model.tokenizer).encode(sendable(text), add_special_tokens=False)
    ids = np.array(encoded.ids, np.int64)
    return ids, np.array(encoded.offsets, np.int64).reshape(-1, 2)


def empty_cache(lm: CausalLM) -> Any:
    """A cache of keys and values for one run of a model; the model fills it in place."""
    from transformers import DynamicCache

    return DynamicCache(config=lm.model.config)


def keeps(lm: CausalLM, kinds: set[str]) -> bool:
    """Whether all that a model keeps of what it read is keys and values of these kinds."""
    layers = getattr(empty_cache(lm), "layers", [])
    stateful = getattr(lm.model, "_is_stateful", False)
    return not stateful and all(type(layer).__name__ in kinds for layer in layers)


def caching(model: Any, past: Any) -> dict[str, Any]:
    """The arguments by which a model reads on from a cache, and adds to it.

    transformers 5.24 renamed the keyword.
    """
    named = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
    return {named: past, "use_cache": past is not None}


@cache
def plain(tokenizer: Any) -> Tokenizer:
    """A model's tokenizer without templates, padding, truncation and special tokens."""
    from tokenizers import Tokenizer

    bare = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    bare.no_padding()
    bare.no_truncation()
    bare.encode_special_tokens = True
    return bare


def best_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies in it, else float32.

    On a CPU without such instructions bfloat16 is emulated and far slower than float32.
    """
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    ask = getattr(torch.cpu, "get_capabilities", None)  # newer than the oldest torch we take
    able = ask() if ask else {}
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32


@cache
def _load(folder: Path, precision: LMPrecision) -> CausalLM:
    dtype: LMPrecision = "float32" if precision == "int8" else precision
    made = _opened("AutoModelForCausalLM", "language model", folder, dtype, {})
    if precision == "int8":
        quantize(made[0], made[2])
    return CausalLM(*made, _max_length(made[0].config, made[1]))


def _opened(
    sort: str,
    called: str,
    folder: Path,
    precision: LMPrecision,
    options: dict[str, Any],
    *,
    new: bool = False,
) -> tuple[Any, Any, torch.device, torch.dtype]:
    """A model that transformers knows, its tokenizer, and where and how it runs.

    Only a `new` one may lack weights: its head is yet to be trained.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra(error.name or "transformers", "local") from error
    device = best_device()
    dtype = best_dtype(device) if precision == "auto" else getattr(torch, precision)
    local = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        with muted():
            load = getattr(transformers, sort).from_pretrained
            model, found = load(folder, dtype=dtype, **local, **options)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # safetensors, tokenizers and transformers share no root
        raise ModelError(f"{folder} holds no {called} that can be loaded: {error}") from error
    if not new and (missing := sorted(found["missing_keys"])):
        raise ModelError(f"{folder} holds no trained {called}: it lacks {', '.join(missing[:3])}")
    return model.to(device).eval().requires_grad_(False), tokenizer, device, dtype


@cache
def _load_encoder(folder: Path, precision: Precision) -> Encoder:
    import torch
    from sentence_transformers import SentenceTransformer

    device = best_device()
    dtype = best_dtype(device) if precision == "auto" else getattr(torch, precision)
    try:
        with quiet():
            model: Any = SentenceTransformer(
                str(folder),
                device=device.type,
                local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
    except Exception as error:  # what is missing or damaged decides what is raised
        raise ModelError(f"{folder} holds no sentence encoder: {error}") from error
    return Encoder(model.eval())


@cache
def _load_classifier(folder: Path, precision: Precision, sort: str, called: str) -> TokenClassifier:
    made = _opened(f"AutoModelFor{sort}Classification", called, folder, precision, {})
    return TokenClassifier(*made, positions(made[0], made[1]))


def positions(model: Any, tokenizer: Any) -> int:
    """The longest input of an encoder, special tokens included."""
    embeddings = getattr(model.base_model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)  # positions are counted from behind it
    return _max_length(model.config, tokenizer) - (0 if padding is None else padding + 1)


def _max_length(config: Any, tokenizer: Any) -> int:
    """The longest input that both the model and its tokenizer allow."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return min(int(positions or tokenizer.model_max_length), int(tokenizer.model_max_length))
