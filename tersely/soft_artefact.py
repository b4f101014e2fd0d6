"""A text as a handful of vectors: the folder that training leaves, and the shelf of them.

It holds the vectors (`model.safetensors`), the text that they stand for byte for byte
(`source.txt`), and a page (`tersely.json`) that tells whose vectors they are and how faithful.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Literal

from pydantic import computed_field

from tersely.artefact import (
    PAGE,
    TENSORS,
    About,
    check_model,
    page_of,
    save,
    tokenizer_hash,
    write_whole,
)
from tersely.errors import ConfigError, ModelError, UnknownName
from tersely.fidelity import Fidelity, Threshold
from tersely.models import home, resolve
from tersely.soft import KVPrefix, SoftPrompt

RECIPE = "soft"
"""The stage that takes it."""

SOURCE = "source.txt"

Form = Literal["kv", "embeds"]
"""Keys and values for every layer, or vectors where tokens' embeddings stand."""

Role = Literal["system", "user"]
"""Where the text stands: all of the system message, or what the first user turn begins with."""

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")

OTHER = 0.2
"""Below this share of equal lines it is not the text changed, but another text."""


class SoftAbout(About):
    """Whose vectors they are, what they stand for, how they were made and how faithful they are.

    `model` is the model's name as it was given, beside the hashes of its weights and its tokenizer.
    `text_tokens` is what the text takes in the prompt, with all that a KV prefix stands for
    besides, and `tokens` what takes its place. `seconds` is how long training took, and
    `read_seconds` how long the model reads the text on the same machine.
    """

    recipe: str = RECIPE
    form: Form
    role: Role
    tokenizer_sha256: str
    text_sha256: str
    text_tokens: int
    tokens: int
    seed: int = 0
    steps: int = 0
    seconds: float = 0.0
    read_seconds: float = 0.0
    device: str = ""
    fidelity: Fidelity | None = None
    threshold: Threshold = Threshold()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def shortfall(self) -> str:
        """Why it must not stand for the text, and by how much it fails; empty when it may."""
        return self.threshold.shortfall(self.fidelity)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether it is faithful enough to stand for the text."""
        return not self.shortfall

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / self.steps if self.steps else 0.0

    @property
    def pays_back(self) -> int | None:
        """After how many requests training has taken less time than reading the text each time.

        None when that was not measured.
        """
        saved = self.read_seconds * (1 - self.tokens / max(self.text_tokens, 1))
        return ceil(self.seconds / saved) if saved > 0 else None


@dataclass(frozen=True, slots=True)
class SoftArtefact:
    """A text that was learned: what stands in its place, and what is known of it."""

    about: SoftAbout
    soft: SoftPrompt | KVPrefix
    text: str

    def save(self, folder: Path) -> Path:
        """Write the folder; the page comes last, so that what is unfinished is no artefact."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PAGE).unlink(missing_ok=True)
        write_whole(folder / TENSORS, self.soft.save)
        write_whole(folder / SOURCE, lambda path: path.write_bytes(_bytes(self.text)))
        return save(folder, self.about)

    @classmethod
    def load(cls, folder: Path | str) -> SoftArtefact:
        """Read such a folder. Nothing is unpickled.

        Raises ModelError that tells what is missing, damaged, or does not belong together.
        """
        folder = Path(folder).expanduser()
        about = page_of(SoftAbout, folder, RECIPE)
        soft = (KVPrefix if about.form == "kv" else SoftPrompt).load(folder / TENSORS)
        if len(soft) != about.tokens:
            raise ModelError(
                f"{folder / TENSORS} holds {len(soft)} vectors, and {PAGE} tells of {about.tokens}"
            )
        return cls(about, soft, _source(folder / SOURCE, about.text_sha256))

    def check_model(self, folder: Path) -> None:
        """Raise ModelError unless the model in a folder is the one that the vectors are for."""
        check_model(self.about, folder)
        if self.about.tokenizer_sha256 != tokenizer_hash(folder):
            raise ModelError(
                f"the vectors were trained with another tokenizer or chat template of"
                f" {self.about.model!r} than lies at {folder}: train them again"
            )

    def check(self, model: str) -> None:
        """The same for a model by its name, folder or hub id. Raises what `resolve` raises too."""
        self.check_model(resolve(model))

    def stale(self, text: str) -> str:
        """Why the vectors can't stand for a text; empty when it is the one they were made for."""
        if text_hash(text) == self.about.text_sha256:
            return ""
        if not self.resembles(text):
            return "it stands for another text"
        alike = _alike(self.text, text)
        same = "all lines are" if alike == 1 else f"{min(alike, 0.999):.1%} of its lines are"
        return f"the text has changed since it was learned ({same} the same): train it again"

    def resembles(self, text: str) -> bool:
        """Whether a text is the one that was learned, or that one changed a little."""
        sizes = len(self.text), len(text)
        if min(sizes) < OTHER * max(sizes):
            return False
        return text == self.text or _alike(self.text, text) >= OTHER


@lru_cache(256)
def _alike(one: str, other: str) -> float:
    """The share of lines that two texts have in common, in order."""
    matcher = SequenceMatcher(None, one.splitlines(), other.splitlines(), False)
    return matcher.ratio() if matcher.quick_ratio() >= OTHER else 0.0


def text_hash(text: str) -> str:
    """The sha256 by which a text is known."""
    return hashlib.sha256(_bytes(text)).hexdigest()


def shelf() -> Path:
    """The folder where artefacts lie that have a name."""
    return home() / "soft"


def place_of(name: str) -> Path:
    """Where the artefact of a name lies, or would. Raises ConfigError for what can't be a name."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"a name is of up to 64 letters, digits and `_.-`, was {name!r}: for a folder elsewhere"
            " take --out"
        )
    return shelf() / name


def find(name: str) -> Path:
    """The folder of an artefact, by its name on the shelf or its path.

    Raises UnknownName with the nearest names.
    """
    known = listed()
    if name in known:
        return known[name]
    folder = Path(name).expanduser()
    if (folder / PAGE).is_file():
        return folder
    raise UnknownName("soft prompt", name, known)


def listed() -> dict[str, Path]:
    """The folders on the shelf by their names."""
    pages = sorted(shelf().glob(f"*/{PAGE}"))
    return {page.parent.name: page.parent for page in pages}


def remove(name: str) -> Path:
    """Remove what lies on the shelf under a name. Raises UnknownName, and ModelError."""
    folder = listed().get(name)
    if folder is None:
        raise UnknownName("soft prompt", name, listed())
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ModelError(f"can't remove {folder}: {error.strerror}") from error
    return folder


def _source(path: Path, known: str) -> str:
    try:
        text = path.read_bytes().decode("utf-8", "surrogatepass")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if text_hash(text) != known:
        raise ModelError(f"{path} is not the text that the vectors were trained for")
    return text


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
