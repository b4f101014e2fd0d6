"""What agents' conversations cost, turn by turn, with the provider's prompt cache priced in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks import structure_peers as peers
from benchmarks.agents_replay_ways import (
    AMONG,
    LIMIT,
    WAYS,
    Way,
    asked_of_peers,
    parcels,
    priced,
    times,
    whole,
)
from benchmarks.agents_sets import Talk, talks
from benchmarks.harness import Options, Row, options, save, show
from tersely.prices import price_of, prices
from tersely.prompt_cache import Piece, Sent

MODELS = (
    "gpt-4o",
    "gpt-4.1",
    "gpt-5",
    "gpt-5.6-terra",
    "claude-haiku-4-5",
    "claude-sonnet-5-5",
    "gemini-3",
    "deepseek-chat",
)
"""One of each kind of price that the table knows."""

PACES = ("warm", "idle")

PATIENCE = 120.0
"""Seconds that another package has for all requests."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables and write `agents_replay.json`."""
    given = options(__doc__ or "", argv)
    if given.data is None:
        print("agents_replay: needs --data, a folder with agents/")
        return
    found = [talk for talk in talks(given.data) if talk.turns]
    found = found[:: 10 if given.quick else 1]
    kept = Kept(given)
    for way in WAYS:
        _played(way, found, kept)
    if peers.python():
        _beside(found, kept)
    rows = kept.rows
    sources = list(dict.fromkeys(talk.source for talk in found))
    table = [_summed(rows, way, source) for way in _ways(rows) for source in (*sources, "all")]
    show("dollars beside doing nothing, over all models and paces", table)
    by_model = [
        _summed(rows, way, "all", model=model, pace=pace)
        for way in ("default", "bold", "default, history waits")
        for model in MODELS
        for pace in PACES
    ]
    show("the same by model and pace", by_model)
    save("agents_replay", given, {**_facts(found), "table": table, "by model": by_model})
    kept.path.unlink()


class Kept:
    """Results as they come, so that a run that breaks off goes on where it was."""

    def __init__(self, given: Options) -> None:
        given.out.mkdir(parents=True, exist_ok=True)
        self.path: Path = given.out / f"agents_replay{'.quick' * given.quick}.part.jsonl"
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def has(self, way: str, model: str = "") -> bool:
        return any(row["way"] == way and model in ("", row["model"]) for row in self.rows)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        self.rows += rows


def _played(way: Way, found: Sequence[Talk], kept: Kept) -> None:
    """Send every conversation one way, to every model, at every pace."""
    known: dict[tuple[int, str, str], list[list[Piece]]] = {}
    for model in (one for one in way.models or MODELS if not kept.has(way.name, one)):
        rows = []
        for number, talk in enumerate(found[:: way.every]):
            for pace in PACES:
                key = (number, model if way.by_model else "", pace if way.by_pace else "")
                at = times(len(talk.turns), pace, talk.name)
                if key not in known:
                    known[key] = parcels(talk, way.send(talk, model, at))
                rows.append(_row(way.name, talk, known[key], model, pace))
        kept.add(rows)
        known = {key: made for key, made in known.items() if not way.by_model}


def _beside(found: Sequence[Talk], kept: Kept) -> None:
    """What other packages, which know of no session, make of every request."""
    if kept.has("others"):
        return
    rows = [{"way": "others", "source": ""}]
    some = found[::AMONG]
    for name, sent in asked_of_peers(some, PATIENCE):
        for talk, messages in zip(some, sent, strict=True):
            if messages is not None:
                made = parcels(talk, messages)
                rows += [_row(name, talk, made, model, pace) for model, pace in _all()]
    kept.add(rows)


def _all() -> Iterator[tuple[str, str]]:
    return ((model, pace) for model in MODELS for pace in PACES)


def _row(
    way: str, talk: Talk, sent: Sequence[Sequence[Piece]], model: str, pace: str
) -> dict[str, Any]:
    """What one conversation costs one way, and what it costs as it is."""
    at = times(len(talk.turns), pace, talk.name)
    price = price_of(model)
    plain = priced(_plain(talk), model, at)
    made = priced(sent, model, at)
    return {
        "way": way,
        "source": talk.source,
        "name": talk.name,
        "model": model,
        "pace": pace,
        "plain": _told(plain, plain.cost(price)),
        "made": _told(made, made.cost(price)),
    }


_KNOWN: dict[tuple[str, str], list[list[Piece]]] = {}


def _plain(talk: Talk) -> list[list[Piece]]:
    """The requests of a conversation as they are."""
    key = talk.source, talk.name
    if key not in _KNOWN:
        _KNOWN[key] = parcels(talk, whole(talk, "", ()))
    return _KNOWN[key]


def _told(sent: Sent, cost: float) -> list[float]:
    return [cost, sent.tokens, sent.read]


def _ways(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [way for way in dict.fromkeys(row["way"] for row in rows) if way != "others"]


def _summed(
    rows: Sequence[dict[str, Any]], way: str, source: str, *, model: str = "", pace: str = ""
) -> Row:
    """How the conversations of a source fare; `source` may be all."""
    some = [
        row
        for row in rows
        if row["way"] == way
        and source in ("all", row["source"])
        and row["source"]
        and model in ("", row["model"])
        and pace in ("", row["pace"])
    ]
    told = {"way": way, "source": source} | ({"model": model, "pace": pace} if model else {})
    if not some:
        return told | {"n": 0}
    shares = [1 - row["made"][0] / row["plain"][0] for row in some]
    cuts = quantiles(shares, n=20, method="inclusive") if len(shares) > 1 else shares * 19
    plain, made = (
        [sum(row[side][i] for row in some) for i in range(3)] for side in ("plain", "made")
    )
    return told | {
        "n": len({row["name"] + row["source"] for row in some}),
        "priced": len(some),
        "dearer": sum(share < -1e-9 for share in shares),
        "saved": (cuts[9], cuts[0], cuts[18]),
        "of all dollars": 1 - made[0] / plain[0],
        "tokens": made[1] / plain[1],
        "read from cache": made[2] / made[1],
        "read, as it came": plain[2] / plain[1],
    }


def _facts(found: Sequence[Talk]) -> dict[str, Any]:
    """What was played."""
    sources = dict.fromkeys(talk.source for talk in found)
    return {
        "conversations": {name: sum(talk.source == name for talk in found) for name in sources},
        "requests": sum(len(talk.turns) for talk in found),
        "models": list(MODELS),
        "limit": LIMIT,
        "prices": str(prices().date),
    }
