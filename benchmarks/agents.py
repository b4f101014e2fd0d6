"""What compressing the requests of real agents keeps of what they need later, beside other packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import structure_peers as peers
from benchmarks.agents_methods import (
    LOSSLESS,
    Outcome,
    by_peer,
    by_pipeline,
    cases_of,
    shortened,
    turn_by_turn,
    within,
)
from benchmarks.agents_sets import talks
from benchmarks.harness import Options, Row, options, save, show
from benchmarks.structure import drawn, truncated
from tersely.middleware.pipeline import pipeline_of

DRAWS = 2000

Share = tuple[float, float, float]


def main(argv: Sequence[str] | None = None) -> None:
    given = options(__doc__ or "", argv)
    results: dict[str, Any] = {}
    if given.data is None:
        Console().print("without --data there are no conversations")
        return
    results = traffic(given)
    save("agents", given, results)


def traffic(given: Options) -> dict[str, list[Row]]:
    """Tables of whole requests: by source, by half, and in pairs with each other package."""
    assert given.data is not None
    some = list(talks(given.data))[:: 8 if given.quick else 1]
    found = dict(outcomes(cases_of(some)))
    tables: dict[str, list[Row]] = {
        "all": [_row("all", name, made) for name, made in found.items()],
        "sources": list(_by(found, lambda one: one.case.talk.source)),
        "halves": list(_by(found, lambda one: _half(one))),
        "pairs": list(pairs(found)),
    }
    for name, rows in tables.items():
        show(name, rows)
    return tables


def _half(outcome: Outcome) -> str:
    return "held out" if outcome.case.talk.held_out else "looked at"


def outcomes(cases: Sequence[Any]) -> Iterator[tuple[str, list[Outcome]]]:
    """What each method makes of the requests."""

    def told(name: str, made: Iterable[Outcome]) -> tuple[str, list[Outcome]]:
        Console().print(name)
        return name, list(made)

    for share in (0.5, 0.25):
        yield told(f"truncated to {share:.0%}", shortened(cases, truncated, share))
        yield told(f"random {share:.0%}", shortened(cases, drawn, share))
    yield told("nothing lost", by_pipeline(cases, lambda _: LOSSLESS.but()))
    for name in ("default", "bold"):
        yield told(name, by_pipeline(cases, lambda _, n=name: pipeline_of(n)))  # type: ignore[misc]
        yield told(f"{name}, turn by turn", turn_by_turn(cases, name))
    for name in peers.WHOLE if peers.python() else ():
        made = list(by_peer(cases, name))
        yield told(name, made)
        limits = {(one.case.number, one.case.at): one.after for one in made}
        yield told(f"at most {name}", by_pipeline(cases, within(limits)))


def _by(found: Mapping[str, Sequence[Outcome]], key: Callable[[Outcome], str]) -> Iterator[Row]:
    groups = dict.fromkeys(key(one) for made in found.values() for one in made)
    for group in groups:
        for name, made in found.items():
            yield _row(group, name, [one for one in made if key(one) == group])


def _row(group: str, method: str, made: Sequence[Outcome]) -> Row:
    shaped = sum(one.shaped for one in made)
    return {
        "requests of": group,
        "method": method,
        "n": len(made),
        "tokens kept": sum(one.after for one in made) / sum(one.before for one in made),
        "facts": sum(len(one.case.facts) for one in made),
        "facts kept": kept(made),
        "of tools": sum(len(one.case.given) for one in made),
        "of tools kept": kept(made, given=True),
        "broken pairs": sum(one.broken for one in made),
        "no longer JSON": f"{sum(one.spoilt for one in made)} of {shaped}",
        "mutated": sum(one.mutated for one in made),
        "not idempotent": sum(one.unstable for one in made),
        "failed": sum(bool(one.error) for one in made),
        "ms": sum(one.ms for one in made) / len(made),
    }


def kept(made: Sequence[Outcome], *, given: bool = False) -> Share | str:
    """The share of the facts that is kept, with its interval over conversations."""
    held, whole = _sums(made, given)
    if not whole.sum():
        return "-"
    return _interval(held, whole)


def pairs(found: Mapping[str, Sequence[Outcome]]) -> Iterator[Row]:
    """Ours at each other package's tokens: how many more of the facts are kept, in points."""
    for name in peers.WHOLE:
        if name not in found:
            continue
        theirs, ours = found[name], found[f"at most {name}"]
        yield {
            "beside": name,
            "tokens kept, theirs": _tokens(theirs),
            "ours": _tokens(ours),
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


if __name__ == "__main__":
    main()
