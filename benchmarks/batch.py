"""A batch job at any size: faults that lose nothing, memory that stays flat, and the pace.

`faults` disturbs jobs at random moments: kill -9, SIGINT, a full disk, rows that can't be read or
end their worker, stages that raise. Every job then goes on to its end, and each outcome is compared
with what is known of its rows, and with that of an undisturbed job to the byte. `memory` is that
of all processes of a job over ten and a hundred times as many rows. `pace` is rows a second of
pipelines without a model with one and two processes, and CPU time beside a plain loop over the
pipeline, which is what all the rest costs.

Rows are kept as they come, so that a run that was stopped goes on.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.batch_faults import faults
from benchmarks.batch_pace import SIZES, memory, pace
from benchmarks.harness import Options, Row, options, read_lines, save, show

Measured = tuple[str, Callable[[], Row]]
"""The name of a row, and what measures it."""


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        kept = Kept(given)
        found = {
            "faults": kept.rows("faults", faults(folder, 8 if given.quick else 100)),
            "memory": kept.rows("memory", memory(folder, (100, 1_000) if given.quick else SIZES)),
            "pace": kept.rows(
                "pace",
                pace(folder, repeats=1, share=0.05)
                if given.quick
                else pace(folder, repeats=5, share=1.0),
            ),
        }
    for title, rows in found.items():
        show(
            title,
            [{n: v for n, v in row.items() if n != "MiB by tenth of the time"} for row in rows],
        )
    save("batch", given, found)
    kept.path.unlink()


class Kept:
    """Rows that were measured, in a file that grows with them."""

    def __init__(self, given: Options) -> None:
        given.out.mkdir(parents=True, exist_ok=True)
        self.path = given.out / f"batch{'.quick' if given.quick else ''}.part.jsonl"

    def rows(self, table: str, measured: Iterable[Measured]) -> list[Row]:
        """The rows of a table; those that are there are not measured again."""
        self.path.touch()
        known = {(one["table"], one["name"]): one["row"] for one in read_lines(self.path)}
        found: list[Row] = []
        for name, measure in measured:
            if (table, name) not in known:
                known[table, name] = measure()
                with self.path.open("a") as file:
                    told = {"table": table, "name": name, "row": known[table, name]}
                    file.write(json.dumps(told) + "\n")
            found.append(known[table, name])
        return found


if __name__ == "__main__":
    main()
