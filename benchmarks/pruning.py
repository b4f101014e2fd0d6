"""Pruning beside its peers: what is kept, and how well a model answers from it.

Four public sets at a half, a quarter and an eighth of the tokens. Every row is kept as soon as it
is measured, so that the work can be stopped, resumed, and shared among processes (`--part 1/2`).
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import regex
from rich.progress import track

from benchmarks import pruning_report
from benchmarks.harness import MODEL, RESULTS, THREADS, Options, forget
from benchmarks.pruning_peers import PEERS, PeerFailed
from benchmarks.pruning_sets import Item, holds, items
from benchmarks.reader import Reader, exact, overlap

SETS = ("nq", "hotpot", "gsm8k", "qmsum")
SPOKEN = ("nq", "hotpot")
"""Sets with short answers, for which the model is asked to answer itself."""

HALF, QUARTER, EIGHTH = 0.5, 0.25, 0.125

Key = tuple[str, int, str, float]
"""Set, item, method and ratio."""

FACT = regex.compile(
    r"https?://\S+|\b\w*\d[\w.,:/-]*\b|(?<=[\p{Ll},;] )\p{Lu}[\p{L}'-]+(?: \p{Lu}[\p{L}'-]+)*"
)
"""Numbers, ids, addresses, and names within a sentence."""

NUMBER = regex.compile(r"\d[\d.,]*")


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make a context shorter, and on how many items of a set it is measured.

    `read` are the ratios at which a model reads the result; at the others only what is kept is
    looked at.
    """

    name: str
    make: Callable[[Item, float], str]
    count: int
    ratios: tuple[float, ...] = (HALF, QUARTER, EIGHTH)
    read: tuple[float, ...] = (QUARTER,)


def ours(stage: Any) -> Callable[[Item, float], str]:
    """A recipe of ours, through the whole of compress()."""

    def make(item: Item, ratio: float) -> str:
        from tersely.middleware.pipeline import compress

        made = compress(item.context, stage, budget=ratio, question=item.question, model=MODEL)
        return str(made.output)

    return make


def peer(name: str) -> Callable[[Item, float], str]:
    """A package as its authors published it."""
    return lambda item, ratio: PEERS[name](item.documents, item.question, ratio)


ALL, SOME, FEW = 200, 24, 10
"""Items of each set: for what is quick, for what reads with a language model, for packages."""

EVERY = (HALF, QUARTER, EIGHTH)

TIERS = {"all": (ALL, SOME, FEW), "quick": (ALL,), "models": (SOME,), "packages": (FEW,)}
"""Methods by their count, so that processes can share the work."""

METHODS: tuple[Method, ...] = (
    Method("full prompt", lambda item, _: item.context, ALL, (1.0,), (1.0,)),
    Method("none", lambda item, _: "", ALL, (0.0,), (0.0,)),
    Method("random", ours("random"), ALL, read=EVERY),
    Method("truncate", ours("truncate"), ALL, read=EVERY),
    Method("BM25 sentences", ours({"lexical": {"document": 0}}), ALL, read=EVERY),
    Method("MiniLM sentences", ours({"recomp": {"fill": "word"}}), ALL, read=EVERY),
    Method(
        "MiniLM documents", ours({"recomp": {"unit": "paragraph", "fill": "word"}}), ALL, read=EVERY
    ),
    Method("query", ours("query"), ALL, read=EVERY),
    Method("lexical", ours("lexical"), SOME),
    Method("query, order kept", ours({"query": {"order": "kept"}}), SOME),
    Method("query, words alone", ours({"query": {"encoder": ""}}), SOME, read=EVERY),
    Method("attention", ours("attention"), SOME, read=EVERY),
    Method("query and attention", ours({"ensemble": {"recipes": ("query", "attention")}}), SOME),
    Method("selective_context", ours("selective_context"), SOME),
    Method("llmlingua", ours("llmlingua"), SOME),
    Method("longllmlingua", ours("longllmlingua"), SOME),
    *(Method(name, peer(name), FEW, (QUARTER,)) for name in PEERS),
)
"""What is measured, in the order in which it matters most."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of public evaluation sets")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--quick", action="store_true", help="two items of each set")
    parser.add_argument("--part", default="1/1", help="which share of the items this process takes")
    parser.add_argument("--tier", choices=TIERS, default="all", help="which methods it takes")
    parser.add_argument("--count", type=int, default=ALL, help="items of each set at most")
    parser.add_argument("--ratio", type=float, help="this share of the tokens alone")
    parser.add_argument("--report", action="store_true", help="only sum up what was measured")
    parser.add_argument("--reader", default=MODEL, help="the model that reads the results")
    given = parser.parse_args(argv)
    if given.data is None:
        print("pruning: needs the folder of public evaluation sets: --data DIR")
        return
    rows = _kept_at(given.quick, given.reader)
    if not given.report:
        measure(given.data, rows, given)
    names = [method.name for method in METHODS]
    asked = Options(given.data, given.out, given.quick)
    pruning_report.write(asked, list(_known(rows).values()), given.reader, names)


def measure(data: Path, rows: Path, given: argparse.Namespace) -> None:
    """Measure what is not measured yet; one row for each item, method and ratio."""
    import torch

    torch.set_num_threads(THREADS)
    part, parts = map(int, given.part.split("/"))
    done = {key: "likelihood" in row or "failed" in row for key, row in _known(rows).items()}
    rows.mkdir(parents=True, exist_ok=True)
    work = [
        (at, item)
        for at, item in _in_turn(data, 2 if given.quick else given.count)
        if at % parts == part - 1
    ]
    name = f"part-{given.tier}-{part}-{parts}.jsonl"
    with (rows / name).open("a", encoding="utf-8") as file:
        for at, item in track(work, description="pruning", disable=parts > 1):
            forget()
            for row in _rows(at, item, done, given):
                file.write(json.dumps(row) + "\n")
                file.flush()


def _in_turn(data: Path, count: int) -> Iterator[tuple[int, Item]]:
    """The items of all sets, one of each in turn, so that a part of the work is a fair one."""
    sets = [items(name, data, "test", count) for name in SETS]
    for at in range(count):
        for one in sets:
            if at < len(one):
                yield at, one[at]


def _rows(
    at: int, item: Item, done: Mapping[Key, bool], given: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    for method in (one for one in METHODS if one.count in TIERS[given.tier]):
        for ratio in _ratios(method, given) if at < method.count else ():
            was_read = done.get((item.set, at, method.name, ratio))
            if was_read is None or (ratio in method.read and not was_read):
                key = {"set": item.set, "item": at, "method": method.name, "ratio": ratio}
                speaks = item.set in SPOKEN and at < SOME
                yield key | _measured(item, method, ratio, given.reader, speaks=speaks)


def _ratios(method: Method, given: argparse.Namespace) -> tuple[float, ...]:
    """Where a method is measured; all for what keeps everything or nothing."""
    wanted = (given.ratio, 0.0, 1.0)
    return method.ratios if given.ratio is None else tuple(r for r in method.ratios if r in wanted)


def _measured(
    item: Item, method: Method, ratio: float, reader: str, *, speaks: bool
) -> dict[str, Any]:
    try:
        made = method.make(item, ratio)
    except PeerFailed as error:
        return {"failed": str(error)[:200]}
    row: dict[str, Any] = kept(item, made) | {"tokens": _tokens(made)}
    row["used"] = row["tokens"] / max(int(ratio * _tokens(item.context)), 1)
    if ratio in method.read:
        read = _reader(reader).read(made, item.question, item.answers, speak=speaks)
        row["likelihood"] = read.likelihood
        if speaks:
            row |= {"em": exact(read.said, item.answers), "f1": overlap(read.said, item.answers)}
    return row


def kept(item: Item, made: str) -> dict[str, float]:
    """What of an item is still there: the answer, the passages it rests on, and facts in them.

    `invented` is the share of numbers in the result that the context does not hold.
    """
    found: dict[str, float] = {}
    if item.set in ("nq", "hotpot") and holds(item.context, item.answers):
        found["answer"] = float(holds(made, item.answers))
    if item.gold:
        found["gold"] = float(np.mean([holds(made, [one]) for one in item.gold]))
    facts = {fact for one in item.gold or item.documents for fact in FACT.findall(one)}
    if facts:
        found["facts"] = float(np.mean([fact in made for fact in sorted(facts)]))
    if numbers := NUMBER.findall(made):
        known = set(NUMBER.findall(item.context))
        found["invented"] = float(np.mean([number not in known for number in numbers]))
    return found


@cache
def _reader(model: str) -> Reader:
    return Reader(model)


def _tokens(text: str) -> int:
    from tersely.tokens import counter

    return counter(MODEL)(text)


def _kept_at(quick: bool, reader: str) -> Path:
    """Where rows lie until they are summed up; others for other methods."""
    from tersely.models import home

    key = zlib.crc32(reader.encode())
    return home() / "benchmarks" / f"pruning-{key:08x}{'-quick' if quick else ''}"


def _known(rows: Path) -> dict[Key, dict[str, Any]]:
    """What was measured; a row that was read stands before one that was only looked at."""
    found: dict[Key, dict[str, Any]] = {}
    for path in sorted(rows.glob("part-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            key = (row["set"], row["item"], row["method"], row["ratio"])
            if key not in found or "likelihood" in row:
                found[key] = row
    return found


if __name__ == "__main__":
    main()
