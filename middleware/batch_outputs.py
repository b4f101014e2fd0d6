"""Where a job writes: the files that grow while it runs, and what becomes of them in the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from tersely.errors import ConfigError
from tersely.middleware import places
from tersely.middleware.files import Files
from tersely.middleware.journal import Journal, Mark, told_as_write_error
from tersely.models import home

CACHE = ".cache"
"""How the folder ends in which workers remember what they made."""

ANSWERS = ".answers"
"""How the file ends that holds answers to rows that are not written yet."""

SORTED = ".sorted"
"""How the file ends that holds the rows in another order."""


def beside(target: str, ending: str) -> Path:
    """The file of that ending that belongs to a target.

    It lies beside it or, when the target is an address, in a folder of ours.
    """
    name = target.rstrip("/").rpartition("/")[2] + ending
    if not places.is_remote(target):
        return Path(target).parent / name
    return home() / "batch" / blake2b(target.encode(), digest_size=8).hexdigest() / name


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The files of a job.

    They grow beside the target or, when that lies elsewhere, in a folder of ours, from where they
    are copied when all is done. With `told` the accounts go to a file of their own, and so do the
    answers with `answered`.
    """

    files: Files
    target: str
    errors: Path | None
    told: bool
    answered: bool = False

    def beside(self, ending: str) -> Path:
        """The file of that ending that belongs to the target."""
        return beside(self.target, ending)

    @property
    def growing(self) -> Mapping[str, Path]:
        """Every file that grows, by its name in the journal."""
        target = self.beside("" if self.files.grows else ".part")
        files = {"target": target, "errors": self.errors or self.beside(".errors.jsonl")}
        told = {"report": self.told, "results": self.answered}
        return files | {name: self.beside(f".{name}.jsonl") for name in told if told[name]}

    @property
    def journal(self) -> Journal:
        """The record of how far they are whole."""
        return Journal(self.beside(".journal"), self.growing)

    def check(self) -> None:
        """Raise ConfigError when one file would be written over another; make the folders."""
        mine = self.growing
        for name, path in {"target": self.beside(""), "errors": mine["errors"]}.items():
            for part in (self.files.source, *self.files.parts()):
                if not places.is_remote(part) and path.exists() and path.samefile(part):
                    raise ConfigError(
                        f"the {name} must be another file than the source, was {path}"
                    )
        if mine["errors"].resolve() == self.beside("").resolve():
            raise ConfigError(
                f"the errors must go to another file than the target, was {self.errors}"
            )
        for path in mine.values():
            path.parent.mkdir(parents=True, exist_ok=True)

    def finish(self, journal: Journal, mark: Mark) -> Mark:
        """Make the target of what was written, and take note that it is there."""
        grown = self.growing["target"]
        if not self.files.grows:
            self._made(grown)
            mark = mark.model_copy(update={"sizes": {**mark.sizes, "target": 0}})
        if places.is_remote(self.target):
            self._sent(journal, mark)
        mark = journal.finish(mark)
        self.tidy(journal, mark)
        return mark

    def tidy(self, journal: Journal, mark: Mark) -> None:
        """Remove what nobody needs when the job is done."""
        if not self.files.grows:
            self.growing["target"].unlink(missing_ok=True)
        journal.drop_empty(mark)
        for ending in (ANSWERS, CACHE, SORTED):
            _removed(self.beside(ending))

    def _made(self, grown: Path) -> None:
        """Turn the pieces into the target, which is there at once or not at all."""
        draft, target = self.beside(".new"), self.beside("")
        with told_as_write_error(draft):
            _removed(draft)
            self.files.finish(grown, draft)
            _brought(draft)
            if target.is_dir():
                _removed(target)
            draft.replace(target)

    def _sent(self, journal: Journal, mark: Mark) -> None:
        """Copy what was written to where it belongs."""
        folder = self.target.rstrip("/").rpartition("/")[0]
        grown = [journal.path_of(name) for name in {**journal.files, **mark.sizes}]
        paths = [
            path for path in grown if path.parent == grown[0].parent and path.suffix != ".part"
        ]
        for path in dict.fromkeys((self.beside(""), *paths)):
            if path.is_dir() or path.stat().st_size or path == self.beside(""):
                places.put(path, places.below(folder, path.name))


def _brought(made: Path) -> None:
    """Bring a file, or those of a folder, to the disk."""
    for path in sorted(made.rglob("*")) if made.is_dir() else [made]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _removed(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
