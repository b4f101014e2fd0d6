"""What is done with the requests of agents: by ours, by the baselines, and by other packages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks import structure_peers as peers
from benchmarks.agents_facts import Said, anthropic, broken_pairs, needed, spoilt, texts_of
from benchmarks.agents_sets import Message, Talk
from benchmarks.harness import cost_of, forget
from benchmarks.structure_sets import Item
from tersely.middleware.pipeline import BOLD, Pipeline, pipeline_of
from tersely.tokens import counter

COUNT = counter("gpt-4o")

CUTS = (1 / 3, 2 / 3, 1.0)
"""Where in a conversation its request is looked at, by the turns of the assistant."""

LOSSLESS: Any = Pipeline([{"auto": {"lossless": True, "kinds": BOLD}}])
MATCHED: tuple[Any, ...] = (
    {"auto": {"kinds": BOLD}},
    {"query": {"encoder": "", "order": "kept", "kinds": BOLD}},
)
"""What meets a limit in tokens: the stages of `bold`, which leave short texts alone."""

FLOOR = 100
SCALES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
"""What all limits are lowered to until their sum fits."""


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and the facts of it that the rest of its conversation uses."""

    talk: Talk
    number: int
    at: int
    facts: frozenset[str]
    given: frozenset[str]
    """Those that only the answers of tools hold."""

    form: str = "openai"

    @property
    def request(self) -> dict[str, Any]:
        """A new copy of the request."""
        made = self.talk.request(self.at)
        return anthropic(made) if self.form == "anthropic" else made


@dataclass(slots=True)
class Outcome:
    """What became of a request."""

    case: Case
    before: int
    after: int
    facts: int
    given: int
    ms: float
    broken: int = 0
    spoilt: int = 0
    shaped: int = 0
    mutated: bool = False
    unstable: bool | None = None
    """Whether a second pass changes the outcome; None where it was not asked."""

    error: str = ""
    lost: list[str] = field(default_factory=list)


def cases_of(
    talks: Sequence[Talk], form: str = "openai", cuts: Sequence[float] = CUTS
) -> list[Case]:
    """The requests at the cuts of each conversation in which a tool has answered."""
    found: list[Case] = []
    for number, talk in enumerate(talks):
        turns = talk.turns
        places = dict.fromkeys(turns[max(round(cut * len(turns)), 1) - 1] for cut in cuts)
        for at in places:
            facts, given = needed(talk, at)
            if any(one["role"] == "tool" for one in talk.messages[:at]):
                found.append(Case(talk, number, at, frozenset(facts), frozenset(given), form))
    return found


def untimed(name: str) -> Pipeline:
    """A pipeline of ours without its limit of time, so that a busy machine changes nothing."""
    pipeline = pipeline_of(name)
    return pipeline.but(budget=pipeline.budget.model_copy(update={"ms": None, "pace": None}))


def size(messages: Sequence[Message]) -> int:
    """The tokens of all texts and arguments."""
    return sum(COUNT(text) for _, text in texts_of(messages))


def judged(case: Case, made: Sequence[Message], ms: float, **told: Any) -> Outcome:
    """What a request became, measured."""
    request = case.request
    before = request["messages"]
    orders = [{"role": "system", "content": request.get("system", "")}]
    said = Said.by([*orders, *made])
    lost = [fact for fact in case.facts if not said.holds(fact)]
    bad, shaped = spoilt(before, made)
    return Outcome(
        case,
        size(before),
        size(made),
        len(case.facts) - len(lost),
        len(case.given) - len(case.given.intersection(lost)),
        ms,
        broken_pairs(made),
        bad,
        shaped,
        lost=sorted(lost),
        **told,
    )


def by_pipeline(
    cases: Sequence[Case], make: Callable[[Case], Pipeline], *, again: bool = True
) -> Iterator[Outcome]:
    """Each request by itself, as the first of its conversation; then what came of it again."""
    forget()
    _sent(make(cases[0]), cases[0].request)  # what is loaded on first use is not timed
    for case in cases:
        sent = _sent(make(case), case.request)
        unstable = _sent(make(case), sent.request).said != sent.said if again else None
        told = {"mutated": sent.mutated, "unstable": unstable, "error": sent.error}
        yield judged(case, sent.said, sent.ms, **told)


def turn_by_turn(cases: Sequence[Case], name: str) -> Iterator[Outcome]:
    """Every request of a conversation in order, by one pipeline that remembers what it sent."""
    forget()
    pipelines: dict[int, tuple[Pipeline, set[int]]] = {}
    for case in cases:
        pipeline, done = pipelines.setdefault(case.number, (untimed(name), set()))
        turns = [at for at in case.talk.turns if at <= case.at and at not in done]
        sent = [_sent(pipeline, replace(case, at=at).request) for at in turns]
        done.update(turns)
        ms = sum(one.ms for one in sent) / len(sent)
        told = {"mutated": any(one.mutated for one in sent), "error": sent[-1].error}
        yield judged(case, sent[-1].said, ms, **told)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request as it went out, the time it took, and what went wrong."""

    request: dict[str, Any]
    ms: float
    mutated: bool
    error: str

    @property
    def said(self) -> list[Message]:
        made: list[Message] = self.request["messages"]
        return made


def _sent(pipeline: Pipeline, request: dict[str, Any]) -> _Sent:
    """What a pipeline makes of a request, in how many ms, and whether it changed the request."""
    kept = copy.deepcopy(request)
    results: list[Any] = []
    cpu, _ = cost_of(lambda: results.append(pipeline.run(request)))
    failed = next((note for note in results[0].report.notes if "failed" in note), "")
    if failed and "OutOfTime" not in failed:
        raise RuntimeError(f"ours: {failed}")
    return _Sent(results[0].output, cpu * 1000, request != kept, failed)


def by_peer(cases: Sequence[Case], name: str) -> Iterator[Outcome]:
    """What another package makes of the messages."""
    rows = peers.requests(name, [case.request["messages"] for case in cases])
    for case, row in zip(cases, rows, strict=True):
        told = {"mutated": row.get("mutated", False), "unstable": not row.get("stable", True)}
        yield judged(case, row["messages"], row["ms"], error=row.get("error", ""), **told)


def within(theirs: Sequence[Outcome], scale: float = 1.0) -> Callable[[Case], Pipeline]:
    """Ours, within this many times the tokens that another package left of each request."""
    limits = {(one.case.number, one.case.at): one.after * scale for one in theirs}

    def make(case: Case) -> Pipeline:
        request = case.request
        beside = Pipeline().run(request).report.before - size(request["messages"])
        limit = max(int(limits[case.number, case.at]) + beside, 1)
        return Pipeline(MATCHED, budget=limit, floor=FLOOR)

    return make


def in_sum(theirs: Sequence[Outcome], ours: Sequence[Outcome]) -> Iterator[Outcome]:
    """Ours with no more tokens than another package over all requests together.

    Where `ours`, within its tokens for each request, comes to more, all limits are lowered by the
    same factor: what can't go in one request is taken from the others.
    """
    cases = [one.case for one in theirs]
    most = sum(one.after for one in theirs)
    made = list(ours)
    for scale in SCALES:
        if sum(one.after for one in made) <= most:
            break
        made = list(by_pipeline(cases, within(theirs, scale), again=False))
    yield from made


def shortened(
    cases: Sequence[Case], way: Callable[[Item, int], tuple[str, float]], share: float
) -> Iterator[Outcome]:
    """Every answer of a tool with this share of its tokens, in some way that knows no form."""
    for case in cases:
        request = case.request
        for one in request["messages"]:
            if one["role"] == "tool":
                item = Item("", one["content"], "{}", "", ())
                one["content"] = way(item, int(COUNT(item.text) * share))[0]
        yield judged(case, request["messages"], 0.0)
