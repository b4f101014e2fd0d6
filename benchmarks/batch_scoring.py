"""What a batch job makes of a model's speed: its scoring beside the bare model, and beside a loop.

`scoring` is the job's work on blocks of rows, and the scoring pass in it, each beside the model's
own forward pass over the same windows, and nothing else: in whichever batches it is fastest (one
window at a time, windows of like length filled up to the longest of them, or only those that need
little filling up). `loop` is rows a second beside a plain loop over `llmlingua.compress_prompt` on
the same weights, and what is kept of the answers. All ways take their turn on every block, so that
all meet the same machine; a figure is the median of ratios, block by block, with its 95 % interval.

The classifier of the loop is trained here, a few minutes, on passages that are not measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.batch_scoring_bare import scoring
from benchmarks.batch_scoring_loop import loop
from benchmarks.batch_scoring_rows import (
    BLOCK,
    SHARE,
    trained,
)
from benchmarks.harness import (
    Options,
    Row,
    options,
    save,
    show,
)

THREADS = 2


def main(argv: Sequence[str] | None = None) -> None:
    import torch

    given = options(__doc__ or "", argv)
    if given.data is None:
        raise SystemExit("batch_scoring needs --data DIR, a folder of public evaluation sets")
    torch.set_num_threads(THREADS)
    classifier = trained(given.data, quick=given.quick)
    with TemporaryDirectory() as made:
        folder = Path(made)
        found = {
            "scoring": _once(given, "scoring", lambda: scoring(folder, given, classifier)),
            "loop": _once(given, "loop", lambda: loop(folder, given, classifier)),
        }
    for title, rows in found.items():
        show(title, [{k: v for k, v in row.items() if "wall" not in k} for row in rows])
    save("batch_scoring", given, {"threads": THREADS, "block": BLOCK, "kept": SHARE, **found})
    for part in found:
        _part(given, part).unlink()


def _part(given: Options, name: str) -> Path:
    return given.out / f"batch_scoring.{name}{'.quick' if given.quick else ''}.part"


def _once(given: Options, name: str, measure: Callable[[], list[Row]]) -> list[Row]:
    """What a part came to, also where an earlier run that was broken off had measured it."""
    place = _part(given, name)
    if not place.is_file():
        rows = measure()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(rows))
    found: list[Row] = json.loads(place.read_text())
    return found


if __name__ == "__main__":
    main()
