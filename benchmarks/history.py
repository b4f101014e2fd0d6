"""What is left of a conversation whose older turns became one message: wishes, ids, facts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.harness import Options, Row, mean_interval, options, save, show
from benchmarks.history_items import (
    COUNT,
    KEEP,
    Item,
    Message,
    agents,
    asked,
    chats,
    gone,
    row_of,
    said,
    scored,
    shares,
    sizes_of,
    summary,
    summary_of,
    text_of,
    tokens_of,
    way,
)
from tersely.contracts import Context
from tersely.middleware.compaction import Compaction
from tersely.middleware.pipeline import Pipeline
from tersely.middleware.session import Session
from tersely.prompt import Prompt, Segment
from tersely.registry import stage

TARGETS = (1.0, 0.8, 0.6)
"""How much of a request's tokens compaction aims at."""

LIMIT = 0.7
"""The limit of a whole conversation, of the tokens that it comes to."""

CONTEXT = Context(count=COUNT)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables and write `history.json`."""
    given = options(__doc__ or "", argv)
    if given.data is None:
        print("history: needs --data, a folder with chat/ and agents/")
        return
    items = [*agents(given.data), *chats(given.data)]
    items = items[:: 12 if given.quick else 1]
    table = [row for source in KEEP for row in _survival(source, items)]
    show("What survives, at the tokens that compaction left", table)
    rolled = _rolled(given)
    show("Through whole conversations, compacted again and again", rolled)
    save("history", given, {"items": len(items), "survival": table, "rolling": rolled})


# methods


def compacted(item: Item, to: float) -> list[Message]:
    """The request with its older turns in one message."""
    size = Pipeline().run(item.request, model="gpt-4o").report.before
    alone: Any = {"words": "short", "results": False}
    terms = Compaction(limit=size - 1, keep=item.keep, least=0, to=to, **alone)
    return list(Pipeline(history=terms).run(item.request, model="gpt-4o").output)


Method = Callable[[str, int], str]
"""The old turns as a text, in so many tokens."""


def truncated(text: str, size: int) -> str:
    """The newest lines that fit."""
    kept: list[str] = []
    left = size
    for line in reversed(text.split("\n")):
        left -= COUNT(line) + 1
        if left < 0:
            break
        kept.append(line)
    return "\n".join(reversed(kept))


def drawn(text: str, size: int) -> str:
    """Lines drawn at random."""
    lines = text.split("\n")
    order = random.Random(0).sample(range(len(lines)), len(lines))
    left, kept = size, []
    for i in order:
        if COUNT(lines[i]) + 1 <= left:
            left -= COUNT(lines[i]) + 1
            kept.append(i)
    return "\n".join(lines[i] for i in sorted(kept))


def extracted(text: str, size: int) -> str:
    """The sentences that say most, without anything that is carried word for word."""
    prompt = Prompt((Segment(text=text),))
    return stage("extractive", encoder="")(prompt, CONTEXT.within(max(size, 1))).text


METHODS: dict[str, Method] = {
    "drop-oldest": truncated,
    "random": drawn,
    "extractive, no anchors": extracted,
}


def _survival(source: str, items: Sequence[Item]) -> list[Row]:
    rows: list[Row] = []
    chosen = [one for one in items if one.source == source]
    for to in TARGETS:
        found: dict[str, list[dict[str, Any]]] = {}
        for item in chosen:
            started = perf_counter()
            made = compacted(item, to)
            seconds = perf_counter() - started
            old = gone(item, made)
            if not old:
                continue
            needs = asked(item, old)
            room = COUNT(summary(made))
            stays = text_of([one for one in made if one is not summary_of(made)])
            whole = "\n".join(map(said, old))
            sizes = sizes_of(item, made, old, seconds)
            everything = stays + "\n" + whole
            found.setdefault("none", []).append(scored(needs, everything, sizes))
            found.setdefault("history", []).append(scored(needs, text_of(made), sizes))
            for name, method in METHODS.items():
                other = stays + "\n" + method(whole, room)
                found.setdefault(name, []).append(scored(needs, other, sizes))
        rows += (row_of(source, to, name, some) for name, some in found.items())
    return rows


# again and again


def _rolled(given: Options) -> list[Row]:
    """Every request of a whole conversation in its session, with what is left at its end."""
    assert given.data is not None
    rows = json.loads((given.data / "agents" / "tau-bench-airline-dev.json").read_text())
    found: list[dict[str, Any]] = []
    for row in rows[:: 12 if given.quick else 1]:
        found.append(_through(way(row)))
    return [_row(found)]


def _through(messages: list[Message]) -> dict[str, Any]:
    limit = int(tokens_of(messages) * LIMIT)
    terms = Compaction(limit=limit, keep=KEEP["tau-bench"], words="short", results=False)
    pipeline, session = Pipeline(history=terms), Session("one")
    before = after = changed = requests = used = there = 0
    made: list[Message] = []
    for at in range(2, len(messages) + 1):
        if messages[at - 1]["role"] == "assistant":
            continue
        last = summary(made)
        made = list(pipeline.run(messages[:at], model="gpt-4o", session=session).output)
        requests += 1
        changed += summary(made) != last
        before += tokens_of(messages[:at])
        after += tokens_of(made)
        if summary(made):
            item = Item("tau-bench", messages[:at], messages[at : at + 1])
            found = shares(asked(item, gone(item, made)), text_of(made))["used"]
            used, there = used + found[1], there + found[0]
    item = Item("tau-bench", messages[:at], [])
    needs = asked(item, gone(item, made))
    sizes = (before, after, requests, changed)
    return {**shares(needs, text_of(made)), "used": (there, used), "sizes": sizes}


def _row(found: Sequence[Mapping[str, Any]]) -> Row:
    row: dict[str, Any] = {"conversations": len(found)}
    for key in ("wishes", "ids", "used"):
        some = [one[key] for one in found if one[key][1]]
        row[key] = mean_interval([a / b for a, b in some] or [1.0])
        row[f"{key} kept"] = f"{sum(a for a, _ in some)}/{sum(b for _, b in some)}"
    sizes = np.array([one["sizes"] for one in found])
    row["tokens sent"] = float(sizes[:, 1].sum() / sizes[:, 0].sum())
    row["requests"] = int(sizes[:, 2].sum())
    row["compactions"] = int(sizes[:, 3].sum())
    return row
