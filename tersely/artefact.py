"""What training leaves behind: tensors as safetensors, and a page that tells their origin."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tersely.errors import ModelError, first_fault, require

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

TENSORS = "model.safetensors"
PAGE = "tersely.json"

TELLING = ("*.safetensors", "*.json", "*.txt", "*.model")
"""The files of a model that decide what it says."""

SPELLING = (
    *("tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model"),
)
"""The files of a model that decide which tokens a conversation becomes."""


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("tersely", "torch", "transformers", "safetensors"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class About(BaseModel):
    """Where an artefact comes from.

    `recipe` is the stage that takes it; `model` and `model_sha256` name the weights that it was
    trained on, if it depends on them. `figures` were measured on rows held out from training.
    """

    model_config = ConfigDict(frozen=True)

    recipe: str
    model: str = ""
    model_sha256: str = ""
    settings: Mapping[str, Any] = {}
    figures: Mapping[str, float] = {}
    rows: int = 0
    versions: Mapping[str, str] = Field(default_factory=_versions)


Page = TypeVar("Page", bound=About)
"""A page that may tell more than others."""


def save(folder: Path, about: About, tensors: Mapping[str, Tensor] | None = None) -> Path:
    """Write an artefact, whole or not at all. Without tensors only the page is written."""
    folder.mkdir(parents=True, exist_ok=True)
    if tensors is not None:
        write_tensors(folder / TENSORS, tensors)
    text = about.model_dump_json(indent=1) + "\n"
    write_whole(folder / PAGE, lambda path: path.write_text(text, encoding="utf-8"))
    return folder


def load(folder: Path | str, recipe: str) -> tuple[About, dict[str, Tensor]]:
    """An artefact that was trained for a recipe. Nothing is unpickled.

    Raises MissingExtra, and ModelError that tells what is missing, damaged or of another recipe.
    """
    about = page(folder, recipe)
    return about, read_tensors(Path(folder).expanduser() / TENSORS)


def page(folder: Path | str, recipe: str) -> About:
    """The page of an artefact. Raises ModelError as `load` does."""
    return page_of(About, folder, recipe)


def page_of(sort: type[Page], folder: Path | str, recipe: str) -> Page:
    """The page of an artefact that tells more than others. Raises ModelError as `load` does."""
    path = Path(folder).expanduser() / PAGE
    try:
        about = sort.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"no trained artefact at {str(folder)!r}: it holds no {PAGE}; tersely train makes one"
        ) from error
    except ValidationError as error:
        raise ModelError(f"{path} is damaged: {first_fault(error)}") from error
    if about.recipe != recipe:
        raise ModelError(f"{str(folder)!r} was trained for {about.recipe!r}, not for {recipe!r}")
    return about


def check_model(about: About, folder: Path) -> None:
    """Raise ModelError unless the weights in a folder are those an artefact was trained on."""
    if about.model_sha256 and about.model_sha256 != weights_hash(folder):
        raise ModelError(
            f"the artefact was trained on other weights of {about.model!r} than lie at {folder}:"
            " train it again"
        )


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Tensors as safetensors, whole or not at all."""
    require("safetensors", extra="local")
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, lambda beside: save_file(plain, str(beside)))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises ModelError when it is missing or damaged."""
    require("safetensors", extra="local")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Arrays as safetensors, whole or not at all; torch is not needed."""
    from safetensors.numpy import save_file

    write_whole(path, lambda beside: save_file(dict(arrays), str(beside)))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file; torch is not needed. Raises ModelError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def weights_hash(folder: Path) -> str:
    """The sha256 of a model's weight files, each read once as long as it stays the same."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        told = path.stat()
        digest.update(_hash(path, told.st_mtime_ns, told.st_size).encode())
    return digest.hexdigest()


def model_hash(folder: Path) -> str:
    """The hash of all that decides what a model says: weights, settings, tokenizer.

    Each file is read once as long as it stays the same. 16 hex digits.
    """
    return _hash_of({path for pattern in TELLING for path in folder.rglob(pattern)}, folder)[:16]


def tokenizer_hash(folder: Path) -> str:
    """The sha256 of what decides which tokens a conversation becomes: tokenizer and template."""
    return _hash_of({path for pattern in SPELLING for path in folder.glob(pattern)}, folder)


def _hash_of(files: set[Path], folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        told = path.stat()
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name} {_hash(path, told.st_mtime_ns, told.st_size)}\n".encode())
    return digest.hexdigest()


@cache
def _hash(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_key(*parts: Any) -> str:
    """A key of settings and data: the same for the same work."""
    text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """A file, whole or not at all: `write` is given the path of one beside it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    write(beside)
    beside.replace(path)
