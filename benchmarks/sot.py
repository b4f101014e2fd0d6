"""Skeleton-of-Thought: what points side by side save, what skeletons are like, and the answers.

Time is taken at fixed lengths, with the plan's own calls on a real engine (see `sot_fixed`): beside
one answer of as many tokens on the same engine with the same settings, next to each other, with
what that machine's own steps allow at best. Every row is kept as soon as it is there, so that the
work can be stopped and gone on with; `--again` begins anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import sot_quality, sot_skeletons, sot_time, sot_time_report
from benchmarks.harness import MODEL, RESULTS, THREADS, Options, save
from benchmarks.sot_engines import engines
from benchmarks.sot_kept import kept
from tersely.backends.http import HttpBackend
from tersely.backends.local import LocalBackend
from tersely.contracts import Backend
from tersely.sot.probing import probed

PARTS = ("time", "skeletons", "quality")


def main(argv: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(argv)
    if given.url and not given.model:
        raise SystemExit("sot: --url needs the name of a model there: --model NAME")
    _one_thread()
    found: dict[str, Any] = {"model": given.model or MODEL, "url": given.url}
    for part in given.only or PARTS:
        if part != "time" and given.data is None:
            print(f"sot, {part}: needs the folder of public evaluation sets: --data DIR")
            continue
        found[part] = _MAKERS[part](given)
    save(_label(given), Options(given.data, given.out, given.quick), found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of public evaluation sets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--quick", action="store_true", help="a small part, to see that it runs")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone")
    parser.add_argument("--url", default="", help="an OpenAI-compatible server, with --model")
    parser.add_argument("--model", default="", help="the server's model, or one here")
    parser.add_argument("--pid", type=int, help="the server's process: its CPU seconds are taken")
    parser.add_argument("--judge-url", default="", help="a server whose model judges")
    parser.add_argument("--judge-model", default="", help="the model that judges")
    parser.add_argument("--again", action="store_true", help="forget what was measured before")
    return parser


def _time(given: argparse.Namespace) -> dict[str, Any]:
    rows = kept("sot-time", f"{given.url} {given.model}", quick=given.quick, again=given.again)
    with engines(given.url, given.model, given.pid, quick=given.quick) as found:
        profiles = {one.name: probed(one.backend) for one in found}
        turns = sot_time.measured(found, rows, quick=given.quick)
    return sot_time_report.told(turns, profiles)


def _skeletons(given: argparse.Namespace) -> dict[str, Any]:
    backend, model = _asked(given.url, given.model)
    rows = kept("sot-skeletons", f"{given.url} {model}", quick=given.quick, again=given.again)
    return sot_skeletons.main_rows(backend, model, given.data, rows, quick=given.quick)


def _quality(given: argparse.Namespace) -> dict[str, Any]:
    backend, model = _asked(given.url, given.model)
    judge = _asked(given.judge_url, given.judge_model)[0] if given.judge_model else None
    who = f"{given.url} {model} {given.judge_url} {given.judge_model}"
    rows = kept("sot-quality", who, quick=given.quick, again=given.again)
    return sot_quality.main_rows(backend, model, judge, given.data, rows, quick=given.quick)


def _label(given: argparse.Namespace) -> str:
    """What the file is called: a server's figures stand beside those of this process."""
    if not given.url:
        return "sot"
    return f"sot_{HttpBackend(base_url=given.url, model=given.model).recognised().engine}"


def _asked(url: str, model: str) -> tuple[Backend, str]:
    """A server with what it was seen to do, or the model in this process."""
    if not url:
        return LocalBackend(model=model or MODEL), model or MODEL
    server = HttpBackend(base_url=url, model=model)
    return server.model_copy(update={"can": server.probe()}), model


_MAKERS = {"time": _time, "skeletons": _skeletons, "quality": _quality}


def _one_thread() -> None:
    import torch

    torch.set_num_threads(THREADS)


if __name__ == "__main__":
    main()
