"""What a recipe made of the very same prompt before is not made again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from tersely import __version__
from tersely.ahead import Given, ReadsAhead, can_read_ahead
from tersely.compressors.holding import Holding, Recipe, seen_by, through
from tersely.compressors.memory import Memory, key_of
from tersely.compressors.store import Store
from tersely.contracts import Context, Stage
from tersely.errors import ConfigError
from tersely.models import home
from tersely.prompt import Prompt, Segment

MEGABYTE = 2**20

MEMORY: Memory[bytes] = Memory(64 * MEGABYTE)
"""What was made in this process; shared by all that remember."""

ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
"""In a repr, the sign that it does not tell what the value is."""


class Cached(Holding):
    """Remembers what a recipe made of a prompt, here and on disk, and gives it again.

    The very same prompt under the same settings, budget, counter, seed and version of this
    package is compressed once; anything else that differs makes it another prompt. For each
    text that may change the compressed one is kept, with where its runs stood before, and
    nothing else: of the prompt itself only a hash. It lies in `folder` (none given: `cache`
    beside our models, readable by its owner alone), where several processes may share it, up to
    `megabytes` (0: in memory only); what was used longest ago goes first. Deleting the folder
    forgets everything.

    It pays for recipes that read with a model. A model folder counts as another one when a file
    in it changes.
    """

    name = "cached"

    recipe: Recipe = Field(default="lexical", validate_default=True)
    folder: str = ""
    megabytes: int = Field(default=256, ge=0)

    @property
    def held(self) -> tuple[Stage, ...]:
        return (self.recipe,)

    def ready(self) -> None:
        super().ready()
        if ADDRESS.search(repr(self.recipe)):
            raise ConfigError(
                f"cached: {self.recipe!r} does not tell its settings, so that what it made could"
                " be taken for what another one made"
            )
        if store := self._store():
            try:
                store.check()
            except OSError as error:
                raise ConfigError(f"cached: folder {str(store.path.parent)!r}: {error}") from error

    @property
    def reads_ahead(self) -> bool:
        """Whether the recipe's model can read for several prompts together."""
        return can_read_ahead((self.recipe,))

    def ahead(self, given: Sequence[Given], /) -> None:
        """Have the recipe read for the prompts of which nothing is known yet."""
        new: dict[bytes, Given] = {}
        for prompt, context in given:
            key = key_of("\n".join(settings_of(self.recipe, context)), *_contents(prompt))
            if self._known(prompt, key) is None:
                new[key] = (seen_by(self.recipe, prompt, prompt.open), context)
        if isinstance(self.recipe, ReadsAhead):
            self.recipe.ahead(list(new.values()))

    def __call__(self, prompt: Prompt, context: Context, /) -> Prompt:
        told = "\n".join(settings_of(self.recipe, context))
        if ADDRESS.search(told):
            return through(self.recipe, prompt, context, prompt.open)
        key = key_of(told, *_contents(prompt))
        if (known := self._known(prompt, key)) is not None:
            return known
        made = through(self.recipe, prompt, context, prompt.open)
        value = _packed(prompt, made)
        MEMORY.put(key, value)
        if store := self._store():
            store.put(key, value)
        return made

    def _known(self, prompt: Prompt, key: bytes) -> Prompt | None:
        """What was made before, if it is known."""
        if (value := MEMORY.get(key)) is None and (store := self._store()):
            value = store.get(key)
            if value is not None:
                MEMORY.put(key, value)
        return None if value is None else _unpacked(prompt, value)

    def _store(self) -> Store | None:
        return store_of(self.folder, self.megabytes)


def store_of(folder: str, megabytes: int) -> Store | None:
    """The store that these settings name; None where nothing is kept on disk."""
    where = Path(folder).expanduser() if folder else home() / "cache"
    return store_at(where, megabytes * MEGABYTE) if megabytes else None


@cache
def store_at(folder: Path, room: int) -> Store:
    """The store in a folder, one for this process, with room for so many bytes."""
    return Store(folder, room)


def settings_of(recipe: Stage, context: Context) -> Iterator[str]:
    """Everything besides the prompt that may make a difference."""
    yield __version__
    yield repr(recipe)
    yield from _folders(recipe)
    yield repr((context.limit, context.only, context.seed))
    yield repr((context.count.name, context.count.framing))
    yield repr(context.budget.model_copy(update={"ms": None}))
    if {"llm", "soft"} & recipe.needs:
        yield repr(context.backend)


def _folders(value: Any) -> Iterator[str]:
    """The files of every folder that a setting names, as trained weights lie in one."""
    if isinstance(value, BaseModel):
        for _, setting in value:
            yield from _folders(setting)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _folders(item)
    elif isinstance(value, str) and "\0" not in value and len(value) < 1000:
        folder = Path(value).expanduser()
        if value and folder.is_dir():
            yield value
            for file in sorted(folder.iterdir()):
                known = file.stat()
                yield f"{file.name} {known.st_size} {known.st_mtime_ns}"


def _contents(prompt: Prompt) -> Iterator[str]:
    yield prompt.question
    yield prompt.tools
    yield str(prompt.turns)
    for one in prompt.segments:
        yield one.text
        yield repr((one.role, one.kind, one.locked, one.turn, one.path, one.spans, one.origins))


def _packed(prompt: Prompt, made: Prompt) -> bytes:
    """The texts that changed."""
    changed = [
        (i, new.text, new.spans, new.origins)
        for i, (old, new) in enumerate(zip(prompt.segments, made.segments, strict=True))
        if old.text != new.text
    ]
    text = json.dumps(changed, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")  # escaped, a pair of them would be read as one sign


def _unpacked(prompt: Prompt, value: bytes) -> Prompt:
    changed = json.loads(value.decode(errors="surrogatepass"))
    return prompt.with_segments(dict(_texts(prompt.segments, changed)))


def _texts(segments: Sequence[Segment], changed: Any) -> Iterator[tuple[int, Segment]]:
    for i, text, spans, origins in changed:
        yield (
            i,
            replace(
                segments[i],
                text=text,
                spans=tuple(map(tuple, spans)),
                origins=None if origins is None else tuple(map(tuple, origins)),
            ),
        )
