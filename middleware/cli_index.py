"""`tersely index`: keep the passages of files, find them, see what there is, delete them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from tersely.errors import ConfigError
from tersely.middleware.cli_io import tell, write_json
from tersely.middleware.cli_options import Display, takes_values
from tersely.middleware.meter import meter

if TYPE_CHECKING:
    from tersely.collection import Added, Collection, Watch
    from tersely.retrieval import Passage

app = typer.Typer(no_args_is_help=True, help="Keep texts in an index, and find passages in it.")

FolderArgument = Annotated[Path, Argument(metavar="FOLDER", help="The folder of the index.")]
TenantOption = Annotated[str, Option(help="Whose passages: those of others are not seen.")]
FilterOption = Annotated[
    list[str] | None,
    Option(
        "--filter",
        "-f",
        metavar="KEY=VALUE",
        help="Only passages with this metadata; may be repeated. A value may be JSON.",
    ),
]

SHOWN = 5
"""So many skipped files are named."""


def collection(folder: Path, tenant: str, **settings: Any) -> Collection:
    """The index in a folder."""
    from tersely import registry

    return registry.collection("faiss", folder=folder, tenant=tenant, **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Which files, and how they are kept."""

    glob: Annotated[
        list[str], Option(help="Of folders, files with such names: '*.md'. May be repeated.")
    ] = field(default_factory=list)
    encoding: Annotated[str, Option(help="How the files are encoded.")] = "utf-8"
    size: Annotated[int, Option(min=1, help="The tokens of a passage, at most.")] = 128
    embedder: Annotated[
        str,
        Option(
            help="static, onnx or the name of a model; '' for none. The index remembers it. auto"
            " is the best at hand when the index is made."
        ),
    ] = "auto"
    prune: Annotated[
        bool, Option("--prune", help="Delete what came from files that are there no more.")
    ] = False


@app.command()
@takes_values
def add(
    folder: FolderArgument,
    paths: Annotated[list[Path], Argument(metavar="PATH...", help="Text files and folders.")],
    *,
    texts: Texts,
    tenant: TenantOption = "",
    display: Display,
) -> None:
    """Add files and folders, or bring them up to date. A stopped run goes on later."""
    index = collection(folder, tenant, embedder=texts.embedder)
    files = index.files(paths, texts.glob)
    embedder, silent = index.ready(), display.quiet or display.as_json
    if not silent:
        tell(f"embedder: {embedder}", "dim")
    with _bar(files, silent) as watch:
        added = index.add(files, encoding=texts.encoding, size=texts.size, watch=watch)
    pruned = index.prune(paths) if texts.prune else 0
    if display.as_json:
        write_json({**asdict(added), "pruned": pruned, "embedder": embedder})
    elif not display.quiet:
        _tell_added(added, pruned)


@app.command()
@takes_values
def search(
    folder: FolderArgument,
    question: Annotated[str, Argument(help="What is looked for.")],
    *,
    k: Annotated[int, Option("--k", "-k", min=1, help="How many passages.")] = 5,
    only: FilterOption = None,
    threshold: Annotated[
        float | None,
        Option(
            help="What a passage must reach: a cosine, or without an embedder the share of the"
            " question's words."
        ),
    ] = None,
    tenant: TenantOption = "",
    display: Display,
) -> None:
    """Show the best passages for a question, and why there are not more."""
    found = collection(folder, tenant).searcher(filter_of(only), threshold).search(question, k)
    reason = str(getattr(found, "reason", ""))
    if display.as_json:
        write_json({"passages": [asdict(one) for one in found], "reason": reason})
        return
    for number, one in enumerate(found, 1):
        _show(number, one)
    if reason and not display.quiet:
        tell(f"{len(found)} of {k} passages found: {reason}", "yellow")


@app.command()
@takes_values
def stats(folder: FolderArgument, *, tenant: TenantOption = "", display: Display) -> None:
    """Tell what an index holds."""
    told = collection(folder, tenant).stats()
    if display.as_json:
        write_json(dict(told))
        return
    for name, value in told.items():
        if value not in ("", ()):
            typer.echo(f"{name:<12} {_said(value)}")


@app.command()
@takes_values
def delete(
    folder: FolderArgument,
    *,
    source: Annotated[
        list[str] | None, Option(help="All passages of this source; may be repeated.")
    ] = None,
    id: Annotated[
        list[str] | None, Option(help="The passage with this id; may be repeated.")
    ] = None,
    tenant: TenantOption = "",
    display: Display,
) -> None:
    """Delete passages by their source or id."""
    if not source and not id:
        raise ConfigError("say what to delete: --source or --id, as `index search --json` tells")
    gone = collection(folder, tenant).delete(source or (), id or ())
    if display.as_json:
        write_json({"deleted": gone})
    elif not display.quiet:
        tell(f"{gone:,} passages deleted", "" if gone else "yellow")


def filter_of(given: Sequence[str] | None) -> Mapping[str, Any] | None:
    """A store's filter from `KEY=VALUE`. Raises ConfigError."""
    return {"$and": [_wanted(one) for one in given]} if given else None


def _wanted(given: str) -> dict[str, Any]:
    import json

    key, equals, value = given.partition("=")
    if not key or not equals:
        raise ConfigError(f"a filter is KEY=VALUE, such as source=notes.txt, was {given!r}")
    try:
        return {key: json.loads(value)}
    except ValueError:
        return {key: value}


def place(passage: Passage) -> str:
    """Where a passage stands: its source and characters."""
    return f"{passage.source or passage.id}:{passage.start}-{passage.end}"


def _show(number: int, passage: Passage) -> None:
    from tersely.middleware.signs import shown

    scores = {"score": passage.score, **passage.metadata.get("tersely", {})}
    told = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
    typer.secho(shown(f"[{number}] {place(passage)}  {told}"), bold=True)
    typer.echo(f"{shown(passage.text.strip())}\n")


def _said(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _tell_added(added: Added, pruned: int) -> None:
    gone = added.deleted + pruned
    tell(
        f"{added.files:,} files, {added.passages:,} passages: {added.new:,} new,"
        f" {added.passages - added.new:,} as before, {gone:,} deleted"
    )
    if added.skipped:
        some = [f"{name} ({why})" for name, why in list(added.skipped.items())[:SHOWN]]
        more = ["..."] if len(added.skipped) > SHOWN else []
        tell(f"skipped {len(added.skipped):,}: {', '.join(some + more)}", "yellow")


@contextmanager
def _bar(files: Sequence[Path], silent: bool) -> Iterator[Watch | None]:
    """A bar on standard error while files are added."""
    if silent:
        yield None
        return
    with meter(sum(file.stat().st_size for file in files), passing=True) as move:
        yield lambda read, kept: move(read, f"{kept:,} passages")
