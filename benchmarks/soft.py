"""A long fixed prompt as a few vectors: what stays of it, and what is saved.

Quality is measured on turns that were held out, beside shorter texts of the same prompt, and speed
in turns with the full prompt on the local engine. Every row is kept as soon as it is there, so that
the work can be stopped and gone on with; `--again` begins anew.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks import soft_report
from benchmarks.harness import MODEL, RESULTS, THREADS, Options, save, show
from benchmarks.soft_learned import LEARNED, STARTS, cost, folder_of, learned, untrained
from benchmarks.soft_prompts import Fixed, fixed
from benchmarks.soft_quality import TEXT_SIZES, TEXTS, Measured, shortened, tokens_of
from benchmarks.soft_speed import AT_ONCE, decoding, first_token, verdicts
from benchmarks.sot_kept import Found, Kept, kept
from tersely.soft import KVPrefix
from tersely.soft_artefact import text_hash
from tersely.weights import LMPrecision

PARTS = ("texts", "learned", "speed")
OF_SPEED = 32
"""Keys and values with which speed is measured; what they say is all the same to it."""

PRECISIONS: Sequence[LMPrecision] = ("auto", "int8")
ANSWER = 100
"""Tokens of the answers for which it is counted how soon training pays back."""


def main(argv: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(argv)
    if given.data is None:
        print("soft: needs the folder of public evaluation sets: --data DIR")
        return
    _one_thread()
    rows = kept("soft", MODEL, quick=given.quick, again=given.again)
    if given.again:
        _forget(quick=given.quick)
    prompts = [one for one in fixed(given.data) if one.name in (given.prompt or [one.name])]
    for part in given.only or PARTS:
        for one in prompts:
            _MAKERS[part](one, rows, given)
    _summed_up(given, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of public evaluation sets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--quick", action="store_true", help="a small part, to see that it runs")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone")
    parser.add_argument("--prompt", action="append", help="this prompt: policy, shots, reference")
    parser.add_argument("--most", type=int, default=2, help="forms and sizes to learn")
    parser.add_argument("--steps", type=int, default=100, help="steps of each training, at most")
    parser.add_argument("--again", action="store_true", help="forget what was measured before")
    return parser


def _texts(one: Fixed, rows: Kept, given: argparse.Namespace) -> None:
    """The full prompt, none, and shorter texts."""
    measured = Measured(one, rows, quick=given.quick)
    measured.row(soft_report.FULL, lambda: one.text, tokens_of(one.text))
    measured.row("none", lambda: None, 0)
    for tokens in TEXT_SIZES:
        for method in TEXTS:
            measured.row(method, partial(shortened, one, method, tokens), tokens)
            print(f"soft, {one.name}: {method} {tokens}", flush=True)


def _learned(one: Fixed, rows: Kept, given: argparse.Namespace) -> None:
    """What is learned, and where learning starts from."""
    measured = Measured(one, rows, quick=given.quick)
    for start in STARTS:
        for tokens in TEXT_SIZES:
            make = partial(untrained, one, tokens, start, rows, quick=given.quick)
            measured.row(f"untrained, {start}", make, tokens)
    for form, tokens in LEARNED[: given.most]:
        made = learned(one, form, tokens, rows, steps=given.steps, quick=given.quick)
        measured.row(form, partial(getattr, made, "soft"), tokens)
        rows.once(f"{one.name} {form} {tokens} cost", partial(cost, made.about))


def _speed(one: Fixed, rows: Kept, given: argparse.Namespace) -> None:
    soft = untrained(one, OF_SPEED, "averaged", rows, quick=given.quick)
    if not isinstance(soft, KVPrefix):
        raise TypeError(f"keys and values are measured, not {type(soft).__name__}")
    quick = given.quick
    rows.once(f"{one.name} first token", lambda: first_token(one, soft, quick=quick))
    for precision in PRECISIONS:
        name = f"{one.name} decoding {precision}"
        rows.once(name, partial(decoding, one, soft, precision, quick=quick))


_MAKERS = {"texts": _texts, "learned": _learned, "speed": _speed}


def _summed_up(given: argparse.Namespace, rows: Kept) -> None:
    """Print and write all that is there, of whatever run."""
    prompts = fixed(given.data)
    measured = [row for row in rows.rows.values() if "kl" in row]
    found: dict[str, Any] = {"model": MODEL, "prompts": [_about(one) for one in prompts]}
    if measured:
        found["quality"] = soft_report.summed(measured)
        found["targets"] = soft_report.targets(measured)
        soft_report.tell(found["quality"], found["targets"])
    steps = [f"decoding {precision}" for precision in PRECISIONS]
    costs = [f"{form} {tokens} cost" for form, tokens in LEARNED]
    for part, names in {"speed": ["first token", *steps], "training": costs}.items():
        found[part] = [row for one in prompts for name in names for row in _there(rows, one, name)]
        for row in found[part]:
            show(f"{row['prompt']}, {row['what']}", [_without_names(row)])
            print("\n".join(verdicts(row)))
    path = save("soft", Options(given.data, given.out, given.quick), found)
    if measured:
        soft_report.draw(found["quality"], path.with_suffix(".png"))


def _there(rows: Kept, one: Fixed, name: str) -> Iterator[Found]:
    """A row, if it was measured; with the cost of training, how soon that pays back."""
    if (row := rows.rows.get(f"{one.name} {name}")) is None:
        return
    yield {"prompt": one.name, "what": name, **row, **_pays_back(rows, one, row)}


def _pays_back(rows: Kept, one: Fixed, row: Found) -> Found:
    """After how many requests training took less than reading on from a cached prompt each time.

    Each is answered with so many tokens, as one of sixteen at a time.
    """
    first = rows.rows.get(f"{one.name} first token")
    step = rows.rows.get(f"{one.name} decoding {PRECISIONS[0]}")
    if "seconds" not in row or first is None or step is None:
        return {}
    begun = first["milliseconds, cached"][0] - first["milliseconds, vectors"][0]
    token = (step["milliseconds, full"][0] - step["milliseconds, vectors"][0]) / AT_ONCE
    saved = (begun + ANSWER * token) / 1000
    return {
        "milliseconds saved a request, cached": 1000 * saved,
        "pays back, cached": ceil(row["seconds"] / saved),
    }


def _without_names(row: Found) -> Found:
    return {name: value for name, value in row.items() if name not in ("prompt", "what")}


def _about(one: Fixed) -> dict[str, Any]:
    return {
        "prompt": one.name,
        "tokens": tokens_of(one.text),
        "sha256": text_hash(one.text),
        "turns learned from": len(one.learned),
        "turns held out": len(one.held),
        "facts": len(one.facts),
    }


def _forget(*, quick: bool) -> None:
    shutil.rmtree(folder_of("x", quick=quick).parent, ignore_errors=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(THREADS)


if __name__ == "__main__":
    main()
