"""What compressing tool output by its form saves, keeps and costs, beside other packages."""

from __future__ import annotations

import json
import random
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from benchmarks import structure_peers as peers
from benchmarks.harness import Options, Row, cost_of, mean_interval, options, save, show
from benchmarks.structure_sets import Item, lookups, trajectories
from tersely.contracts import Context, Stage
from tersely.kinds import json_shape
from tersely.registry import stage
from tersely.tokens import counter

STAGES = ("json", "diff", "search_hits", "rows", "logs", "html", "markdown", "code")
"""In the order in which they are tried; each leaves what it can't read."""

RATIOS = (0.5, 0.25)
COUNT = counter("gpt-4o")
RUNS = 9
QUERY = stage("query", encoder="", kinds=("tool_output",))
"""What the default pipeline does with tool output that is no JSON."""


@dataclass(slots=True)
class Tally:
    """What a method did to the items of one source."""

    before: int = 0
    after: int = 0
    facts: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    kept_shape: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def add(self, item: Item, made: str, ms: float) -> None:
        """Count one item."""
        self.before += COUNT(item.text)
        self.after += COUNT(made)
        found = [fact in made for fact in item.facts]
        self.facts += [float(one) for one in found]
        self.whole += [float(all(found))] if found else []
        shape = json_shape(item.text)
        self.kept_shape += [float(json_shape(made) == shape)] if shape else []
        self.ms.append(ms)

    def row(self, source: str, method: str) -> Row:
        return {
            "source": source,
            "method": method,
            "n": len(self.ms),
            "tokens kept": self.after / self.before,
            "facts": len(self.facts),
            "facts kept": mean_interval(self.facts) if self.facts else "-",
            "still JSON": sum(self.kept_shape) / len(self.kept_shape) if self.kept_shape else "-",
            "ms": sum(self.ms) / len(self.ms),
        }


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    results: dict[str, Any] = {"speed": speed(given), "peers": versions()}
    show("CPU ms, best of a few runs; the tokens of the text before and after", results["speed"])
    if given.data is None:
        Console().print("without --data only speed is measured")
        return
    items = list(trajectories(given.data))
    if given.quick:
        items = items[::12]
    results["trajectories"] = measured(items)
    show("tool outputs in trajectories: what later calls use", results["trajectories"])
    results["lookups"] = measured(list(lookups(given.data, 2 if given.quick else 20)))
    show("pages of a database: what answers a question", results["lookups"])
    if not peers.python():
        Console().print("other packages were not asked: TERSELY_PEERS names no Python")
    save("structure", given, results)


def measured(items: Sequence[Item]) -> list[Row]:
    """A row for each source and method."""
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)

    def tell(method: str, made: Iterable[tuple[str, float]]) -> None:
        for item, (text, ms) in zip(items, made, strict=True):
            tallies[item.source, method].add(item, text, ms)

    ours = [stage(name) for name in STAGES]
    tell("none", ((item.text, 0.0) for item in items))
    tell("by form, nothing lost", (shrunk(item, ours, None) for item in items))
    for ratio in RATIOS:
        limits = [int(COUNT(item.text) * ratio) for item in items]
        pairs = list(zip(items, limits, strict=True))
        tell(f"by form, {ratio:.0%}", (shrunk(item, ours, at) for item, at in pairs))
        tell(f"truncate, {ratio:.0%}", (truncated(item, at) for item, at in pairs))
        tell(f"random, {ratio:.0%}", (drawn(item, at) for item, at in pairs))
        tell(f"query, {ratio:.0%}", (shrunk(item, [QUERY], at) for item, at in pairs))
    for name in peers.NAMES if peers.python() else ():
        answered = peers.answers(name, [item.messages for item in items], runs=1)
        texts = answered["texts"]
        tell(name, zip(texts, answered["ms"], strict=True))
        sizes = [COUNT(text) for text in texts]
        pairs = list(zip(items, sizes, strict=True))
        tell(f"by form, at most {name}", (shrunk(item, ours, at) for item, at in pairs))
    return [tallies[key].row(*key) for key in sorted(tallies, key=lambda key: key[0])]


def shrunk(item: Item, stages: Sequence[Stage], most: int | None) -> tuple[str, float]:
    """The output after all stages, within so many tokens, and the CPU time in ms.

    The time has in it that the output is counted, before and after.
    """
    prompt = item.prompt
    context = Context(count=COUNT)
    if most is not None:
        context = context.within(context.tokens(prompt.with_texts({2: ""})) + most)
    made = prompt

    def work() -> None:
        nonlocal made
        for one in stages:
            made = one(made, context)

    cpu, _ = cost_of(work)
    return made.segments[2].text, cpu * 1000


def truncated(item: Item, most: int) -> tuple[str, float]:
    """The beginning of the output, within so many tokens; JSON is cut like any other text."""
    return _longest(most, lambda size: item.text[:size], len(item.text)), 0.0


def drawn(item: Item, most: int) -> tuple[str, float]:
    """Words by chance, in order, within so many tokens."""
    words = re.findall(r"\S+\s*|\s+", item.text)
    order = random.Random(item.text).sample(range(len(words)), len(words))

    def some(size: int) -> str:
        return "".join(words[i] for i in sorted(order[:size]))

    return _longest(most, some, len(words)), 0.0


def _longest(most: int, make: Callable[[int], str], size: int) -> str:
    """The largest of these texts that has so many tokens at the most."""
    found = bisect_right(range(size + 1), most, key=lambda at: COUNT(make(at)))
    return make(max(found - 1, 0))


def speed(given: Options) -> list[Row]:
    """Milliseconds for a JSON text of 10,000 tokens and a log of 60,000."""
    rows: list[Row] = []
    for name, text in {"JSON": orders(), "log": log()}.items():
        item = Item(name, text, "{}", "What happened to ORD-100037?", ())
        works = _works(name, item)
        for method, work in works.items():
            best = min(cost_of(work)[0] for _ in range(3 if given.quick else RUNS)) * 1000
            rows.append(_timed(name, method, text, work(), best))
        for peer in peers.NAMES if peers.python() else ():
            told = peers.answers(peer, [item.messages], runs=RUNS)
            rows.append(_timed(name, peer, text, told["texts"][0], told["ms"][0]))
    return rows


def _works(name: str, item: Item) -> dict[str, Callable[[], str]]:
    """What is timed: each gives a text. Ours count the tokens of the whole text as well."""
    used = [stage("json" if name == "JSON" else "logs")]
    text, tenth = item.text, COUNT(item.text) // 10

    def counting() -> str:
        COUNT(text)
        return text

    def minified() -> str:
        return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)

    works: dict[str, Callable[[], str]] = {
        "counting its tokens": counting,
        "by form, nothing lost": lambda: shrunk(item, used, None)[0],
        "by form, 10%": lambda: shrunk(item, used, tenth)[0],
    }
    return works | {"json.dumps(json.loads())": minified} if name == "JSON" else works


def _timed(name: str, method: str, text: str, made: str, ms: float) -> Row:
    sizes = {"tokens": COUNT(text), "after": COUNT(made)}
    return {"text": name, "method": method, **sizes, "ms": ms}


def versions() -> dict[str, str]:
    """Which versions of the other packages were asked."""
    case = Item("", "x" * 500, "{}", "", ()).messages
    if not peers.python():
        return {}
    return {name: peers.answers(name, [case], runs=1)["version"] for name in peers.NAMES}


def orders() -> str:
    """A hundred orders as a service answers them."""
    chance = random.Random(1)
    rows = [
        {
            "id": f"ORD-{100000 + i}",
            "customer": chance.choice(("Ann Lee", "Bob Ray", "Cy Dow")),
            "total": round(chance.random() * 1000, 2),
            "status": chance.choice(("shipped", "pending")),
            "created": f"2026-11-{1 + i % 28:02d}T10:{i % 60:02d}:00Z",
            "address": {"city": "Zürich", "zip": str(8000 + i % 99)},
            "email": f"user{i}@example.com",
            "vip": i % 9 == 0,
            "note": None,
        }
        for i in range(100)
    ]
    return json.dumps({"total": 100, "results": rows}, indent=2, ensure_ascii=False)


def log() -> str:
    """Two thousand lines of a service's log, one of them an error."""
    chance = random.Random(3)
    kinds = (
        "INFO worker-{} processed job {:06x} in {} ms",
        "INFO worker-{} processed job {:06x} in {} ms",
        "DEBUG cache-{} hit for key user:{} ttl={}s",
        "INFO api-{} GET /v1/items/{} 200 {}ms",
    )
    lines = [
        f"2026-11-23 10:{i // 60:02d}:{i % 60:02d},{chance.randrange(1000):03d} "
        + chance.choice(kinds).format(
            chance.randrange(8), chance.randrange(16**6), chance.randrange(900)
        )
        for i in range(2000)
    ]
    lines[1203] = "2026-11-23 10:20:03,001 ERROR worker-3 database connection refused (host=db-2)"
    return "\n".join(lines)


if __name__ == "__main__":
    main()
