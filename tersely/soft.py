"""Soft input: vectors that stand in a prompt, and keys and values that stand in front of it.

Soft-prompt compressors make vectors (ICAE: Ge et al. 2023, https://arxiv.org/abs/2307.06945; xRAG:
Cheng et al. 2024, https://arxiv.org/abs/2405.13792) or a cache (Gist: Mu et al. 2023,
https://arxiv.org/abs/2304.08467; Cartridges: Eyuboglu et al. 2025,
https://arxiv.org/abs/2506.06266). A backend takes them by the capabilities `embeds` and
`kv_prefix`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tersely.errors import ConfigError, ModelError, require

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, eq=False)
class SoftPrompt:
    """Vectors that a model reads in place of tokens' own embeddings, one for each token.

    *Shape:* length x hidden size, in float32, bfloat16 or float16. They are copied, and two with
    the same values are equal. `model` is whose they are, by the name that its backend has; empty:
    any model's of that hidden size. Raises ConfigError when no model could read them.
    """

    vectors: Tensor
    model: str = ""
    key: str = field(init=False)
    """A hash of the values."""
    places: tuple[int, ...] = field(init=False, repr=False)
    """A number below 0 for each vector, the same for the same values."""

    def __post_init__(self) -> None:
        vectors = _own("a soft prompt", self.vectors, ("length", "hidden size"))
        hashes = [sha256(row.tobytes()).digest() for row in vectors.float().numpy()]
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "key", sha256(b"".join(hashes)).hexdigest())
        object.__setattr__(self, "places", tuple(map(_place, hashes)))

    def __len__(self) -> int:
        """How many tokens they count as."""
        return len(self.places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SoftPrompt) and (self.key, self.model) == (other.key, other.model)

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def hidden_size(self) -> int:
        return int(self.vectors.shape[1])

    def save(self, path: str | Path) -> None:
        """Write a safetensors file."""
        _save(path, {"vectors": self.vectors}, self.model, {"hidden_size": self.hidden_size})

    @classmethod
    def load(cls, path: str | Path) -> SoftPrompt:
        """Read such a file. Raises ModelError when it holds no soft prompt, or a damaged one."""
        tensors, told = _load(path)
        if set(tensors) != {"vectors"}:
            raise ModelError(f"{path} holds no soft prompt but {_names(tensors)}")
        with _damage(path):
            made = cls(tensors["vectors"], told.get("model", ""))
        _check_told(path, told, "hidden_size", made.hidden_size)
        return made


@dataclass(frozen=True, slots=True, eq=False)
class KVPrefix:
    """Keys and values that stand in front of a prompt, as if a model had read a text there.

    `layers` are a pair for each layer, *shape:* heads x length x width, the heads being those of
    keys and values (fewer than those of queries, in most models). Keys are as the model stores
    them: turned by their positions, which begin at 0. For dtypes, equality and `model` see
    `SoftPrompt`.
    """

    layers: Sequence[tuple[Tensor, Tensor]]
    model: str = ""
    key: str = field(init=False)
    """A hash of the values."""
    places: tuple[int, ...] = field(init=False, repr=False)
    """A number below 0 for each token, which no other prefix has."""

    def __post_init__(self) -> None:
        shape = ("heads", "length", "width")
        pairs = tuple(
            (_own("a KV prefix", keys, shape), _own("a KV prefix", values, shape))
            for keys, values in self.layers
        )
        if len({part.shape[1] for pair in pairs for part in pair}) != 1:
            found = [tuple(part.shape) for pair in pairs for part in pair]
            raise ConfigError(f"the layers of a KV prefix must have one length, had {found}")
        hashed = sha256()
        for part in (part for pair in pairs for part in pair):
            hashed.update(f"{tuple(part.shape)}".encode() + part.float().numpy().tobytes())
        name, length = hashed.digest(), pairs[0][0].shape[1]
        numbers = (_place(sha256(name + f"{i}".encode()).digest()) for i in range(length))
        object.__setattr__(self, "layers", pairs)
        object.__setattr__(self, "key", name.hex())
        object.__setattr__(self, "places", tuple(numbers))

    def __len__(self) -> int:
        """How many tokens it counts as."""
        return len(self.places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KVPrefix) and (self.key, self.model) == (other.key, other.model)

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """For each layer the heads, and the widths of a key and of a value."""
        return tuple((k.shape[0], k.shape[2], v.shape[2]) for k, v in self.layers)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file."""
        named: dict[str, Tensor] = {}
        for i, (keys, values) in enumerate(self.layers):
            named |= {f"{i}.keys": keys, f"{i}.values": values}
        _save(path, named, self.model, {"layers": len(self.layers)})

    @classmethod
    def load(cls, path: str | Path) -> KVPrefix:
        """Read such a file. Raises ModelError when it holds no KV prefix, or a damaged one."""
        tensors, told = _load(path)
        count = len(tensors) // 2
        if not count or set(tensors) != {f"{i}.{kind}" for i in range(count) for kind in KINDS}:
            raise ModelError(f"{path} holds no KV prefix but {_names(tensors)}")
        pairs = [(tensors[f"{i}.keys"], tensors[f"{i}.values"]) for i in range(count)]
        with _damage(path):
            made = cls(pairs, told.get("model", ""))
        _check_told(path, told, "layers", count)
        return made


KINDS = ("keys", "values")


def check_model(soft: SoftPrompt | KVPrefix, model: str) -> None:
    """Raise ConfigError when it was made for a model of another name."""
    if soft.model not in ("", model):
        raise ConfigError(
            f"this {type(soft).__name__} was made for the model {soft.model!r}, and {model!r} is"
            " to read it: ask that model, or make one without `model` where both are the same"
        )


def check_vectors(soft: SoftPrompt, width: int, model: str) -> None:
    """Raise ConfigError unless the vectors are as wide as those of the model, and made for it."""
    check_model(soft, model)
    if soft.hidden_size != width:
        raise ConfigError(
            f"the vectors of a soft prompt have {soft.hidden_size} values, and those of {model!r}"
            f" have {width}"
        )


def _place(digest: bytes) -> int:
    return -1 - int.from_bytes(digest)


def _own(what: str, tensor: Tensor, shape: tuple[str, ...]) -> Tensor:
    """A copy on the CPU that nobody else holds. Raises ConfigError when a model can't read it."""
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES or tensor.layout is not torch.strided:
        raise ConfigError(
            f"the values of {what} must be in {', '.join(DTYPES)} and dense, were in {dtype}"
        )
    if tensor.dim() != len(shape) or 0 in tensor.shape:
        raise ConfigError(
            f"the shape of {what} must be {' x '.join(shape)}, was {tuple(tensor.shape)}"
        )
    if not tensor.isfinite().all():
        raise ConfigError(f"the values of {what} must be finite, some were not")
    return tensor.detach().to("cpu", copy=True).contiguous()


def _save(
    path: str | Path, tensors: Mapping[str, Tensor], model: str, sizes: Mapping[str, int]
) -> None:
    require("safetensors", extra="local")
    from safetensors.torch import save_file

    told = {"model": model, **{name: str(size) for name, size in sizes.items()}}
    save_file({**tensors}, str(path), told)


def _load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    require("safetensors", extra="local")
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except Exception as error:  # the library raises its own and the system's
        raise ModelError(f"{path} is no safetensors file that can be read: {error}") from error


@contextmanager
def _damage(path: str | Path) -> Iterator[None]:
    """Tell of a file whose tensors can't be what they are called."""
    try:
        yield
    except ConfigError as error:
        raise ModelError(f"{path} is damaged: {error}") from error


def _check_told(path: str | Path, told: Mapping[str, str], name: str, size: int) -> None:
    """Raise ModelError unless the size is the one that the file tells."""
    if told.get(name, str(size)) != str(size):
        raise ModelError(f"{path} tells of {name}={told[name]}, and its tensors have {size}")


def _names(tensors: Mapping[str, Tensor]) -> str:
    return f"the tensors {', '.join(sorted(tensors)[:3]) or '(none)'}"
