"""What pruning to a quarter costs, beside one bare forward pass and the published packages."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.harness import (
    MODEL,
    THREADS,
    Cost,
    Row,
    in_turns,
    options,
    save,
    show,
    times,
)
from benchmarks.pruning_methods import (
    BARE,
    KEPT,
    RIVALS,
    Asked,
    Attempt,
    asked_for,
    begun,
    ready,
    works,
)
from benchmarks.pruning_peers import PeerFailed, checkpoint, fidelity

CHILD = """
import json, sys
from benchmarks.pruning_speed import peak
json.dump(peak(**json.load(sys.stdin)), sys.stdout)
"""


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    sizes = (500, 1000) if given.quick else (2000, 8000)
    results: dict[str, Any] = {"threads": THREADS, "kept": KEPT, "model": MODEL}
    with TemporaryDirectory() as folder:
        classifier = str(checkpoint(Path(folder), layers=2 if given.quick else 12))
        asked = [asked_for(given, size) for size in sizes]
        results["memory"] = memory(asked[0], classifier, quick=given.quick)
        show("memory above what is loaded", results["memory"])
        results["translation"] = _translation(asked[0])
        results["speed"], results["packages"] = [], []
        for one in asked:
            rows, pairs = speed(one, classifier, quick=given.quick)
            results["speed"] += rows
            results["packages"] += pairs
    show(f"a quarter kept, beside {BARE}", _narrow(results["speed"]))
    show("the same method: the package's cost over ours", _narrow(results["packages"]))
    save("pruning_speed", given, results)


def speed(asked: Asked, classifier: str, *, quick: bool) -> tuple[list[Row], list[Row]]:
    """Every method on the same text, in turns; then each package over our recipe.

    The packages take part in fewer turns of a long text: they need minutes.
    """
    lm = ready()
    for work in works(begun(asked), classifier).values():
        Attempt(work)()
    attempts = {name: Attempt(work) for name, work in works(asked, classifier).items()}
    turns, theirs = (2, 1) if quick else (6, 6) if asked.tokens < 4000 else (4, 2)
    costs = in_turns(attempts, {name: theirs if name in RIVALS else turns for name in attempts})
    rows: list[Row] = []
    for name, attempt in attempts.items():
        spent = [] if attempt.failed else costs[name]
        sizes = [len(lm.tokenizer(text)["input_ids"]) for text in (attempt.made, asked.text)]
        rows.append(
            {
                "tokens": asked.tokens,
                "method": name,
                "n": len(spent),
                "seconds (CPU)": float(np.median([cpu for cpu, _ in spent])) if spent else "",
                "seconds (wall)": float(np.median([wall for _, wall in spent])) if spent else "",
                "times one pass (CPU)": times(spent, costs[BARE], 0) if spent else "",
                "times one pass (wall)": times(spent, costs[BARE], 1) if spent else "",
                "kept": sizes[0] / sizes[1] if attempt.made else "",
                "failed": attempt.failed,
            }
        )
    return rows, [_rivalry(asked, package, attempts, costs) for package in RIVALS]


def _rivalry(
    asked: Asked, package: str, attempts: Mapping[str, Attempt], costs: Mapping[str, Sequence[Cost]]
) -> Row:
    """A package over our recipe, turn by turn."""
    ours = RIVALS[package]
    failed = attempts[package].failed or attempts[ours].failed
    return {
        "tokens": asked.tokens,
        "package": package,
        "ours": ours,
        "n": 0 if failed else len(costs[package]),
        "times ours (CPU)": "" if failed else times(costs[package], costs[ours], 0),
        "times ours (wall)": "" if failed else times(costs[package], costs[ours], 1),
        "failed": failed,
    }


def _translation(asked: Asked) -> Row:
    """What stands around the packages, looked at by itself."""
    try:
        return fidelity(asked.text)
    except PeerFailed as error:
        return {"failed": str(error)}


def memory(asked: Asked, classifier: str, *, quick: bool) -> list[Row]:
    """What each method needs above its loaded models, in a process of its own."""
    names = (BARE, "llmlingua", "llmlingua (package)") if quick else tuple(works(asked, classifier))
    rows: list[Row] = []
    for name in names:
        order = {
            "name": name,
            "tokens": asked.tokens,
            "documents": asked.documents,
            "question": asked.question,
            "classifier": classifier,
        }
        child = subprocess.run(
            [sys.executable, "-c", CHILD],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode:
            found = {"MiB": "", "failed": child.stderr.strip().rsplit("\n", 1)[-1]}
        else:
            found = json.loads(child.stdout.rsplit("\n", 1)[-1])
        rows.append({"tokens": asked.tokens, "method": name, **found})
    return rows


def peak(
    *, name: str, tokens: int, documents: Sequence[str], question: str, classifier: str
) -> dict[str, Any]:
    """The memory that one method needs at most, above what is loaded before it starts."""
    asked = Asked(tokens, tuple(documents), question)
    ready()
    Attempt(works(begun(asked), classifier)[name])()
    attempt = Attempt(works(asked, classifier)[name])
    gc.collect()
    before = _start_high_water()
    attempt()
    above = (_high_water() - before) / 2**20
    return {"MiB": "" if attempt.failed else above, "failed": attempt.failed}


def _narrow(rows: Sequence[Row]) -> list[Row]:
    """Rows without wall times, which the file has."""
    return [{name: row[name] for name in row if "wall" not in name} for row in rows]


def _start_high_water() -> int:
    """Bytes in use; what was used at most before is forgotten, where the system allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _high_water()


def _high_water() -> int:
    """Bytes of memory that this process has used at most.

    Linux's own account goes before getrusage, which counts what the parent used as well.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        told: Mapping[str, str] = dict(
            line.split(":", 1) for line in status.read_text().splitlines() if ":" in line
        )
        return int(told["VmHWM"].split()[0]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


if __name__ == "__main__":
    main()
