"""Kill a writer at random moments, many times: does the store open, and is anything lost?

python -m benchmarks.rag_faults [--quick]
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.harness import options, save, show

TESTS = Path(__file__).parents[1] / "tests"
KILLS, QUICK = 200, 10


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    sys.path.insert(0, str(TESTS))
    Writers = import_module("killed_writer").Writers  # noqa: N806

    drawn = random.Random(1)
    kills = QUICK if given.quick else KILLS
    rows = {"opened": 0, "damaged snapshots": 0, "lost": 0}
    with tempfile.TemporaryDirectory() as folder:
        writers = Writers(Path(folder) / "store", Path(folder) / "notes")
        for seed in range(kills):
            try:
                _, damaged = writers.kill_one(seed, drawn.randint(1, 20), drawn.random() * 0.05)
            except AssertionError as error:
                print(f"kill {seed}: {error}")
                rows["lost"] += 1
                continue
            rows["opened"] += 1
            rows["damaged snapshots"] += damaged
        writers.close()
        notes = (Path(folder) / "notes").read_text(encoding="utf-8").splitlines()
    rows["calls acknowledged"] = sum("added" in one or "deleted" in one for one in notes)
    rows["saves acknowledged"] = sum("saved" in one for one in notes)
    rows["killed in a call"] = unfinished(notes)
    rows["killed in a save"] = unfinished(notes, "saving")
    table = [{"kills": kills, **rows}]
    show("A writer is killed at random moments", table)
    save("rag_faults", given, {"rows": table})


def unfinished(notes: list[str], what: str = "ing") -> int:
    """How many processes died within something they had begun."""
    behind = [*notes[1:], "ready"]
    last = [one for one, after in zip(notes, behind, strict=True) if "ready" in after]
    return sum(f'{what}"' in one for one in last)


if __name__ == "__main__":
    main()
