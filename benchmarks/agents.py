"""What compressed requests of real agents keep of what is used later, beside other packages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import structure_peers as peers
from benchmarks.agents_hostile import hostile
from benchmarks.agents_methods import (
    LOSSLESS,
    Case,
    Outcome,
    by_peer,
    by_pipeline,
    cases_of,
    in_sum,
    judged,
    shortened,
    turn_by_turn,
    untimed,
    within,
)
from benchmarks.agents_sets import Talk, talks
from benchmarks.harness import Options, Row, options, save, show
from benchmarks.structure import drawn, truncated

DRAWS = 2000
SHARES = (0.5, 0.25)
LATE = (2 / 3,)

Share = tuple[float, float, float]


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    if given.data is None:
        Console().print("agents needs its conversations: --data DIR")
        return
    given.out.mkdir(parents=True, exist_ok=True)
    begun = given.out / f"agents{'.quick' if given.quick else ''}.part.json"
    done: dict[str, Any] = json.loads(begun.read_text("utf-8")) if begun.exists() else {}
    results: dict[str, Any] = {"peers": versions() if peers.python() else {}}
    for name, part in PARTS.items():
        if name not in done:
            done[name] = part(given)
            begun.write_text(json.dumps(done), "utf-8")
        for table, rows in done[name].items():
            results[table] = rows
            show(f"{name}: {table}", rows)
    save("agents", given, results)
    begun.unlink()
    if not peers.python():
        Console().print("other packages were not asked: TERSELY_PEERS names no Python")


def versions() -> dict[str, str]:
    """Which versions of the other packages were asked."""
    return {name: peers.told_version(name) for name in peers.WHOLE}


def traffic(given: Options) -> dict[str, list[Row]]:
    """Tables of whole requests: by source, by half, and in pairs with each other package."""
    found = dict(outcomes(cases_of(some_talks(given))))
    return {
        "all": [_row("all", name, made) for name, made in found.items()],
        "valid": [_valid(name, made) for name, made in found.items()],
        "sources": list(_by(found, lambda one: one.case.talk.source)),
        "halves": list(_by(found, _half)),
        "pairs": list(pairs(found)),
    }


def in_blocks(given: Options) -> dict[str, list[Row]]:
    """The same requests as Anthropic's Messages take them, late in each conversation."""
    found = dict(outcomes(cases_of(some_talks(given), "anthropic", LATE), whole=False))
    return {
        "Anthropic": [_row("Anthropic", name, made) for name, made in found.items()],
        "Anthropic, valid": [_valid(name, made) for name, made in found.items()],
    }


def some_talks(given: Options) -> list[Talk]:
    """All conversations, or a few of each kind."""
    assert given.data is not None
    return list(talks(given.data))[:: 12 if given.quick else 1]


def _half(outcome: Outcome) -> str:
    return "held out" if outcome.case.talk.held_out else "looked at"


def outcomes(cases: Sequence[Case], *, whole: bool = True) -> Iterator[tuple[str, list[Outcome]]]:
    """What each method makes of requests; not `whole`: those methods alone that set no limits."""

    def told(name: str, made: Iterable[Outcome]) -> tuple[str, list[Outcome]]:
        Console().print(name)
        return name, list(made)

    yield told("none", (judged(case, case.request["messages"], 0.0) for case in cases))
    for share in SHARES if whole else ():
        yield told(f"truncated to {share:.0%}", shortened(cases, truncated, share))
        yield told(f"random {share:.0%}", shortened(cases, drawn, share))
    yield told("nothing lost", by_pipeline(cases, lambda _: LOSSLESS.but()))
    for name in ("default", "bold"):
        yield told(name, by_pipeline(cases, lambda _, n=name: untimed(n)))  # type: ignore[misc]
        if whole:
            yield told(f"{name}, turn by turn", turn_by_turn(cases, name))
    for name in peers.WHOLE if peers.python() else ():
        theirs = list(by_peer(cases, name))
        yield told(name, theirs)
        if whole:
            _, ours = told(f"at most {name}", by_pipeline(cases, within(theirs)))
            yield f"at most {name}", ours
            yield told(f"at most {name} in sum", in_sum(theirs, ours))


def _by(found: Mapping[str, Sequence[Outcome]], key: Callable[[Outcome], str]) -> Iterator[Row]:
    groups = dict.fromkeys(key(one) for made in found.values() for one in made)
    for group in groups:
        for name, made in found.items():
            yield _row(group, name, [one for one in made if key(one) == group])


def _row(group: str, method: str, made: Sequence[Outcome]) -> Row:
    return {
        "requests of": group,
        "method": method,
        "n": len(made),
        "tokens kept": _tokens(made),
        "facts": sum(len(one.case.facts) for one in made),
        "facts kept": kept(made),
        "of tools": sum(len(one.case.given) for one in made),
        "of tools kept": kept(made, given=True),
        "ms": sum(one.ms for one in made) / len(made),
    }


def _valid(method: str, made: Sequence[Outcome]) -> Row:
    """What a provider, or a second pass, would stumble over."""
    return {
        "method": method,
        "n": len(made),
        "broken pairs": sum(one.broken for one in made),
        "no longer JSON": sum(one.spoilt for one in made),
        "of": sum(one.shaped for one in made),
        "mutated": sum(one.mutated for one in made),
        "not idempotent": _unstable(made),
        "failed": sum(bool(one.error) for one in made),
    }


def _unstable(made: Sequence[Outcome]) -> int | str:
    told = [one.unstable for one in made if one.unstable is not None]
    return sum(told) if told else "-"


def kept(made: Sequence[Outcome], *, given: bool = False) -> Share | str:
    """The share of the facts that is kept, with its interval over conversations."""
    held, whole = _sums(made, given)
    if not whole.sum():
        return "-"
    return _interval(held, whole)


def pairs(found: Mapping[str, Sequence[Outcome]]) -> Iterator[Row]:
    """Ours at each other package's tokens: how many more of the facts are kept, in points.

    `each`: within its tokens for every request, or as near as what has to stay allows; `in sum`:
    within its tokens over all; `nothing lost`: the default, whatever it has.
    """
    for name in peers.WHOLE if peers.WHOLE[0] in found else ():
        theirs = found[name]
        ways = {"each": f"at most {name}", "in sum": f"at most {name} in sum"}
        for way, method in {**ways, "nothing lost": "default"}.items():
            ours = found[method]
            yield {
                "beside": name,
                "ours": way,
                "tokens kept, theirs": _tokens(theirs),
                "tokens kept, ours": _tokens(ours),
                "requests within": f"{_within(theirs, ours)} of {len(ours)}",
                "more facts kept": _difference(ours, theirs, given=False),
                "more of tools' facts kept": _difference(ours, theirs, given=True),
            }


def _tokens(made: Sequence[Outcome]) -> float:
    return sum(one.after for one in made) / sum(one.before for one in made)


def _within(theirs: Sequence[Outcome], ours: Sequence[Outcome]) -> int:
    return sum(one.after <= other.after for one, other in zip(ours, theirs, strict=True))


def _difference(ours: Sequence[Outcome], theirs: Sequence[Outcome], *, given: bool) -> Share:
    held, whole = _sums(ours, given)
    other, _ = _sums(theirs, given)
    return _interval(held - other, whole)


def _sums(made: Sequence[Outcome], given: bool) -> tuple[Any, Any]:
    """The facts kept, and all facts, of each conversation."""
    numbers = {
        one.case.number: i for i, one in enumerate({o.case.number: o for o in made}.values())
    }
    held, whole = np.zeros(len(numbers)), np.zeros(len(numbers))
    for one in made:
        at = numbers[one.case.number]
        held[at] += one.given if given else one.facts
        whole[at] += len(one.case.given if given else one.case.facts)
    return held, whole


def _interval(held: Any, whole: Any) -> Share:
    """A share over all conversations, and its 95 % bootstrap interval over them."""
    picks = np.random.default_rng(0).integers(0, len(held), (DRAWS, len(held)))
    below = whole[picks].sum(axis=1)
    drawn_ = held[picks].sum(axis=1)[below > 0] / below[below > 0]
    low, high = np.percentile(drawn_, [2.5, 97.5])
    return float(held.sum() / whole.sum()), float(low), float(high)


PARTS: Mapping[str, Callable[[Options], dict[str, list[Row]]]] = {
    "whole requests": traffic,
    "Anthropic's format": in_blocks,
    "hostile answers": lambda given: hostile(quick=given.quick),
}


if __name__ == "__main__":
    main()
