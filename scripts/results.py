"""Write docs/results.md from what the benchmarks measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"

SETS = {
    "nq": "Natural Questions: one gold passage among the nineteen nearest that lack the answer",
    "hotpot": "HotpotQA: ten paragraphs, two of which together answer",
    "gsm8k": "GSM8K: eight solved problems in front of one",
    "qmsum": "QMSum: a stretch of a meeting, and a question about some of its turns",
}

HEAD = """\
# What pruning keeps

`python -m benchmarks pruning pruning_speed --data DIR` measures this, and `scripts/results.py`
writes the page. The reader is SmolLM2-135M in bfloat16; the packages run unmodified on the same
weights in the same process. Brackets hold 95 % bootstrap intervals, `n` is how many items a row
rests on, and stands in a cell that rests on fewer of them. Settings were chosen on other items.

- **likelihood**: the mean log-likelihood of the gold answer's tokens, in nats: higher is better.
  **gain**: that, less the likelihood after the full prompt, item by item: rows with other `n`
  rest on other items, and only gains can be compared between them.
- **answer**, **gold**: the share of prompts that still hold the answer, and of the sentences that
  it rests on. **facts**: the numbers, ids and names of these sentences that are left.
- **invented**: numbers in the result that the source does not hold.

![Gain and survival against tokens kept, a line for each method](../benchmarks/results/pruning.png)
"""


def page() -> str:
    """The page as Markdown."""
    found = json.loads((RESULTS / "pruning.json").read_text(encoding="utf-8"))
    parts = [HEAD, *_paired(found), *_budgets(found), *_tables(found), *_speed()]
    parts += [*_replay(), *_batch()]
    return "\n".join(parts).rstrip() + "\n"


def _paired(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## The default beside all others, at a quarter of the tokens"
    yield ""
    yield "Likelihood of the answer from `query` less that from each other, item by item."
    yield ""
    yield "| less | NQ | HotpotQA | GSM8K | QMSum | mean of the sets |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in found["paired"]:
        cells = [_cell(row.get(name), row.get(f"n {name}")) for name in SETS]
        yield f"| {row['method']} | {' | '.join(cells)} | {_cell(row.get('mean of sets'))} |"
    yield ""


def _budgets(found: Mapping[str, Any]) -> Iterator[str]:
    """How often each method went over its budget, over all sets and ratios."""
    yield "## Budgets"
    yield ""
    yield "| method | results | over budget | least and most of a set's mean use |"
    yield "| --- | --- | --- | --- |"
    for method in dict.fromkeys(row["method"] for row in found["table"]):
        rows = [r for r in found["table"] if r["method"] == method and 0 < r["ratio"] < 1]
        used = [row["used"][0] for row in rows if "used" in row]
        if used:
            over = sum(row["over budget"] for row in rows)
            count = sum(row["n"] for row in rows)
            yield f"| {method} | {count} | {over} | {min(used):.3f} to {max(used):.3f} |"
    yield ""


def _tables(found: Mapping[str, Any]) -> Iterator[str]:
    measures = ("likelihood", "gain", "f1", "answer", "gold", "facts", "invented", "used")
    for name, title in SETS.items():
        rows = [row for row in found["table"] if row["set"] == name]
        shown = [m for m in measures if any(m in row for row in rows)]
        yield f"## {title}"
        yield ""
        yield f"| method | kept | n | {' | '.join(shown)} |"
        yield f"| --- | --- | --- | {' | '.join('---' for _ in shown)} |"
        for row in rows:
            cells = " | ".join(_cell(row.get(one), _fewer(row, one)) for one in shown)
            yield f"| {row['method']} | {row['ratio']:g} | {row['n']} | {cells} |"
        yield ""


def _speed() -> Iterator[str]:
    path = RESULTS / "pruning_speed.json"
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    memory = {row["method"]: row["MiB"] for row in found["memory"]}
    yield "## What it costs"
    yield ""
    yield "The whole of a call to a quarter of the tokens, in times of one bare forward pass of the"
    yield "same model over the same tokens: CPU seconds, paired, one thread. The packages run on"
    yield "the weights that ours read, in bfloat16, and once more in float32, the way they load"
    yield "a model on a CPU by themselves. LLMLingua-2 has random weights of the published size."
    yield "Memory is what a call needs at most above its models."
    yield ""
    for size in dict.fromkeys(row["tokens"] for row in found["speed"]):
        with_memory = any(row["tokens"] == size for row in found["memory"])
        yield f"| {size:,} tokens | n | times one pass | kept |{' MiB |' if with_memory else ''}"
        yield f"| --- | --- | --- | --- |{' --- |' if with_memory else ''}"
        for row in (one for one in found["speed"] if one["tokens"] == size):
            taken = row["failed"] or _cell(row["times one pass (CPU)"] or None)
            share = f"{row['kept']:.3f}" if row["kept"] else ""
            line = f"| {row['method']} | {row['n']} | {taken} | {share} |"
            yield line + (f" {_number(memory[row['method']])} |" if with_memory else "")
        yield ""
    yield "| package | tokens | ours | its cost over ours | over `query` |"
    yield "| --- | --- | --- | --- | --- |"
    for row in found["packages"]:
        taken = row["failed"] or _cell(row["times ours (CPU)"] or None)
        share = _over(found["speed"], row["package"], row["tokens"])
        yield f"| {row['package']} | {row['tokens']:,} | `{row['ours']}` | {taken} | {share} |"
    yield ""


def _replay() -> Iterator[str]:
    """What agents' conversations cost, turn by turn."""
    path = RESULTS / "agents_replay.json"
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    count = sum(found["conversations"].values())
    yield "## What agents' conversations cost"
    yield ""
    yield f"`python -m benchmarks agents_replay --data DIR` sends {count} conversations"
    yield f"({found['requests']:,} requests) turn by turn, with eight models' prices of"
    yield f"{found['prices']}, once ten seconds apart and once with idle hours, through the"
    yield "provider's prompt cache. `saved` is the share of a conversation's dollars: the median,"
    yield "and where 5 % and 95 % of them lie. `dearer` are those that cost more than nothing done."
    yield "Under `history` and `truncate` a conversation's limit is 60 % of its last request. Other"
    yield "packages compress each request by itself, of one conversation in ten; `n` tells how many"
    yield "conversations a row rests on."
    yield ""
    yield from _priced([row for row in found["table"] if row["source"] == "all"], ())
    yield "By source, and by model and pace:"
    yield ""
    ours = ("default", "bold", "default, history waits")
    some = [row for row in found["table"] if row["way"] in ours and row["source"] != "all"]
    yield from _priced(some, ("source",))
    yield from _priced(found["by model"], ("model", "pace"))


def _priced(rows: list[dict[str, Any]], by: tuple[str, ...]) -> Iterator[str]:
    heads = ("way", *by, "n", "dearer", "saved", "of all dollars", "tokens", "read from cache")
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for row in rows:
        if not row["n"]:
            continue
        middle, low, high = row["saved"]
        cells = [
            row["way"],
            *(row[name] for name in by),
            row["n"],
            f"{row['dearer']} of {row['priced']}",
            f"{middle:.1%} [{low:.1%}, {high:.1%}]",
            *(f"{row[name]:.1%}" for name in ("of all dollars", "tokens", "read from cache")),
        ]
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""


def _batch() -> Iterator[str]:
    """What befell batch jobs, their memory and their pace."""
    path = RESULTS / "batch.json"
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    yield "## Batch jobs under faults, and at size"
    yield ""
    yield "`python -m benchmarks batch` measures this. Each job that something befell goes on to"
    yield "its end; then its rows, their order and its errors are compared with what is known of"
    yield "them, and all bytes with those of a job that nothing befell. `n` is how often it did."
    yield ""
    counts = ("rows lost", "rows doubled", "out of order", "errors wrong", "other bytes")
    yield f"| fault | n | jobs | {' | '.join(counts)} |"
    yield f"| --- | --- | --- | {' | '.join('---' for _ in counts)} |"
    for row in found["faults"]:
        cells = " | ".join(str(row.get(name, "")) for name in counts)
        yield f"| {row['fault']} | {row['n']} | {row['jobs']} | {cells} |"
    yield ""
    yield "Memory of all processes of a job together, in MiB, without a model; what they share"
    yield "counts for each of them."
    yield ""
    yield "| files | workers | rows | peak | in the fifth tenth of the time | in the last |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in found["memory"]:
        tenths = row["MiB by tenth of the time"]
        told = f"{row['files']} | {row['workers']} | {row['rows']:,} | {row['MiB (peak)']:.1f}"
        yield f"| {told} | {tenths[len(tenths) // 2 - 1]:.1f} | {tenths[-1]:.1f} |"
    yield ""
    yield "Rows a second of pipelines without a model, on two cores: medians of runs in turn, while"
    yield "a job is under way. The runs are short: what a job opens once weighs in its CPU a row."
    yield ""
    names = [name for name in found["pace"][0] if name not in ("pipeline", "n", "repeats")]
    yield f"| pipeline | rows | runs | {' | '.join(names)} |"
    yield f"| --- | --- | --- | {' | '.join('---' for _ in names)} |"
    for row in found["pace"]:
        cells = " | ".join(_cell(row[name]) for name in names)
        yield f"| {row['pipeline']} | {row['n']:,} | {row['repeats']} | {cells} |"
    yield ""


def _fewer(row: Mapping[str, Any], measure: str) -> int | None:
    """How many items a measure rests on, where it is not all of a row."""
    count: int | None = row.get(f"n {measure}")
    return count if count != row["n"] else None


def _over(rows: list[dict[str, Any]], method: str, tokens: int) -> str:
    """The median cost of a method over that of the default."""
    cost = {row["method"]: row["seconds (CPU)"] for row in rows if row["tokens"] == tokens}
    return f"{cost[method] / cost['query']:.1f}" if cost[method] and cost["query"] else ""


def _number(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float | int) else str(value)


def _cell(value: Any, n: int | None = None) -> str:
    if value is None:
        return ""
    middle, low, high = value
    count = f" n={n}" if n else ""
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]{count}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
