"""Jobs over several files: what a folder or a pattern names, each written under its own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tersely.errors import ConfigError
from tersely.middleware import places
from tersely.middleware.batch import BatchJob
from tersely.middleware.batch_heads import Heads, of_rows
from tersely.middleware.batch_report import BatchReport, check
from tersely.middleware.batch_summary import SUMS, BatchSummary
from tersely.middleware.batch_worth import SharedHead, told_of
from tersely.middleware.files import At, is_dataset, kind_of
from tersely.middleware.tally import Tally

BESIDE = (".errors.jsonl", ".report.jsonl", ".results.jsonl")
"""How files end that a job writes beside its target."""

SPLITS = "dataset_dict.json"
"""Beside datasets that are the splits of one, the file that names them."""


def run_all(source: str | Path, target: str | Path, settings: Mapping[str, Any]) -> BatchSummary:
    """Run the job of each file that a source names, one after the other.

    `limit` is for all of them together, and `errors` a folder where there are several. SIGINT ends
    them all, and the next run goes on there.
    `report` is one path or several, to which the account of all is written as a page or as figures.
    """
    settings = {**settings}
    reports = settings.pop("report", None) or ()
    reports = [reports] if isinstance(reports, str | Path) else [*reports]
    for path in reports:
        check(path)
    done: list[BatchSummary] = []
    jobs: list[BatchJob] = []
    limit = settings.get("limit")
    several = _several(str(source))
    for name, place in pairs(str(source), str(target)):
        left = None if limit is None else limit - sum(one.rows for one in done)
        given = {**settings, "source": name, "target": place, "limit": left}
        if several and settings.get("errors") is not None:
            given["errors"] = _errors(settings["errors"], place.removeprefix(str(target)))
        jobs.append(BatchJob(**given))
        done.append(jobs[-1].run())
        if not done[-1].finished:
            break
    _copy_splits(str(source), str(target))
    summary = together(done)
    if reports:
        report = _report(jobs, summary.tally)
        for path in reports:
            report.save(path)
    return summary


def _report(jobs: Sequence[BatchJob], tally: Tally) -> BatchReport:
    """The account of jobs, for which their rows are read once more to see how they begin."""
    heads = Heads()
    for job in jobs:
        of_rows(job.files, job.optimizer.format, job.files.blocks(At(), job.at_once), heads)
    model = jobs[0].settled.model
    named = model or next(iter(tally.read), "")
    return BatchReport.of(tally, model, begun_with(heads, jobs[0], named))


def begun_with(heads: Heads, job: BatchJob, model: str) -> tuple[SharedHead, ...]:
    """What beginnings mean for who answers the rows, if somebody does, else for a model."""
    if (generation := job.generate) is None:
        return told_of(heads, model)
    return told_of(heads, generation.model or model, generation.max_tokens)


def pairs(source: str, target: str) -> list[tuple[str, str]]:
    """The files that a source names, each with its target. Raises ConfigError with the mend."""
    if not _several(source):
        into = target.endswith("/") or (places.is_folder(target) and not is_dataset(target))
        return [(source, places.below(target, _last(source)) if into else target)]
    if kind_of(target)[0]:
        raise ConfigError(f"several files go to a folder, was {target}")
    given = [
        (place, name)
        for place, name in places.found(source, is_dataset)
        if (places.is_pattern(source) or _is_data(place)) and not _within(place, target)
    ]
    if not given:
        raise ConfigError(f"{source} names no files that can be read")
    return [(place, places.below(target, name)) for place, name in given]


def _several(source: str) -> bool:
    return places.is_pattern(source) or (places.is_folder(source) and not is_dataset(source))


def _errors(folder: str | Path, name: str) -> Path:
    """Where the errors of one file of several go. Raises ConfigError when that is no folder."""
    if kind_of(str(folder))[0] or Path(folder).is_file():
        raise ConfigError(f"the errors of several files go to a folder, was {folder}")
    return Path(folder) / f"{name.strip('/')}{BESIDE[0]}"


def together(done: Sequence[BatchSummary]) -> BatchSummary:
    """The account of several jobs."""
    if len(done) == 1:
        return done[0]
    sums = ("rows", "skipped", "seconds", *SUMS)
    return BatchSummary(
        **{name: sum(getattr(one, name) for one in done) for name in sums},
        finished=all(one.finished for one in done),
        interrupted=any(one.interrupted for one in done),
        notes=tuple(note for one in done for note in one.notes),
        max_error_rate=done[0].max_error_rate,
        tally=Tally.total(one.tally for one in done),
    )


def _is_data(place: str) -> bool:
    """Whether a file in a folder is meant: by its name, or since it is a dataset."""
    return (kind_of(place)[0] is not None and not place.endswith(BESIDE)) or is_dataset(place)


def _within(place: str, target: str) -> bool:
    """Whether a file lies in the folder that is written to."""
    if places.is_remote(place) or places.is_remote(target):
        return place.startswith(f"{target.rstrip('/')}/")
    return Path(place).resolve().is_relative_to(Path(target).resolve())


def _last(place: str) -> str:
    return place.rstrip("/").rpartition("/")[2]


def _copy_splits(source: str, target: str) -> None:
    """Let datasets that are the splits of one be so again."""
    if places.is_pattern(source) or not places.is_folder(source):
        return
    if places.exists(named := places.below(source, SPLITS)):
        with places.opened(named) as file:
            data = file.read()
        places.write(data, places.below(target, SPLITS))
