"""What a provider's batch came to, put back into the rows that were asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfileobj, rmtree
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from pydantic import BaseModel, ConfigDict

from tersely.errors import ConfigError, RequestError
from tersely.middleware import places
from tersely.middleware.batch_outputs import Outputs
from tersely.middleware.batch_requests import row_name
from tersely.middleware.batch_results import Outcome, outcome_of
from tersely.middleware.files import ANSWER, At, Block, Files, Made, files_of
from tersely.middleware.rawjson import parse
from tersely.middleware.rows import Treated

READ_AT_ONCE = 64

SHOWN = 10
"""So many names are told of each kind."""


class Collected(BaseModel):
    """What became of the rows: those `answered`, and those whose request `failed`.

    `missing` rows have no result, `unknown` results no row; `doubled` are names that came more than
    once, in the results or among the rows. Of each the first names are in `names`.
    """

    model_config = ConfigDict(frozen=True)

    rows: int = 0
    answered: int = 0
    failed: int = 0
    missing: int = 0
    unknown: int = 0
    doubled: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    names: Mapping[str, tuple[str, ...]] = {}

    @property
    def exit_code(self) -> int:
        """0 when every row has its answer."""
        return int(self.answered < self.rows)

    @property
    def message(self) -> str:
        """What happened, in a sentence or two."""
        told = [f"{self.answered:,} of {self.rows:,} rows have an answer"]
        for kind in ("failed", "missing", "unknown", "doubled"):
            if count := getattr(self, kind):
                told.append(f"{count:,} {kind} ({', '.join(self.names[kind])})")
        used = f"{self.prompt_tokens:,} tokens read, {self.completion_tokens:,} written"
        return f"{', '.join(told)}; {used}"


def collect(
    source: str | Path, results: str | Path | Sequence[str | Path], target: str | Path
) -> Collected:
    """Put the answers of a provider's batch into the rows that were asked.

    `source` are the rows: the batch file itself, known by `custom_id`, or the data set that
    `requests` were made of, known by the number of each row. `results` are the provider's files of
    answers and errors, of OpenAI or Anthropic, in any order. The target has the rows in order, with
    a column `tersely_answer`; a row without an answer goes, with the reason, to
    `<target>.errors.jsonl` as well. An answer goes before an error, and a later one before an
    earlier one. What was there is replaced when all is done; stopped before, nothing is.

    Memory grows by the names of the results alone. Raises ConfigError for files that can't be read.
    """
    named = [str(one) for one in ([results] if isinstance(results, str | Path) else results)]
    files = files_of(str(source), str(target), (ANSWER,))
    outputs = Outputs(files=files, target=str(target), errors=None, told=False)
    outputs.check()
    _check_apart(outputs, named)
    with ExitStack() as opened:
        index = Index([opened.enter_context(_seekable(one)) for one in named], named)
        count = Count()
        with _drafted(outputs) as (grown, errors):
            grown.write(places.packed(files.head(), files.codec))
            for block in files.blocks(At(), READ_AT_ONCE):
                made = _joined(files, block, index, count)
                grown.write(places.packed(b"".join(made.target), files.codec))
                errors.write(made.errors)
        return count.told(index)


@dataclass(slots=True)
class Names:
    """How many of a kind there are, and what the first are called."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(name)


@dataclass(slots=True)
class Index:
    """Where the result of each request lies in the files, by its name."""

    files: Sequence[IO[bytes]]
    names: Sequence[str]
    places: dict[str, tuple[int, int, bool]] = field(default_factory=dict, init=False)
    used: set[str] = field(default_factory=set, init=False)
    doubled: Names = field(default_factory=Names, init=False)

    def __post_init__(self) -> None:
        for number, file in enumerate(self.files):
            for start, raw in _lines(file):
                if not raw.strip():
                    continue
                name, outcome = _read(raw, self.names[number], start)
                known, is_answer = self.places.get(name), outcome.body is not None
                if known is not None:
                    self.doubled.add(name)
                if known is None or is_answer or not known[2]:
                    self.places[name] = (number, start, is_answer)

    def take(self, name: str) -> Outcome | None:
        """What came of a request; None when nothing did."""
        if name not in self.places:
            return None
        if name in self.used:
            self.doubled.add(name)
        self.used.add(name)
        number, start, _ = self.places[name]
        file = self.files[number]
        file.seek(start)
        return _read(file.readline(), self.names[number], start)[1]

    @property
    def unknown(self) -> Names:
        """Results that no row asked for."""
        found = Names()
        for name in sorted(self.places.keys() - self.used):
            found.add(name)
        return found


@dataclass(slots=True)
class Count:
    """What came of the rows so far."""

    rows: int = 0
    answered: int = 0
    tokens: list[int] = field(default_factory=lambda: [0, 0, 0])
    failed: Names = field(default_factory=Names)
    missing: Names = field(default_factory=Names)

    def told(self, index: Index) -> Collected:
        """The account of all rows."""
        kinds = {
            "failed": self.failed,
            "missing": self.missing,
            "unknown": index.unknown,
            "doubled": index.doubled,
        }
        prompt, cached, completion = self.tokens
        return Collected(
            rows=self.rows,
            answered=self.answered,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            names={kind: tuple(sorted(one.first)) for kind, one in kinds.items()},
            **{kind: one.count for kind, one in kinds.items()},
        )


def _joined(files: Files, block: Block, index: Index, count: Count) -> Made:
    """The rows of a block with their answers."""
    whole = not files.has_column  # JSON has room for all that came
    found = iter([_found(name, index, count, whole) for name in _names(files, block)])
    return files.treat(block, lambda _: next(found), column=True)


def _names(files: Files, block: Block) -> Iterator[str]:
    """By what each row that can be read was asked."""
    for one in files.alone(block):
        for row in files.rows(one):
            own = row.get("custom_id") if isinstance(row, Mapping) else None
            yield str(own) if own is not None else row_name(one.end.line)


def _found(name: str, index: Index, count: Count, whole: bool) -> Treated:
    """What came of one row."""
    count.rows += 1
    outcome = index.take(name)
    if outcome is None:
        count.missing.add(name)
        return Treated(status="failed", reason=f"there is no result for {name!r}")
    if outcome.body is None or (outcome.more and not whole):
        count.failed.add(name)
        more = f"its answer is more than a text ({outcome.more}): write JSONL"
        return Treated(status="failed", reason=outcome.reason or more)
    count.answered += 1
    answer = outcome.answer
    used = (answer[f"{kind}_tokens"] for kind in ("prompt", "cached", "completion"))
    count.tokens = [so_far + now for so_far, now in zip(count.tokens, used, strict=True)]
    body = {"body": outcome.body} if outcome.more else {}
    return Treated(status="unchanged", answer=answer | body)


def _read(raw: bytes, place: str, start: int) -> tuple[str, Outcome]:
    """One line of the results. Raises ConfigError with its place."""
    try:
        return outcome_of(parse(raw.decode()))
    except (RequestError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place} is no file of results, at byte {start}: {error}") from error


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, each with the place where it begins."""
    file.seek(0)
    start = 0
    for raw in file:
        yield start, raw
        start += len(raw)


def _check_apart(outputs: Outputs, results: Sequence[str]) -> None:
    """Raise ConfigError when a file of results would be written over."""
    mine = {path.resolve() for path in (outputs.beside(""), outputs.growing["errors"])}
    for one in results:
        if not places.is_remote(one) and Path(one).resolve() in mine:
            raise ConfigError(f"the target must be another file than the results, was {one}")


@contextmanager
def _seekable(place: str) -> Iterator[IO[bytes]]:
    """A file in which any place can be read; a packed one is unpacked into a file of no name."""
    with places.opened(place) as file:
        codec = places.codec_of(place)
        if not codec:
            yield file
            return
        with TemporaryFile() as whole:
            try:
                copyfileobj(places.unpacked(file, codec), whole)
            except (EOFError, ValueError) as error:
                raise ConfigError(f"{place} can't be read: {error}") from error
            yield whole


@contextmanager
def _drafted(outputs: Outputs) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Files for the rows and the errors, which become the target when all is done."""
    target, errors = outputs.beside(""), outputs.growing["errors"]
    with TemporaryDirectory(dir=target.parent) as beside:
        grown, told = Path(beside, "rows"), Path(beside, "errors")
        with grown.open("wb") as rows, told.open("wb") as faults:
            yield rows, faults
        made = grown
        if not outputs.files.grows:
            outputs.files.finish(grown, made := Path(beside, "made"))
        if target.is_dir():
            rmtree(target)
        made.replace(target)
        errors.unlink(missing_ok=True)
        if told.stat().st_size:
            told.replace(errors)
    if places.is_remote(outputs.target):
        folder = outputs.target.rstrip("/").rpartition("/")[0]
        for path in filter(Path.exists, (target, errors)):
            places.put(path, places.below(folder, path.name))
