"""The form of a skeleton: whatever follows its grammar is read as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_sot import SKELETON, Writer, asking, purpose, run

from tersely.contracts import Capability, Request
from tersely.errors import BackendError
from tersely.prompt import messages_of
from tersely.sot.grammar import grammar
from tersely.sot.plan_sot import Sot
from tersely.sot.skeleton import Skeleton, acyclic
from tersely.sot.templates import CHAT, Templates
from tersely.sot.usable import verdict

LINE = re.compile(r"(\d+)\. (.*?)( \[hard\])?(?: <- ([\d, ]+))?")
BOTH: tuple[Capability, ...] = ("grammar", "repetition_penalty")
FREE = Sot(gate="off")


def said(rules: Any, node: Any, random: Random) -> str:
    """A text that a part of a grammar allows; characters from the edges of their classes."""
    from llguidance import gbnf_to_lark as nodes

    match node:
        case nodes.LiteralNode():
            return node.value.encode().decode("unicode_escape")
        case nodes.RegexNode():
            ends = re.findall(r"(.)-(.)|(.)", node.rx[1:-1])
            return random.choice([one for found in ends for one in found if one])
        case nodes.RuleRefNode():
            return said(rules, rules[node.name], random)
        case nodes.RepetitionNode():
            count = random.randint(node.min_times, node.max_times)
            return "".join(said(rules, node.node, random) for _ in range(count))
        case nodes.SequenceNode():
            return "".join(said(rules, part, random) for part in node.nodes)
        case _:
            return said(rules, random.choice(node.alternatives), random)


@given(st.integers(2, 12), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_what_follows_the_grammar_is_read_as_it_stands(
    most: int, graph: bool, hard: bool, random: Random
) -> None:
    from tersely.backends.gbnf import _parsed

    rules = _parsed(grammar(most, graph=graph, hard=hard))
    text = said(rules, rules["root"], random)
    lines = [LINE.fullmatch(line) for line in text.split("\n")]
    skeleton = Skeleton(most)
    skeleton.end(text)
    points = {point.number: point for point in skeleton.points}
    assert min(3, most) <= len(lines) <= most
    assert [int(line[1]) for line in lines if line] == [*range(1, len(lines) + 1)]
    for number, line in enumerate(lines, 1):
        assert line is not None
        if number in skeleton.left_out:
            assert repr(line[2]) in skeleton.left_out[number]
            continue
        point = points.pop(number)
        assert (point.text, point.hard) == (line[2], line[3] is not None)
        named = dict.fromkeys(map(int, line[4].split(", "))) if line[4] else {}
        assert point.needs == tuple(named) and all(need < number for need in named)
    assert not points
    if not skeleton.left_out:  # else those that build on a line build on the one it repeats
        assert acyclic(skeleton.points) == skeleton.points


@pytest.mark.parametrize("settings", [{}, {"graph": True}, {"graph": True, "hard": True}])
@pytest.mark.parametrize("most", [1, 2, 3, 10, 24])
def test_the_local_engine_takes_the_grammar(most: int, settings: dict[str, bool]) -> None:
    from llguidance import LLMatcher

    from tersely.backends.gbnf import lark

    found = LLMatcher.grammar_from_lark(lark(grammar(most, **settings)))
    assert LLMatcher.validate_grammar(found) == ""


def skeleton_of(backend: Writer) -> Request:
    return next(one for one in backend.requests if purpose(one) == "skeleton")


def test_a_backend_that_keeps_to_one_is_held_to_the_form() -> None:
    backend = Writer(capabilities=(*BOTH, "prefill"))
    answer = run(FREE, backend)
    asked = skeleton_of(backend)
    assert asked.grammar == grammar(10) and asked.repetition_penalty == 1.15
    assert messages_of(asked.prompt)[-1]["role"] == "user"  # the grammar says "1." itself
    assert CHAT.formed in asked.prompt.text and CHAT.outline[:40] not in asked.prompt.text
    points = [one for one in backend.requests if purpose(one).isdigit()]
    assert {(one.grammar, one.repetition_penalty) for one in points} == {("", 1.0)}
    assert answer.account.route == "skeleton" and len(answer.account.points) == 4


@pytest.mark.parametrize(
    ("capabilities", "plan", "held", "penalty"),
    [
        ((), FREE, False, 1.0),
        (("repetition_penalty",), FREE, False, 1.0),
        (("grammar",), FREE, True, 1.0),
        (BOTH, Sot(gate="off", grammar="off"), False, 1.0),
        (BOTH, Sot(gate="off", penalty=1), True, 1.0),
        (BOTH, Sot(gate="off", penalty=1.3), True, 1.3),
    ],
)
def test_what_a_backend_can_not_do_is_not_asked(
    capabilities: Any, plan: Sot, held: bool, penalty: float
) -> None:
    backend = Writer(capabilities=capabilities)
    assert run(plan, backend).account.route == "skeleton"
    asked = skeleton_of(backend)
    assert (bool(asked.grammar), asked.repetition_penalty) == (held, penalty)


@pytest.mark.parametrize("retryable", [False, True])
def test_a_backend_that_refuses_the_grammar_is_asked_without(retryable: bool) -> None:
    def skeleton(request: Request) -> Any:
        if request.grammar and len(backend.asked) == 1:
            return BackendError("no such grammar", retryable=retryable)
        return SKELETON

    backend = Writer({"skeleton": skeleton}, BOTH)
    answer = run(FREE, backend)
    first, second = [one for one in backend.requests if purpose(one) == "skeleton"]
    assert first.grammar and bool(second.grammar) == retryable
    assert (CHAT.outline.split("{")[0] in second.prompt.text) != retryable
    assert answer.account.route == "skeleton"
    told = "the skeleton was asked for again, without a grammar (no such grammar)"
    assert (told in answer.account.notes) != retryable


def test_a_penalty_of_the_callers_stays() -> None:
    backend = Writer(capabilities=BOTH)
    run(FREE, backend, asking(repetition_penalty=1.05))
    assert {one.repetition_penalty for one in backend.requests} == {1.05}


def test_a_form_of_the_callers_is_kept_to_in_one_piece() -> None:
    backend = Writer(capabilities=BOTH)
    answer = run(FREE, backend, asking(grammar='root ::= "yes" | "no"'))
    assert backend.asked == ["plain"]
    assert answer.account.notes == ("the form of the answer is bound",)


def test_no_more_lines_than_the_tokens_reach_for() -> None:
    backend = Writer(capabilities=BOTH)
    run(FREE, backend, asking(max_tokens=100))
    assert skeleton_of(backend).grammar == grammar(4)


def test_a_graph_and_words_of_ones_own() -> None:
    backend = Writer(skeleton="1. Sleep stages\n2. Costs of it <- 1", capabilities=BOTH)
    answer = run(Sot(gate="off", graph=True), backend)
    assert skeleton_of(backend).grammar == grammar(10, graph=True)
    assert "<- 1, 2" in skeleton_of(backend).prompt.text
    assert [point.heading for point in answer.account.points] == ["Sleep stages", "Costs of it"]
    own = Writer(capabilities=BOTH)
    run(Sot(gate="off", templates=Templates(outline="Now the points. All!")), own)
    assert "Now the points. All!" in skeleton_of(own).prompt.text


@pytest.mark.model
def test_a_small_model_writes_a_skeleton_of_use(smollm2: Path) -> None:
    from tersely.backends.local import LocalBackend

    backend = LocalBackend(model=str(smollm2))
    told = Writer(capabilities=BOTH)
    run(FREE, told, asking("What are the most effective ways to deal with stress?"))
    (made,) = backend.complete([skeleton_of(told)])
    skeleton = Skeleton()
    skeleton.end(made.text)
    assert made.finish_reason == "stop"
    assert len(skeleton.points) >= 3 and not skeleton.left_out
    assert verdict(skeleton) == ""
